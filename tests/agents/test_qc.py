"""QC against numpy, and what it is with one candidate."""

import agents_setup as setup
import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import QC, bfn, bfn_n
from flowpolicy.data.chunk import ChunkView, NStepView, n_step_returns
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Integrated
from flowpolicy.refine import BestOfN
from flowpolicy.values import mean, minimum

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION


@pytest.mark.parametrize("aggregate", ["mean", "minimum"])
def test_an_update_is_the_equations(aggregate):
    """Both losses of one update to 1e-6: best-of-3 of 3 Euler steps in the target, masked cloning.

    y = R + discount * agg_k Qbar_k(s', argmax_a agg_k Q_k(s', a)); the draws are ours.
    """
    rule, by = {"mean": ({}, np.mean), "minimum": ({"aggregate": minimum}, np.min)}[aggregate]
    config = setup.config("qc", bootstrap=BestOfN(3), **rule)
    # Two updates, after which the target is not the online critic: it matters which one is asked.
    data = setup.batch()
    agent = setup.train(setup.build(config, False), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        _, metrics = setup.update(agent, KEY, data)
        key_next, key_flow = jax.random.split(KEY)
        net = agent.actor.model.net
        jump = lambda z, s: by_hand.euler(net, config.steps, z, s)  # noqa: E731
        _compare(metrics, agent, data, key_next, jump, by)
        z, t = by_hand.cloning_draws(key_flow, setup.BATCH, D)
        action, s, mask = (np.asarray(x) for x in (data.action, data.obs, data.mask))
        cloned = by_hand.flow_matching(net, z, t, action, s, mask)
        assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)


def _compare(metrics, agent, data, key_next, jump, by):
    """The critic's loss with best-of-3 of ``jump(noise, s)``."""
    size, n = setup.BATCH, 3
    after = np.repeat(np.asarray(data.next_obs), n, axis=0)
    z = by_hand.noise(key_next, size, n, D).reshape(size * n, D)
    candidates = jump(z, after)
    ranked = by(by_hand.critics(agent.critic.online.model, after, candidates), axis=0)
    best = candidates.reshape(size, n, D)[np.arange(size), ranked.reshape(size, n).argmax(1)]
    next_q = by(by_hand.critics(agent.critic.target, np.asarray(data.next_obs), best), axis=0)
    y = np.asarray(data.reward) + np.asarray(data.discount) * next_q
    loss = by_hand.td_loss(agent.critic.online.model, y, data)
    assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["critic/target_mean"] == pytest.approx(y.mean(), rel=1e-6)


@pytest.mark.parametrize(("name", "keys"), [("mvp", 2), ("swfp", 2), ("decision_flow", 4)])
def test_agents_like_it_take_their_next_action_by_bootstrap(name, keys):
    """The same equation, each with its own flow: best-of-3, though best-of-4 acts."""
    data = setup.batch()
    fields = {"bootstrap": BestOfN(3), "act": BestOfN(4), "aggregate": mean}
    agent = setup.train(setup.make(name, False, **fields), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        _, metrics = setup.update(agent, KEY, data)
        zero, one = jnp.zeros((), float), jnp.ones((), float)

        @jax.jit
        @jax.vmap
        def jump(z, s):
            return jnp.clip(agent.flow().flow(zero, one, z, s), -1.0, 1.0)

        key_next = jax.random.split(KEY, keys)[0]
        _compare(metrics, agent, data, key_next, lambda *x: np.asarray(jump(*x)), np.mean)


def test_with_one_candidate_it_is_flow_cloning():
    """N = 1: what acts is one clipped sample of the flow, whatever the critic says of it; and the
    flow is trained by cloning alone, up to the rounding of two programs."""
    agent = setup.make("qc", False, act=BestOfN(1), bootstrap=BestOfN(1))
    obs = jnp.ones(setup.OBS)
    action, _ = agent.act(KEY, obs, ())
    (key,) = jax.random.split(KEY, 1)
    z = jax.random.normal(key, (D,))
    plain = Integrated(agent.actor.model, agent.config.steps)
    sample = jnp.clip(plain.flow(jnp.zeros(()), jnp.ones(()), z, obs), -1, 1)
    np.testing.assert_allclose(action, sample, atol=1e-6)
    data = setup.batch()
    step = jax.jit(lambda a: a.cloning.step(jax.random.split(KEY)[1], a.actor, data, a.count)[0])
    cloned, after = step(agent), setup.update(agent, KEY, data)[0].actor
    for a, b in zip(jax.tree.leaves(cloned.model), jax.tree.leaves(after.model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_its_flow_takes_euler_steps():
    """``steps`` of them, which is also what one jump costs."""
    agent = setup.make("qc", False, steps=7)
    flow = agent.flow()
    assert (flow.nfe(0.0), flow.action) == (7, D)
    z, s = np.linspace(-1, 1, D)[None], np.ones((1, setup.OBS))
    wanted = by_hand.euler(agent.actor.model.net, 7, z, s)[0]
    got = flow.flow(jnp.zeros(()), jnp.ones(()), jnp.float32(z[0]), jnp.float32(s[0]))
    np.testing.assert_allclose(jnp.clip(got, -1, 1), wanted, atol=1e-5)


def test_the_papers_settings():
    """QC on chunks of 5 with best-of-32; BFN and BFN-n with best-of-4 of single actions."""
    qc, single, n_step = QC(), bfn(), bfn_n()
    assert (qc.view, qc.steps, qc.act, qc.bootstrap) == (ChunkView(5), 10, BestOfN(32), BestOfN(32))
    assert (single.view, single.act, single.bootstrap) == (ChunkView(1), BestOfN(4), BestOfN(4))
    assert (n_step.view, n_step.act, n_step.bootstrap) == (NStepView(5), BestOfN(4), BestOfN(4))
    assert bfn_n(n=2, horizon=3, discount=0.9) == QC(
        chunk=3, discount=0.9, ends=n_step_returns, act=BestOfN(2), bootstrap=BestOfN(2)
    )


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"tau": 0.0}, {"ensemble": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    """With the field and the value."""
    (field,) = wrong
    with pytest.raises(InvalidConfig, match=f"{field}.*{wrong[field]}"):
        QC(**wrong)
