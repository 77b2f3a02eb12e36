"""Normalisers of observations. The replay keeps raw rows; nets and users meet through these.

They are fitted block by block: rows may be mapped files that are larger than memory.
"""

import dataclasses
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Observation, Rows

BLOCK_BYTES = 2**24
"""Bytes of the rows that are looked at together."""


class Normaliser(eqx.Module):
    """Subtracts ``shift`` and divides by ``scale``, leaf by leaf; empty trees do nothing."""

    shift: Observation
    scale: Observation

    def __call__(self, obs: Observation) -> Observation:
        """One observation, or a batch of them."""
        if self.shift is None:
            return obs
        return jax.tree.map(
            lambda x, m, s: (x - jnp.broadcast_to(m, x.shape)) / jnp.broadcast_to(s, x.shape),
            obs,
            self.shift,
            self.scale,
        )


@register("identity")
@dataclasses.dataclass(frozen=True)
class Identity:
    """Observations as they are (QC, FMQ)."""

    def fit(self, rows: Rows | None) -> Normaliser:
        """A normaliser that does nothing."""
        del rows
        return Normaliser(None, None)


@register("min_max")
@dataclasses.dataclass(frozen=True)
class MinMax:
    """The least and the greatest value over the offline rows become -1 and 1."""

    floor: float = 1e-3
    """Smallest half range divided by, in the observation's own units."""

    def fit(self, rows: Rows | None) -> Normaliser:
        """A normaliser fitted to ``rows``; the identity where there are none."""
        if rows is None:
            return Normaliser(None, None)
        _check_numbers("min_max", rows)
        low = jax.tree.map(lambda x: np.min(x, 0).astype(np.float64), rows.obs)
        high = jax.tree.map(lambda x: np.max(x, 0).astype(np.float64), rows.obs)
        half = jax.tree.map(lambda a, b: np.maximum((b - a) / 2.0, self.floor), low, high)
        middle = jax.tree.map(lambda a, b: (a + b) / 2.0, low, high)
        return Normaliser(_like(middle, rows), _like(half, rows))


@register("standardise")
@dataclasses.dataclass(frozen=True)
class Standardise:
    """Zero mean and unit standard deviation over the offline rows."""

    floor: float = 1e-3
    """Smallest standard deviation divided by, in the observation's own units."""

    def fit(self, rows: Rows | None) -> Normaliser:
        """A normaliser fitted to ``rows``; the identity where there are none."""
        if rows is None:
            return Normaliser(None, None)
        _check_numbers("standardise", rows)
        mean = jax.tree.map(_mean, rows.obs)
        variance = jax.tree.map(_mean_square, rows.obs, mean)
        std = jax.tree.map(lambda x: np.maximum(np.sqrt(x), self.floor), variance)
        return Normaliser(_like(mean, rows), _like(std, rows))


def _mean(column: np.ndarray) -> np.ndarray:
    """Over all rows, in float64."""
    total = sum(np.sum(block, 0, np.float64) for block in _blocks(column))
    return np.asarray(total / len(column))


def _mean_square(column: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Of the deviation from ``mean``, which is not the difference of two large sums."""
    total = sum(np.sum(np.square(block - mean), 0) for block in _blocks(column))
    return np.asarray(total / len(column))


def _blocks(column: np.ndarray) -> Iterator[np.ndarray]:
    """Neighbouring rows, about ``BLOCK_BYTES`` at a time; of mapped files no more is in memory."""
    row = max(column[:1].nbytes, 1)
    size = max(BLOCK_BYTES // row, 1)
    return (np.asarray(column[i : i + size]) for i in range(0, len(column), size))


def _check_numbers(name: str, rows: Rows) -> None:
    for leaf in jax.tree.leaves(rows.obs):
        if not np.issubdtype(leaf.dtype, np.floating):
            raise InvalidConfig(
                f"run.normaliser must be identity() for {leaf.dtype} observations, which their "
                f"encoder scales; got {name}"
            )


def _like(tree: Observation, rows: Rows) -> Observation:
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), tree, rows.obs)
