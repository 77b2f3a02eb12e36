"""Laws of the times (r, w, t), r <= w <= t, at which a flow map is trained.

A law is called as ``law(key, progress)``; ``progress`` in [0, 1] is the elapsed fraction of the
offline phase, which only laws that anneal look at.
"""

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Key, Scalar


class Times(NamedTuple):
    """A jump from ``r`` to ``t``, and a time ``w`` between them for terms that need one."""

    r: Scalar
    w: Scalar
    t: Scalar


@runtime_checkable
class TimeLaw(Protocol):
    """A distribution over times."""

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        ...


def _between(key: Key, r: Scalar, t: Scalar) -> Times:
    return Times(r, r + jax.random.uniform(key) * (t - r), t)


@register("on_diagonal")
@dataclasses.dataclass(frozen=True)
class OnDiagonal:
    """r = w = t ~ U[0, 1): flow matching."""

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        del progress
        t = jax.random.uniform(key)
        return Times(t, t, t)


@register("triangle")
@dataclasses.dataclass(frozen=True)
class Triangle:
    """(r, t) a sorted pair of U[0, 1), w ~ U[r, t]."""

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        del progress
        key_pair, key_between = jax.random.split(key)
        pair = jax.random.uniform(key_pair, (2,))
        return _between(key_between, pair.min(), pair.max())


@register("logit_normal")
@dataclasses.dataclass(frozen=True)
class LogitNormal:
    """(r, t) a sorted pair of sigmoid(N(mean, std)): MeanFlow's law (Geng et al. 2025).

    MeanFlow runs from data at 0 to noise at 1 with mean -0.4; in our direction that is +0.4.
    """

    mean: float = 0.4
    """Mean of the normal under the sigmoid."""
    std: float = 1.0
    """Its standard deviation."""

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        del progress
        key_pair, key_between = jax.random.split(key)
        pair = jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key_pair, (2,)))
        return _between(key_between, pair.min(), pair.max())


@register("diagonal_share")
@dataclasses.dataclass(frozen=True)
class DiagonalShare:
    """With probability ``share`` the law's r alone, the noisier end, r = w = t; otherwise the law.

    MeanFlow's JAX code keeps the larger of its two times, and there noise is at 1. The diagonal of
    Boffi et al. (2025) is a term of its own, with ``OnDiagonal``, and not this law.
    """

    law: TimeLaw = Triangle()
    """The law off the diagonal."""
    share: float = 0.75
    """Probability of the diagonal, in [0, 1] (0.75 in MeanFlow's JAX code)."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.share <= 1:
            raise InvalidConfig(f"diagonal_share.share must be in [0, 1], got {self.share}")

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        key_law, key_share = jax.random.split(key)
        r, w, t = self.law(key_law, progress)
        on = jax.random.bernoulli(key_share, self.share)
        return Times(r, jnp.where(on, r, w), jnp.where(on, r, t))


@register("curriculum")
@dataclasses.dataclass(frozen=True)
class Curriculum:
    """FMQ's curriculum: a sorted uniform pair, shrunk about its middle by p.

    p grows linearly from 0 (r = t) at ``start`` to 1 (the triangle) at ``end``. The released
    code has 5 000 and 50 000 of a million updates.
    """

    start: float = 0.005
    """Fraction of the offline phase at which r and t begin to part."""
    end: float = 0.05
    """Fraction at which they are a full pair."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.start < self.end <= 1:
            raise InvalidConfig(
                f"curriculum needs 0 <= start < end <= 1, got start={self.start}, end={self.end}"
            )

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        key_pair, key_between = jax.random.split(key)
        pair = jax.random.uniform(key_pair, (2,))
        p = jnp.clip((progress - self.start) / (self.end - self.start), 0.0, 1.0)
        half = 0.5 * p * jnp.abs(pair[1] - pair[0])
        middle = pair.mean()
        return _between(key_between, middle - half, middle + half)


@register("midpoint")
@dataclasses.dataclass(frozen=True)
class Midpoint:
    """The law's (r, t) with w in the middle: PSD-M of Boffi et al. 2025."""

    law: TimeLaw = Triangle()
    """The law of (r, t)."""

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        r, _, t = self.law(key, progress)
        return Times(r, 0.5 * (r + t), t)


@register("dyadic")
@dataclasses.dataclass(frozen=True)
class Dyadic:
    """Jumps of length 2^-k on the grid of their length, w in the middle (shortcut models)."""

    levels: int = 7
    """k is uniform over 0 .. levels - 1, at least 1; the finest grid has 2^levels cells."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.levels < 1:
            raise InvalidConfig(f"dyadic.levels must be at least 1, got {self.levels}")

    def __call__(self, key: Key, progress: Scalar) -> Times:
        """Draws one."""
        del progress
        key_level, key_cell = jax.random.split(key)
        cells = 2 ** jax.random.randint(key_level, (), 0, self.levels)
        cell = jax.random.randint(key_cell, (), 0, cells)
        length = 1.0 / cells.astype(float)
        r = cell.astype(float) * length
        return Times(r, r + 0.5 * length, r + length)
