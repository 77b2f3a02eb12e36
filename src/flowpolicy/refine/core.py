"""What every refiner is made of: a jump from noise, and Theorem 3.2's displacement."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow
from flowpolicy.types import Key, Observation, Scalar, Vector

Q = Callable[[Vector], Scalar]
MAX_CANDIDATES = 2**20
"""Actions that a refiner may rank at once, also where a stranger's configuration says how many."""


class Cost(NamedTuple):
    """What one action costs, in evaluations of nets for one sample.

    policy:    of the flow's net, the NFE; a jump may take several, one after the other
    critic:    values of the critic alone
    gradients: values of the critic with their gradient, each counted once
    depth:     the longest chain in which each one needs the one before
    """

    policy: int
    critic: int
    gradients: int
    depth: int


@runtime_checkable
class Refiner(Protocol):
    """Draws an action from a flow and improves it with a critic."""

    @property
    def nfe(self) -> int:
        """Jumps of the flow per action, whatever a jump takes; the critic's calls do not count."""
        ...

    def cost(self, flow: Flow) -> Cost:
        """All evaluations per action on ``flow``; ``policy`` is ``nfe`` where a jump takes one."""
        ...

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """One action in [-bound, bound]."""
        ...


def check_bound(name: str, bound: float) -> None:
    """Raises ``InvalidConfig`` where [-bound, bound] is no box."""
    if not bound > 0:
        raise InvalidConfig(f"{name}.bound must be above 0, got {bound}")


def check_radius(name: str, eta: float) -> None:
    """Raises ``InvalidConfig`` where ``eta`` is no radius."""
    if not 0 <= eta < math.inf:
        raise InvalidConfig(
            f"{name}.eta must be at least 0 and finite (FMQ's released code moves actions by 0.3), "
            f"got {eta}"
        )


def from_noise(key: Key, flow: Flow, s: Observation) -> Vector:
    """X_{0,1}(a0 | s), a0 ~ N(0, I): a sample of the policy in one jump, not clipped."""
    a0 = jax.random.normal(key, (flow.action,))
    return flow.flow(jnp.zeros(()), jnp.ones(()), a0, s)


def ranking(q: Q, candidates: Float[Array, "n d"]) -> Float[Array, "n"]:
    """Q of each candidate; -inf where it is not a number, which ``argmax`` takes for the greatest.

    Of candidates that are all NaN the first one is still chosen, and seen for what it is.
    """
    values = jax.vmap(q)(candidates)
    return jnp.where(jnp.isnan(values), -jnp.inf, values)


def normalise(g: Vector, kappa: float = 1e-8) -> Vector:
    """g / (|g|_2 + kappa): a direction of length 1, or 0 where ``g`` is 0."""
    # The square root's slope is infinite at 0, so the flat case takes a branch of its own.
    square = jnp.sum(jnp.square(g))
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return g / (norm + kappa)


def normalised_gradient(q: Q, a: Vector, kappa: float = 1e-8) -> Vector:
    """grad Q(a) / (|grad Q(a)|_2 + kappa): a direction of length 1, or 0 where Q is flat."""
    return normalise(jax.grad(q)(a), kappa)


def displace(q: Q, a: Vector, eta: float | Scalar) -> Vector:
    """a + eta * grad Q(a) / |grad Q(a)|: the best point of the eta-ball for linearised Q.

    FMQ Theorem 3.2 at r = 0, where the bound on the velocity is a bound on the action.
    """
    return a + eta * normalised_gradient(q, a)
