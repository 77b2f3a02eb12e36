"""Theorem 3.2 as a refiner."""

import dataclasses

import jax.numpy as jnp

from flowpolicy.flows import Flow
from flowpolicy.parts import register
from flowpolicy.refine.best_of_n import BestOfN, OneStep
from flowpolicy.refine.core import Cost, Q, check_radius, displace
from flowpolicy.types import Key, Observation, Vector


@register("trust_region")
@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """A drawn action moved by eta along the normalised critic gradient (FMQ Theorem 3.2).

    The displacement is the closed-form optimum for linearised Q in the ball of radius eta; the
    clip to the box comes after it, as in the released code, and is no part of the theorem.
    """

    eta: float = 0.3
    """Radius of the ball, in action units (L2 norm over the whole chunk), at least 0 and
    finite."""
    start: OneStep | BestOfN = OneStep()
    """How the action is drawn; its bound is the box."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_radius("trust_region", self.eta)

    @property
    def nfe(self) -> int:
        """That of the draw."""
        return self.start.nfe

    def cost(self, flow: Flow) -> Cost:
        """That of the draw, and one gradient."""
        start = self.start.cost(flow)
        return start._replace(gradients=start.gradients + 1, depth=start.depth + 1)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The displaced action."""
        a = displace(q, self.start(key, flow, q, s), self.eta)
        return jnp.clip(a, -self.start.bound, self.start.bound)
