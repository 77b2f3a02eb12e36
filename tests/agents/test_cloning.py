"""The objectives as choices of terms: which equation at which times, and that agents take them."""

import agents_setup as setup
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.agents import cloning
from flowpolicy.flows import (
    Curriculum,
    Dyadic,
    FlowMap,
    LogitNormal,
    Midpoint,
    OnDiagonal,
    Path,
    Times,
    Triangle,
    diagonal,
    eulerian,
    lagrangian,
    mean_flow,
    semigroup,
    shortcut,
)

OBJECTIVES = {
    cloning.mean_flow_terms: (mean_flow, LogitNormal()),
    cloning.esd_terms: (eulerian, Triangle()),
    cloning.lsd_terms: (lagrangian, Triangle()),
    cloning.psd_terms: (semigroup, Triangle()),
    cloning.psd_midpoint_terms: (semigroup, Midpoint(Triangle())),
    cloning.shortcut_terms: (shortcut, Dyadic(7)),
}
each = pytest.mark.parametrize("terms", OBJECTIVES, ids=lambda f: f.__name__)


@each
def test_an_objective_is_the_diagonal_and_one_equation(terms):
    """Flow matching and the equation of the paper at its times; written and read as text."""
    on, off = terms()
    assert (on.residual, on.times) == (diagonal, OnDiagonal())
    assert (off.residual, off.times) == OBJECTIVES[terms]
    assert on.weight == off.weight == 1.0
    assert parts.decode(parts.encode(terms())) == terms() == parts.parse(parts.describe(terms()))


def test_the_law_of_times_is_a_choice():
    """FMQ's curriculum under any equation; the midpoint is taken of what the law draws."""
    law = Curriculum(0.0, 0.5)
    for terms in (cloning.mean_flow_terms, cloning.esd_terms, cloning.lsd_terms, cloning.psd_terms):
        assert terms(law)[1].times == law
    assert cloning.psd_midpoint_terms(law)[1].times == Midpoint(law)
    assert cloning.shortcut_terms(3)[1].times == Dyadic(3)


@each
def test_fmq_takes_any(terms):
    """One offline update keeps the agent's structure and tells each term by name."""
    agent, data = setup.make("fmq", online=False, terms=terms()), setup.batch()
    after, metrics = jax.eval_shape(agent.update, jax.random.key(0), data)
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert {"flow/diagonal", f"flow/{OBJECTIVES[terms][0].__name__}"} <= set(metrics)


def _exact(r, t, a, s):
    """u_{r,t} of the flow to the single action 0.5: X_{r,t} runs straight there."""
    return (0.5 - a) / (1.0 - r)


@each
def test_the_true_map_of_a_single_action_leaves_nothing_to_learn(terms):
    """All equations hold without expectation where every path ends in one action: residual 0.

    A map of another action leaves something.
    """
    path = Path(jnp.array([0.7, -1.1]), jnp.full(2, 0.5), jnp.zeros(1))
    _, off = terms()
    for i in range(5):
        times = Times(*(jnp.minimum(x, 0.97) for x in off.times(jax.random.key(i), jnp.ones(()))))
        right, wrong = FlowMap(_exact, 2), FlowMap(lambda r, t, a, s: _exact(r, t, a, s) + t - r, 2)
        np.testing.assert_allclose(off.residual(right, right, times, path), 0.0, atol=2e-5)
        if times.t - times.r > 0.1:
            assert jnp.abs(off.residual(wrong, wrong, times, path)).max() > 1e-3
