"""MVP: MeanFlow at lambda = 0, the weighted sum otherwise, and its settings."""

import agents_setup as setup
import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import MVP
from flowpolicy.agents.cloning import Cloning, fmq_terms
from flowpolicy.data.chunk import ChunkView
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import LogitNormal, diagonal, mean_flow
from flowpolicy.refine import BestOfN

KEY = jax.random.key(3)


def _gradient(agent, data):
    loss = lambda flow: agent.cloning(KEY, flow, data, agent.count)[0]  # noqa: E731
    return jax.grad(loss)(agent.actor.model).net


def _mean_flow(net, key, sample):
    """MeanFlow's loss as its paper has it, noise at t = 1 (Geng et al. 2025, Eqs. 10 and 11).

    u(z, r, t), r <= t, points from data to noise: u - sg[v - (t - r)(v . grad_z u + d_t u)].
    """
    (key_term,) = jax.random.split(key, 1)
    key_noise, key_time = jax.random.split(key_term)
    e = jax.random.normal(key_noise, sample.action.shape)
    ours = LogitNormal()(key_time, jnp.zeros(()))
    r, t = 1 - ours.t, 1 - ours.r
    z, v = (1 - t) * sample.action + t * e, e - sample.action
    u = lambda z, t: -net(1 - t, 1 - r, z, sample.obs)  # noqa: E731
    here, moving = jax.jvp(u, (z, t), (v, jnp.ones_like(t)))
    target = jax.lax.stop_gradient(v - (t - r) * moving)
    return jnp.mean(sample.mask * (here - target) ** 2)


def test_without_the_constraint_it_is_mean_flow():
    """lambda = 0: the gradient of MeanFlow's loss in its own direction of time, to 1e-6."""
    data, agent = setup.batch(), setup.make("mvp", False, weight=0.0)
    with by_hand.double(agent, data) as (agent, data):
        keys = jax.random.split(KEY, setup.BATCH)
        wanted = jax.grad(
            lambda n: jnp.mean(jax.vmap(lambda k, s: _mean_flow(n, k, s))(keys, data))
        )(agent.actor.model.net)
        pairs = zip(jax.tree.leaves(_gradient(agent, data)), jax.tree.leaves(wanted), strict=True)
        for got, want in pairs:
            np.testing.assert_allclose(got, want, atol=1e-6)
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(wanted)) > 1e-2


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_loss_is_mean_flow_and_lambda_times_the_constraint(weight):
    """L_MF + lambda L_IVC, each with draws of its own; the constraint is flow matching."""
    data, agent = setup.batch(), setup.make("mvp", False, weight=weight)
    total, metrics = agent.cloning(KEY, agent.actor.model, data, agent.count)
    parts = float(metrics["flow/mean_flow"]), float(metrics["flow/diagonal"])
    assert total == pytest.approx(parts[0] + weight * parts[1], rel=1e-5)
    assert [term.residual for term in agent.cloning.terms] == [mean_flow, diagonal]


def test_another_objective_is_a_field():
    """A whole one, with its diagonal, at weight 0."""
    agent = setup.make("mvp", False, terms=fmq_terms(), weight=0.0)
    assert agent.cloning == Cloning(fmq_terms(), setup.SPEC.offline_updates)


def test_it_jumps_once():
    """Its flow is the flow map: one evaluation an action, u_{0,1} from noise."""
    agent = setup.make("mvp", False)
    flow, s = agent.flow(), jnp.ones(setup.OBS)
    z = jnp.linspace(-1.0, 1.0, flow.action)
    zero, one = jnp.zeros(()), jnp.ones(())
    np.testing.assert_allclose(
        flow.flow(zero, one, z, s), z + agent.actor.model.net(zero, one, z, s), atol=1e-6
    )
    assert flow.nfe(0.0) == 1


def test_the_settings():
    """lambda = 1; the rest is QC's, where the paper is silent."""
    mvp = MVP()
    assert (mvp.weight, mvp.view) == (1.0, ChunkView(5))
    assert (mvp.act, mvp.bootstrap) == (BestOfN(32), BestOfN(32))


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"tau": 0.0}, {"ensemble": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    """With the field and the value."""
    (field,) = wrong
    with pytest.raises(InvalidConfig, match=f"{field}.*{wrong[field]}"):
        MVP(**wrong)
