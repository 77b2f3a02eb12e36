"""The flow map X_{r,t}: one network that jumps from any time to any other of the flow."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import equinox as eqx

from flowpolicy.types import Observation, Scalar, Vector


@runtime_checkable
class Flow(Protocol):
    """What refiners ask of a flow: its action size, X_{r,t}(a | s), and what that costs."""

    @property
    def action(self) -> int:
        """D, size of the flattened chunk."""
        ...

    def nfe(self, r: float) -> int:
        """Evaluations of the net that one call of ``flow`` from time ``r`` on takes."""
        ...

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``."""
        ...


class FlowMap(eqx.Module):
    """A flow map around any net ``u(r, t, a, s)`` (Boffi et al. 2025; FMQ Definition 1).

    X_{r,t}(a | s) = a + (t - r) u_{r,t}(a | s): the identity at r = t holds by construction.
    Times lie in [0, 1], 0 is noise and 1 is the action.
    """

    net: Callable[[Scalar, Scalar, Vector, Observation], Vector]
    action: int = eqx.field(static=True)

    def nfe(self, r: float) -> int:
        """1, from any time."""
        del r
        return 1

    def average_velocity(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """u_{r,t}(a | s), the mean of the velocity over the path from r to t."""
        return self.net(r, t, a, s)

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """X_{r,t}(a | s)."""
        return a + (t - r) * self.net(r, t, a, s)

    def velocity(self, t: Scalar, a: Vector, s: Observation) -> Vector:
        """v_t(a | s) = u_{t,t}(a | s), the diagonal: the velocity of the underlying flow."""
        return self.net(t, t, a, s)


@runtime_checkable
class Teacher(Protocol):
    """What the terms of a loss ask of a teacher; every ``FlowMap`` is one."""

    def average_velocity(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """u_{r,t}(a | s)."""
        ...

    def velocity(self, t: Scalar, a: Vector, s: Observation) -> Vector:
        """v_t(a | s)."""
        ...
