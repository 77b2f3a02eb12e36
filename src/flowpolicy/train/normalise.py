"""Normalisers of observations. The replay keeps raw rows; nets and users meet through these."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Observation, Rows


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
        mean = jax.tree.map(lambda x: jnp.asarray(np.mean(x, 0, np.float64), x.dtype), rows.obs)
        std = jax.tree.map(
            lambda x: jnp.asarray(np.maximum(np.std(x, 0, dtype=np.float64), self.floor), x.dtype),
            rows.obs,
        )
        return Normaliser(mean, std)


def _check_numbers(name: str, rows: Rows) -> None:
    for leaf in jax.tree.leaves(rows.obs):
        if not np.issubdtype(leaf.dtype, np.floating):
            raise InvalidConfig(
                f"run.normaliser must be identity() for {leaf.dtype} observations, which their "
                f"encoder scales; got {name}"
            )


def _like(tree: Observation, rows: Rows) -> Observation:
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), tree, rows.obs)
