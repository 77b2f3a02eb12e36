"""The one-step actor that agents share: distilled from a flow's Euler steps, it acts in its place
(Park et al. 2025)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flowpolicy.flows import Flow, Integrated, linear
from flowpolicy.types import Observation, Scalar, Vector

sg = jax.lax.stop_gradient


class OneStepFlow(eqx.Module):
    """mu as a flow: from noise its straight line, from later times the behaviour flow.

    mu has no time and cannot go on from a renoised action. A refiner that asks for one (``qgbs``)
    is given the behaviour flow's Euler steps from there; all other refiners start from noise.
    """

    actor: Any
    behaviour: Integrated

    @property
    def action(self) -> int:
        """Size of the action."""
        return self.behaviour.action

    def nfe(self, r: float) -> int:
        """1 from noise, the behaviour flow's from later times."""
        return self.behaviour.nfe(r) if r > 0 else 1

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``."""
        # A time that the caller's vmap does not batch: one branch runs, not both.
        return jax.lax.cond(
            r > 0,
            lambda: self.behaviour.flow(r, t, a, s),
            lambda: linear(t, a, self.actor(a, s)),
        )


def distillation(actor: Any, teacher: Flow, z: Vector, s: Observation) -> tuple[Scalar, Vector]:
    """mean (mu(s, z) - sg[clip(X_{0,1}(z | s))])^2 of one sample, and mu(s, z), not clipped."""
    target = jnp.clip(teacher.flow(jnp.zeros(()), jnp.ones(()), z, s), -1.0, 1.0)
    action = actor(z, s)
    return jnp.mean(jnp.square(action - sg(target))), action
