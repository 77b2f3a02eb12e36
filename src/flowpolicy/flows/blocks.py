"""A flow cut into a cascade of Euler blocks, and what a proximal step of one block is made of.

The proximal (Jordan-Kinderlehrer-Otto) step of an energy F from a law p is the law q of least

    F(q) + W2(q, p)^2 / (2 eta),        F(q) = -E_q[Q] - alpha H(q).

Where a map T makes q of samples a of a law p0, the entropy is H(p0) + E log |det dT/da|, and any
map T' that makes p of the same samples bounds W2(q, p)^2 by E |T(a) - T'(a)|^2. ``proximity`` and
the two volumes are these terms for one sample.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows.flow_map import FlowMap
from flowpolicy.flows.sample import euler
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Vector

Map = Callable[[Vector], Vector]
"""What a block does in one state: action in, action out."""

Value = Callable[[Vector], Scalar]
"""Q as a function of the action alone."""

Iterate = Callable[[Map, Vector], Vector]
"""The previous iterate, which a block stays near: ``(T as it was, a)`` to T'(a)."""

Judge = Callable[[Value, Vector, Vector], Scalar]
"""What a block is worth: ``(Q, T(a), the finished action of its path)``."""

Volume = Callable[[Key, Map, Vector], Scalar]
"""log |det dT/da| of a map T at ``a``, or an estimate of it: ``(key, T, a)``."""


class Blocks(eqx.Module):
    """K Euler blocks, the k-th T_k(a | s) = a + v_k(a, s) / K with v_k the velocity at t = k / K.

    Every leaf of ``each`` has the blocks on its first axis. As a flow, a path that begins or ends
    within a block takes that part of its step; times are 0 for noise and 1 for the action.
    """

    each: FlowMap
    count: int = eqx.field(static=True)

    @property
    def action(self) -> int:
        """Size of the action."""
        return self.each.action

    @property
    def times(self) -> Float[Array, "blocks"]:
        """Where the blocks begin: 0, 1 / K, ..., 1 - 1 / K."""
        return jnp.arange(0.0, self.count) / self.count

    def nfe(self, r: float) -> int:
        """Every block is evaluated, however short the rest of the way is."""
        del r
        return self.count

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``, for r <= t."""

        def step(a: Vector, block: tuple[FlowMap, Scalar]) -> tuple[Vector, None]:
            flow, begin = block
            dt = jnp.clip(jnp.minimum(t, begin + 1.0 / self.count) - jnp.maximum(r, begin), 0.0)
            return euler(lambda t, x: flow.velocity(t, x, s), begin, dt, a), None

        return jax.lax.scan(step, a, (self.each, self.times))[0]

    def path(self, a: Vector, s: Observation) -> Float[Array, "points d"]:
        """What goes into each block from noise ``a``, and last the action: K + 1 points."""

        def step(a: Vector, block: tuple[FlowMap, Scalar]) -> tuple[Vector, Vector]:
            end = self.block(*block, s)(a)
            return end, end

        return jnp.concatenate([a[None], jax.lax.scan(step, a, (self.each, self.times))[1]])

    def block(self, flow: FlowMap, begin: Scalar, s: Observation) -> Map:
        """T_k( . | s) of one entry of ``each`` and of ``times``."""

        dt = jnp.ones_like(begin) / self.count
        return lambda a: euler(lambda t, x: flow.velocity(t, x, s), begin, dt, a)


def cut(flow: FlowMap, count: int) -> Blocks:
    """``flow`` as ``count`` Euler blocks, each with a copy of its net: its own integration."""
    if count < 2:
        raise InvalidConfig(f"a flow is cut into at least 2 blocks, got {count}")
    return Blocks(jax.tree.map(lambda leaf: jnp.stack([leaf] * count), flow), count)


def proximity(moved: Vector, anchor: Vector, eta: float) -> Scalar:
    """|T(a) - T'(a)|^2 / (2 eta): a bound on the term of W2, tight where T after T' is optimal.

    Summed over entries, as W2 is. ``anchor``, T'(a), carries no gradient.
    """
    return jnp.sum(jnp.square(moved - jax.lax.stop_gradient(anchor))) / (2.0 * eta)


@register("previous_map")
def previous_map(old: Map, a: Vector) -> Vector:
    """T_k(a) as it was: a trust region around the block itself."""
    return old(a)


@register("previous_law")
def previous_law(old: Map, a: Vector) -> Vector:
    """a itself: the block's own step is short, its law near the one before it in the cascade."""
    del old
    return a


@register("finished_action")
def finished_action(q: Value, moved: Vector, end: Vector) -> Scalar:
    """Q of the action that the cascade makes of ``moved``, as if the rest of it were a shift."""
    return q(moved + jax.lax.stop_gradient(end - moved))


@register("own_action")
def own_action(q: Value, moved: Vector, end: Vector) -> Scalar:
    """Q of ``moved`` as it stands, which is no finished action but after the last block."""
    del end
    return q(moved)


@register("exact_volume")
def exact_volume(key: Key, block: Map, a: Vector) -> Scalar:
    """log |det dT/da| from the whole Jacobian, D derivatives of T: for actions of few entries."""
    del key
    return jnp.linalg.slogdet(jax.jacfwd(block)(a))[1]


@register("probed_volume")
@dataclasses.dataclass(frozen=True)
class probed_volume:
    """An estimate by one random vector: ``terms`` derivatives of T, whatever the action's size.

    With J = dT/da - I and signs e, sum_n (-1)^(n + 1) e' J^n e / n, whose mean is the series of
    log det(I + J) cut after ``terms`` (Hutchinson 1990). Of K blocks, block k of a flow onto a law
    much narrower than its noise has J near -1 / (K - k): small in the first blocks, -1/2 and -1 in
    the last two, where few terms say far too little. There ``exact_volume``, or more terms.
    """

    terms: int = 2
    """Of the series, at least 1, the trace; the rest is of the size of J^(terms + 1)."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.terms < 1:
            raise InvalidConfig(f"probed_volume.terms must be at least 1, got {self.terms}")

    def __call__(self, key: Key, block: Map, a: Vector) -> Scalar:
        """The estimate."""
        e = jax.random.rademacher(key, a.shape, a.dtype)
        _, push = jax.linearize(block, a)

        def term(x: Vector, n: Scalar) -> tuple[Vector, Scalar]:
            x = x - push(x)  # -J x, so that signs alternate by themselves
            return x, -jnp.dot(e, x) / n

        return jnp.sum(jax.lax.scan(term, e, jnp.arange(1.0, self.terms + 1.0, dtype=a.dtype))[1])
