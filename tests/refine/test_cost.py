"""What a refiner says it costs is what a flow and a critic that count their calls have seen."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal

from flowpolicy.refine import (
    QGBS,
    BestOfN,
    Cost,
    OneStep,
    QGBSKeepBest,
    Refiner,
    TrustRegion,
    TrustRegionBox,
)

REFINERS = [
    OneStep(),
    BestOfN(7),
    TrustRegion(),
    TrustRegion(start=BestOfN(3)),
    TrustRegionBox(start=BestOfN(3)),
    QGBS(steps=0, beam=5),
    QGBS(),
    QGBS(steps=2, beam=2, branches=3),
    QGBSKeepBest(steps=0, beam=3),
    QGBSKeepBest(steps=2, beam=3, branches=2),
]
named = pytest.mark.parametrize("refiner", REFINERS, ids=str)


class Nets:
    """A flow and a critic whose calls are counted by name, one for each sample."""

    action = 2

    def nfe(self, r):
        return 1

    def __init__(self):
        self.calls = collections.Counter()

        @jax.custom_vjp
        def q(a):
            return self._seen("critic", -jnp.sum(jnp.square(a)))

        q.defvjp(
            lambda a: (self._seen("gradients", -jnp.sum(jnp.square(a))), a),
            lambda a, ct: (-2.0 * ct * a,),
        )
        self.q = q

    def flow(self, r, t, a, s):
        return self._seen("policy", 0.5 * a)

    def _seen(self, name, value):
        def count(x):
            self.calls[name] += 1
            return np.asarray(x)

        shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return jax.pure_callback(count, shape, value, vmap_method="sequential")


class Chains:
    """A flow of ``steps`` evaluations a jump and a critic that mark each one, for ``depths``."""

    action = 2

    def __init__(self, steps):
        self.steps = steps

    def nfe(self, r):
        return self.steps

    def flow(self, r, t, a, s):
        for _ in range(self.steps):
            a = _evaluation(a)
        return a

    def q(self, a):
        return _value(a)


def _evaluation(a):
    return jax.lax.reduce_precision(0.5 * a, 8, 22)


@jax.custom_vjp
def _value(a):
    return jax.lax.reduce_precision(-0.5 * jnp.sum(jnp.square(a)), 8, 21)


def _forward(a):
    value = _value(a)
    return value, (a, value)


# The gradient comes after the marked call, as in a net whose activations it needs.
_value.defvjp(_forward, lambda kept, ct: (-ct * kept[0] + 0.0 * kept[1],))


def _depths(jaxpr, given):
    """Marked operations on the longest chain into each output, given those of the inputs."""
    known = dict(zip(jaxpr.invars, given, strict=True))
    get = lambda v: 0 if isinstance(v, Literal) else known.get(v, 0)  # noqa: E731
    for equation in jaxpr.eqns:
        depths = [get(v) for v in equation.invars]
        inner = next(
            (v for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if (v := equation.params.get(k))), None
        )
        if inner is not None:
            outs = _depths(getattr(inner, "jaxpr", inner), depths)
        else:
            mark = equation.primitive.name == "reduce_precision"
            outs = [max(depths, default=0) + mark] * len(equation.outvars)
        known.update(zip(equation.outvars, outs, strict=True))
    return [get(v) for v in jaxpr.outvars]


def _chain(refiner, nets):
    program = jax.make_jaxpr(lambda k: refiner(k, nets, nets.q, jnp.zeros(2)))(jax.random.key(0))
    (depth,) = _depths(program.jaxpr, [0])
    return depth


@named
def test_calls_are_counted(key, refiner):
    """Jumps, values, gradients; ``nfe`` is the jumps."""
    nets = Nets()
    refiner(key, nets, nets.q, jnp.zeros(2)).block_until_ready()
    cost = refiner.cost(nets)
    seen = nets.calls["policy"], nets.calls["critic"], nets.calls["gradients"]
    assert seen == (cost.policy, cost.critic, cost.gradients)
    assert refiner.nfe == cost.policy
    assert isinstance(refiner, Refiner)


@named
def test_the_depth_is_the_longest_chain_of_the_program(refiner):
    """By a walk through the traced program, in which every call of a net is marked.

    The gradient that leads uphill waits for no value: the chain runs through jumps, rankings and
    steps. A value that decides nothing (the best of one) is traced all the same.
    """
    for nets in (Chains(1), Chains(3)):
        assert _chain(refiner, nets) == refiner.cost(nets).depth


class Later:
    """A flow whose jumps take one evaluation from noise and ten from later times, as FQL's."""

    action = 2

    def nfe(self, r):
        return 10 if r > 0 else 1

    def flow(self, r, t, a, s):
        return a


def test_a_jump_from_a_later_time_may_take_more():
    """QGBS starts 4 beams from noise and completes 16 candidates from t'; the others only start.
    A chain is a jump, its ranking, the second jump, a ranking, a step, a ranking."""
    assert QGBS().cost(Chains(1)) == Cost(policy=20, critic=20, gradients=4, depth=5)
    assert QGBS().cost(Chains(10)) == Cost(policy=200, critic=20, gradients=4, depth=5 + 18)
    assert QGBS().cost(Later()) == Cost(policy=4 + 160, critic=20, gradients=4, depth=5 + 9)
    assert QGBSKeepBest().cost(Later()) == Cost(policy=4 + 160, critic=32, gradients=4, depth=6 + 9)
    for refiner in (OneStep(), BestOfN(7), TrustRegion(start=BestOfN(7)), QGBS(steps=0)):
        assert refiner.cost(Later()) == refiner.cost(Chains(1))
