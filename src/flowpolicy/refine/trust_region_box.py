"""Theorem 3.2 with the action box in the problem, not applied after it.

    maximise g . (a' - a)   subject to   |a' - a|_2 <= eta   and   |a'|_inf <= bound.

The theorem's displacement is the answer without the box; clipping it afterwards wastes the part of
the radius that was spent on walls. By the KKT conditions, with the ball's multiplier 1 / s, every
entry goes uphill by |g_i| s or as far as its wall. The length of that displacement grows with s, so
a single number is left to find, and it is found exactly: the length at which each wall is reached
says which walls are reached inside the ball; the other entries share what is left of eta^2.
"""

import dataclasses

import jax
import jax.numpy as jnp

from flowpolicy.flows import Flow
from flowpolicy.parts import register
from flowpolicy.refine.best_of_n import BestOfN, OneStep
from flowpolicy.refine.core import Cost, Q, check_radius
from flowpolicy.types import Key, Observation, Scalar, Vector


def _multiplier(size: Vector, room: Vector, eta: float | Scalar) -> Scalar:
    """The s at which sum_i min(size_i s, room_i)^2 = eta^2, or all walls are reached.

    ``size`` >= 0 is how fast an entry goes, ``room`` >= 0 how far its wall is.
    """
    room = jnp.where(size > 0, room, 0.0)
    wall = room / jnp.where(size > 0, size, 1.0)
    square = jax.vmap(lambda s: jnp.sum(jnp.square(jnp.minimum(size * s, room))))(wall)
    reached = square < eta**2
    left = jnp.maximum(eta**2 - jnp.sum(jnp.where(reached, jnp.square(room), 0.0)), 0.0)
    rest = jnp.sum(jnp.where(reached, 0.0, jnp.square(size)))
    return jnp.where(rest > 0, jnp.sqrt(left / jnp.where(rest > 0, rest, 1.0)), jnp.max(wall))


def _go(g: Vector, a: Vector, s: Scalar, bound: float) -> Vector:
    room = bound - a * jnp.sign(g)
    # The sum may round to the wrong side of the wall.
    return jnp.clip(a + jnp.sign(g) * jnp.minimum(jnp.abs(g) * s, room), -bound, bound)


def box_optimum(g: Vector, a: Vector, eta: float | Scalar, bound: float) -> Vector:
    """The point of the eta-ball about ``a``, within the box, where g . a' is greatest.

    An ``a`` outside the box is first projected into it. Where g_i is 0 the entry stays.
    """
    a = jnp.clip(a, -bound, bound)
    greatest = jnp.max(jnp.abs(g))
    g = g / jnp.where(greatest > 0, greatest, 1.0)
    return _go(g, a, _multiplier(jnp.abs(g), bound - a * jnp.sign(g), eta), bound)


def nearest(y: Vector, a: Vector, eta: float | Scalar, bound: float) -> Vector:
    """The point of the eta-ball about ``a``, within the box, that is nearest to ``y``.

    The same search: the nearest point lies from ``a`` towards ``y``, entry by entry, as far as s
    times the way or the wall, and never past ``y`` (s <= 1). ``a`` must lie in the box.
    """
    way = y - a
    s = _multiplier(jnp.abs(way), bound - a * jnp.sign(way), eta)
    return _go(way, a, jnp.minimum(s, 1.0), bound)


@register("trust_region_box")
@dataclasses.dataclass(frozen=True)
class TrustRegionBox:
    """A drawn action moved to the best point of ball and box for linearised Q.

    A control of ours, beside ``trust_region``: the same point where no wall is nearer than eta,
    and by first order never worse than the clipped one elsewhere.
    """

    eta: float = 0.3
    """Radius of the ball, in action units (L2 norm over the whole chunk), at least 0 and
    finite."""
    start: OneStep | BestOfN = OneStep()
    """How the action is drawn; its bound is the box."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_radius("trust_region_box", self.eta)

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
        a = self.start(key, flow, q, s)
        return box_optimum(jax.grad(q)(a), a, self.eta, self.start.bound)
