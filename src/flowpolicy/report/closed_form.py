"""Theorem 3.2 against the critic itself: what a step of length eta gains, and what could be gained.

Every function sees one state through ``q``, the critic as a function of the action, and one action
``a`` of the box; the caller vmaps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.flows import FlowMap, heun, integrate
from flowpolicy.refine import box_optimum, displace, nearest, normalise
from flowpolicy.refine.core import Q
from flowpolicy.types import Key, Observation, Scalar, Vector

BOX, NO_BOX = 1.0, 1e3
STEPS, RESTARTS, TIGHT = 60, 6, 0.01
INTEGRATION = 32


Path = tuple[Vector, Scalar, Vector]  # where, the greatest value so far, where that was


class Optimum(NamedTuple):
    """The greatest gain that was found in ball and box, and how far it may be trusted.

    gain:  Q there less Q at the centre
    gap:   g . (v - x), v the best point of the set for Q linearised at x; no point of the set gains
           more than ``gain + gap`` if Q is concave there, and it is 0 where x is stationary
    agree: share of the restarts that ended within a hundredth of the greatest gain
    """

    gain: Scalar
    gap: Scalar
    agree: Scalar


class AtRadius(NamedTuple):
    """One state at one eta. Gains are changes of Q from the centre, predictions those of its slope.

    predicted, theorem: eta |grad Q|, and what Theorem 3.2's displacement gains
    clipped:            what is left of it after the clip to the box
    box_predicted, box: the same for ``trust_region_box``
    ball, ball_in_box:  numerical optima of Q in the ball, and in ball and box
    """

    predicted: Scalar
    theorem: Scalar
    clipped: Scalar
    box_predicted: Scalar
    box: Scalar
    ball: Optimum
    ball_in_box: Optimum


class Ends(NamedTuple):
    """One jump against the integrated flow, from the same noise.

    apart: |jump - integrated|; error: |integrated - integrated in half as many steps|
    q:     Q of the jump less Q of the integrated end, both clipped to the box
    integrated: that end, not clipped
    """

    integrated: Vector
    apart: Scalar
    error: Scalar
    q: Scalar


def at_radius(key: Key, q: Q, a: Vector, eta: Scalar) -> AtRadius:
    """All that is compared at ``eta``, from the centre ``a``."""
    value, g = jax.value_and_grad(q)(a)
    key_ball, key_box = jax.random.split(key)
    step, boxed = displace(q, a, eta), box_optimum(g, a, eta, BOX)
    return AtRadius(
        predicted=eta * jnp.sqrt(jnp.sum(jnp.square(g))),
        theorem=q(step) - value,
        clipped=q(jnp.clip(step, -BOX, BOX)) - value,
        box_predicted=g @ (boxed - a),
        box=q(boxed) - value,
        ball=climb(key_ball, q, a, eta, NO_BOX),
        ball_in_box=climb(key_box, q, a, eta, BOX),
    )


def climb(key: Key, q: Q, a: Vector, eta: Scalar, bound: float) -> Optimum:
    """Projected gradient ascent in the eta-ball about ``a`` and the box, from several starts.

    The first start is ``a``, the second the linearised optimum, the others random. Steps along the
    normalised gradient shrink geometrically from eta / 2 to eta / 2000; the best point of every
    path counts.
    """
    ways = jax.random.normal(key, (RESTARTS - 2, a.shape[0]))
    lengths = eta * jnp.linspace(1.0, 0.3, RESTARTS - 2)
    random = jax.vmap(lambda w, r: nearest(a + r * normalise(w), a, eta, bound))(ways, lengths)
    linear = box_optimum(jax.grad(q)(a), a, eta, bound)
    starts = jnp.concatenate([jnp.stack([a, linear]), random])
    values, points = jax.vmap(lambda x: _ascend(q, x, a, eta, bound))(starts)
    best = jnp.argmax(values)
    x = points[best]
    g = jax.grad(q)(x)
    gain = values[best] - q(a)
    agree = jnp.mean((values >= values[best] - TIGHT * gain).astype(a.dtype))
    return Optimum(gain, g @ (box_optimum(g, a, eta, bound) - x), agree)


def _ascend(q: Q, start: Vector, a: Vector, eta: Scalar, bound: float) -> tuple[Scalar, Vector]:
    """The greatest value on one path, and where it was."""

    def step(state: Path, length: Scalar) -> tuple[Path, None]:
        x, most, best = state
        value, g = jax.value_and_grad(q)(x)
        most, best = jnp.maximum(most, value), jnp.where(value > most, x, best)
        return (nearest(x + length * normalise(g), a, eta, bound), most, best), None

    lengths = 0.5 * eta * jnp.logspace(0.0, -3.0, STEPS)
    (x, most, best), _ = jax.lax.scan(step, (start, q(start), start), lengths)
    last = q(x)
    return jnp.maximum(most, last), jnp.where(last > most, x, best)


def ends(q: Q, flow: FlowMap, a0: Vector, s: Observation) -> Ends:
    """The jump from 0 to 1 beside ``INTEGRATION`` Heun steps of the diagonal."""
    jumped = flow.flow(jnp.zeros(()), jnp.ones(()), a0, s)
    fine = integrate(flow, INTEGRATION, a0, s, method=heun)
    coarse = integrate(flow, INTEGRATION // 2, a0, s, method=heun)
    clip = lambda a: jnp.clip(a, -BOX, BOX)  # noqa: E731
    return Ends(
        integrated=fine,
        apart=_length(jumped - fine),
        error=_length(fine - coarse),
        q=q(clip(jumped)) - q(clip(fine)),
    )


def _length(a: Float[Array, "d"]) -> Scalar:
    return jnp.sqrt(jnp.sum(jnp.square(a)))
