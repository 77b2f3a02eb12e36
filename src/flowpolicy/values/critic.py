"""An ensemble of critics as one vmapped module, and the named ways to make one value of it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Vector

Aggregate = Callable[[Float[Array, "k"]], Scalar]


class Critic(eqx.Module):
    """K independently initialised nets q(s, a), stacked along the first axis of every leaf."""

    members: Any

    @classmethod
    def create(cls, key: Key, size: int, init: Callable[[Key], Any]) -> "Critic":
        """Builds ``size`` members with ``init``."""
        if size < 1:
            raise InvalidConfig(f"a critic needs at least 1 member, got {size}")
        return cls(jax.vmap(init)(jax.random.split(key, size)))

    def __call__(self, s: Observation, a: Vector) -> Float[Array, "k"]:
        """All members' values of one state and action."""
        # A loop, not a vmap: plain matrix products are faster on CPU than batched ones.
        size = jax.tree.leaves(self.members)[0].shape[0]
        members = [jax.tree.map(lambda leaf, i=i: leaf[i], self.members) for i in range(size)]
        return jnp.stack([net(s, a) for net in members])


@register("mean")
def mean(q: Float[Array, "k"]) -> Scalar:
    """The members' mean (QC)."""
    return jnp.mean(q)


@register("minimum")
def minimum(q: Float[Array, "k"]) -> Scalar:
    """The members' minimum: clipped double Q (Fujimoto et al. 2018) for K = 2."""
    return jnp.min(q)


@register("member")
@dataclasses.dataclass(frozen=True)
class member:
    """One member alone; FMQ's Algorithm 1 takes its gradient from Q_phi1, index 0."""

    index: int = 0
    """Which, from 0."""

    def __call__(self, q: Float[Array, "k"]) -> Scalar:
        """The value."""
        if not 0 <= self.index < q.shape[0]:  # JAX would clamp it to the nearest member
            raise InvalidConfig(f"member.index must be in [0, {q.shape[0]}), got {self.index}")
        return q[self.index]


@register("pessimistic")
@dataclasses.dataclass(frozen=True)
class pessimistic:
    """mean - rho * standard deviation; rho = 1 with K = 2 is the minimum."""

    rho: float = 0.5
    """How many standard deviations, at least 0."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.rho < math.inf:
            raise InvalidConfig(
                f"pessimistic.rho must be at least 0 and finite (QAM: 0 and 0.5), got {self.rho}"
            )

    def __call__(self, q: Float[Array, "k"]) -> Scalar:
        """The value."""
        return jnp.mean(q) - self.rho * spread(q)


def spread(q: Float[Array, "k"]) -> Scalar:
    """The members' standard deviation (divided by K): their disagreement.

    The gradient is 0, not infinite, where all members agree.
    """
    variance = jnp.var(q)
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
