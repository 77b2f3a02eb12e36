"""FPMD against numpy, its samplers and its noise by hand, mirror descent learned, and a bandit."""

import dataclasses

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import FPMD, fpmd_m, fpmd_r
from flowpolicy.agents.cloning import weighted
from flowpolicy.agents.fpmd import Jumps, surplus
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    FlowMap,
    Moments,
    ScaledWeights,
    equal_weights,
    mean_flow,
    released_weights,
)
from flowpolicy.nets import Adam, MLPFlow, Trainable
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.values import minimum

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION
ZERO, ONE = jnp.zeros(()), jnp.ones(())


def _same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_an_update_is_the_equations():
    """All losses of one update to 1e-6: the particle, its noise, y, moments, weights, the flow."""
    config = setup.config("fpmd", reward_scale=0.3, memory=0.25, start=0.4, noise=0.2)
    data = setup.batch()
    agent = setup.train(setup.build(config, True), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        _compare(config, agent, data)


def _compare(config, agent, data):
    size = data.action.shape[0]
    after, metrics = setup.update(agent, KEY, data)
    key_draw, key_noise, key_flow = jax.random.split(KEY, 3)
    s, net = np.asarray(data.next_obs), agent.actor.model.net

    n = config.bootstrap.n
    z = config.start * by_hand.noise(key_draw, size, n, D)
    drawn = by_hand.euler(net, config.steps, z.reshape(-1, D), np.repeat(s, n, 0))
    q = by_hand.critics(agent.critic.online.model, np.repeat(s, n, 0), drawn).min(0)
    best = drawn.reshape(size, n, D)[np.arange(size), q.reshape(size, n).argmax(1)]
    std = np.exp(float(agent.noise.model))
    a = np.clip(best + std * np.asarray(jax.random.normal(key_noise, (size, D))), -1, 1)

    following = by_hand.critics(agent.critic.target, s, a).min(0)
    y = config.reward_scale * np.asarray(data.reward) + np.asarray(data.discount) * following
    loss = by_hand.td_loss(agent.critic.online.model, y, data)
    assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)

    q = by_hand.critics(after.critic.online.model, s, a).min(0)
    mean = 0.75 * float(agent.moments.mean) + 0.25 * q.mean()
    spread = 0.75 * float(agent.moments.std) + 0.25 * q.std()
    assert after.moments.mean == pytest.approx(mean, rel=1e-6)
    x = np.clip((q - mean) / spread, -3, 3)
    w = np.exp(x - x.max())
    assert metrics["weights/mean"] == pytest.approx(w.mean(), rel=1e-6)
    share = w.sum() ** 2 / (size * (w**2).sum())
    assert metrics["weights/effective_share"] == pytest.approx(share, rel=1e-6)
    assert metrics["fpmd/noise"] == pytest.approx(std, rel=1e-6)

    noise, t = by_hand.cloning_draws(key_flow, size, D)
    cloned = by_hand.flow_matching(net, noise, t, a, s, w[:, None])
    assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)


def test_a_velocity_jumps_by_euler_steps_from_narrowed_noise():
    """``steps`` of them to an action, from ``start`` times the noise; on from half way as it is."""
    agent = setup.make("fpmd", False)
    map, s = agent.actor.model, jnp.ones(setup.OBS)
    z, half = jnp.linspace(-0.2, 0.3, D), jnp.asarray(0.5)
    jumps = Jumps(map, 3, 0.5)
    expected = by_hand.euler(map.net, 3, 0.5 * np.asarray(z)[None], np.asarray(s)[None])[0]
    np.testing.assert_allclose(np.clip(jumps.flow(ZERO, ONE, z, s), -1, 1), expected, atol=1e-5)
    step = z + 0.25 * map.velocity(half, z, s)
    step = step + 0.25 * map.velocity(jnp.asarray(0.75), step, s)
    np.testing.assert_allclose(Jumps(map, 2, 0.5).flow(half, ONE, z, s), step, atol=1e-5)
    assert (jumps.nfe(0.0), agent.flow().nfe(0.0), agent._particles().nfe(0.0)) == (3, 1, 3)


def _exact(away, width):
    """The velocity of half N(0.3 - away, width^2) and half N(0.3 + away, width^2): E[a - z | x]."""

    def velocity(t, _, x, s):
        spread = (t * width) ** 2 + (1 - t) ** 2
        modes = 0.3 + away * jnp.array([-1.0, 1.0])
        share = jax.nn.softmax(-((x - t * modes) ** 2) / (2 * spread))
        a = jnp.sum(share * (modes + t * width**2 / spread * (x - t * modes)))
        return (a - x) / (1 - t)

    return FlowMap(velocity, 1)


def test_one_step_loses_the_policy_s_spread_and_with_two_modes_all():
    """The paper's claim, on exact fields: one step gives every sample the mean, and its distance to
    20 steps (Wasserstein-2) shrinks with the policy's width. Of two modes it keeps neither."""
    z = jax.scipy.stats.norm.ppf((jnp.arange(400.0) + 0.5) / 400)[:, None]

    def drawn(law, steps):
        flow = Jumps(_exact(*law), steps, 1.0)
        return jax.vmap(lambda z: flow.flow(ZERO, ONE, z, jnp.zeros(1)))(z)[:, 0]

    for width in (0.4, 0.2, 0.1, 0.05):
        one, some, many = (jnp.sort(drawn((0.0, width), steps)) for steps in (1, 20, 400))
        np.testing.assert_allclose(one, 0.3, atol=1e-6)
        assert jnp.std(many) == pytest.approx(width, rel=0.05)
        # 20 steps make the policy narrower than it is.
        assert 0.6 * width < jnp.sqrt(jnp.mean((one - some) ** 2)) < width
    np.testing.assert_allclose(drawn((0.4, 0.05), 1), 0.3, atol=1e-6)
    ends = drawn((0.4, 0.05), 20)
    assert jnp.mean(jnp.abs(ends - 0.7) < 0.2) == pytest.approx(0.5, abs=0.02)
    assert jnp.mean(jnp.abs(ends + 0.1) < 0.2) == pytest.approx(0.5, abs=0.02)


def test_a_flow_map_goes_in_one_jump():
    """FPMD-M: X_{0,1}(start z), and an update that keeps structure and trains the map."""
    m = fpmd_m(
        chunk=setup.CHUNK, actor=setup.TINY["actor"], critic=setup.TINY["critic"],
        bootstrap=BestOfN(2),
    )  # fmt: skip
    agent, s, z = setup.build(m, True), jnp.ones(setup.OBS), jnp.linspace(-1.0, 1.0, D)
    drawn = agent._particles().flow(ZERO, ONE, z, s)
    expected = 0.5 * z + agent.actor.model.net(ZERO, ONE, 0.5 * z, s)
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    after, metrics = setup.update(agent, KEY, setup.batch())
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert np.isfinite(metrics["flow/mean_flow"])
    assert not _same(agent.actor.model, after.actor.model)


def test_evaluation_draws_no_noise_and_collecting_does():
    """act: one jump of the sample; explore: the best particle, moved by about the noise."""
    agent = setup.make("fpmd", True, act=OneStep(), noise=0.05)
    s, size = jnp.zeros(setup.OBS), 400
    keys = jax.random.split(KEY, size)
    acted = jax.vmap(lambda k: agent.act(k, s, ())[0])(keys)
    single = jax.vmap(lambda k: OneStep()(k, agent.flow(), lambda a: ZERO, s))(keys)
    np.testing.assert_array_equal(acted, single)

    def pair(key):
        best = agent.config.bootstrap(
            jax.random.split(key)[0], agent._particles(), lambda a: agent.value(s, a), s
        )
        return agent.explore(key, s, ())[0], best

    explored, best = (np.asarray(x) for x in jax.vmap(pair)(keys))
    inside = np.abs(best) < 0.8
    # 1600 entries or so: the standard deviation is off by 2 %, a twentieth is 2.8 of these.
    assert np.std((explored - best)[inside]) == pytest.approx(0.05, rel=0.07)
    assert np.abs(explored).max() <= 1.0


@pytest.mark.parametrize("start", [0.5, 0.001])
def test_the_noise_goes_to_its_entropy(start):
    """From above and below: std = exp(entropy) / sqrt(2 pi e), where the surplus is 0."""
    goal = np.exp(-1.5) / np.sqrt(2 * np.pi * np.e)
    assert surplus(jnp.log(goal), -1.5) == pytest.approx(0.0, abs=1e-6)
    noise = Trainable.create(jnp.log(jnp.float32(start)), Adam(rate=0.05))
    step = lambda n, _: (n.step(surplus(n.model, -1.5)), n.model)  # noqa: E731
    noise, path = jax.lax.scan(step, noise, None, length=400)
    assert np.exp(float(noise.model)) == pytest.approx(goal, rel=0.01)
    assert (path[1] < path[0]) == (start > goal)


def test_policy_and_noise_are_stepped_every_so_often():
    """The policy at updates 0 and 2, the noise at 0 and 3; the critic always."""
    agent, seen = setup.make("fpmd", True, delay=2, noise_every=3), []
    for i in range(4):
        after, _ = setup.update(agent, jax.random.fold_in(KEY, i), setup.batch())
        parts = [(getattr(agent, f), getattr(after, f)) for f in ("actor", "noise", "critic")]
        seen.append([not _same(old, new) for old, new in parts])
        agent = after
    policy, noise, critic = zip(*seen, strict=True)
    assert policy == (True, False, True, False)
    assert noise == (True, False, False, True)
    assert all(critic)


def test_weights_are_numbers_to_the_flow_s_loss():
    """No gradient through them, though the loss is proportional to them."""
    agent, data = setup.make("fpmd", True), setup.batch()
    flow = agent.actor.model

    def loss(scale):
        weights = scale * jnp.ones(setup.BATCH)
        return agent.cloning(KEY, flow, weighted(data, weights), agent.count)[0]

    assert loss(2.0) == pytest.approx(2 * float(loss(1.0)), rel=1e-5)
    assert jax.grad(loss)(1.0) == 0.0


def test_values_are_told_in_units_of_the_rewards():
    """The critic learns scaled rewards; what ``value`` says is scaled back."""
    agent, s, a = setup.make("fpmd", True, reward_scale=0.25), jnp.ones(setup.OBS), jnp.ones(D)
    q = minimum(agent.critic.online.model(s, a))
    assert agent.value(s, a) == pytest.approx(4.0 * float(q), rel=1e-5)


def test_weights_that_overflow_are_reported_and_not_followed():
    """With the later code's formula and values in the thousands: the policy stays."""
    agent = setup.make("fpmd", True, weigh=ScaledWeights(), reward_scale=1.0, memory=1.0)
    agent = eqx.tree_at(
        lambda a: a.critic.online.model.members.mlp.last.bias, agent, replace_fn=lambda b: b + 1e4
    )
    after, metrics = setup.update(agent, KEY, setup.batch())
    assert metrics["weights/overflow"] == 1.0
    assert not np.isfinite(metrics["weights/effective_share"])
    assert _same(agent.actor.model, after.actor.model)


def test_the_settings():
    """20 Euler steps to train and one to act, or one jump always; the released rates and noise."""
    r, m = fpmd_r(), fpmd_m()
    assert (r.steps, r.act_steps, r.act, r.bootstrap) == (20, 1, OneStep(), BestOfN(32))
    assert (m.steps, m.act_steps, m.terms[0].residual) == (1, 1, mean_flow)
    assert len(m.terms) == 1
    assert fpmd_m(weigh=released_weights).weigh is released_weights
    assert (r.start, r.noise, r.entropy, r.reward_scale, r.delay) == (0.5, 0.5, -1.5, 0.2, 2)


@pytest.mark.parametrize(
    ("field", "value", "released"),
    [
        ("start", 0.0, r"0\.5"), ("noise", -1.0, r"0\.5"), ("noise", np.inf, r"0\.5"),
        ("noise", np.nan, r"0\.5"), ("noise", 2.5, r"0\.5"), ("entropy", 2.5, r"-1\.5"),
        ("entropy", -11.0, r"-1\.5"), ("reward_scale", 0.0, r"0\.2, on pixels 1"),
        ("reward_scale", np.nan, r"0\.2"), ("entropy", np.nan, r"-1\.5 or -0\.9"),
        ("entropy", -np.inf, r"-1\.5"), ("steps", 0, "20"), ("act_steps", 0, "1"),
        ("noise_every", 0, "250"), ("delay", 0, "2"), ("memory", 0.0, r"0\.001"),
        ("memory", np.nan, r"0\.001"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(field, value, released):
    """With the field, the value, and what the released runs have."""
    with pytest.raises(
        InvalidConfig, match=rf"fpmd\.{field} must be .*have {released}.*got {value}"
    ):
        FPMD(**{field: value})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"terms": ()}, "at least one term: nothing trains the flow"),
        ({"actor": MLPFlow()}, r"acts by jumps.*fpmd_r\(\)"),
        ({"terms": fpmd_m().terms}, r"one time.*fpmd_m\(\)"),
    ],
)
def test_a_net_that_its_terms_do_not_train_is_refused(wrong, why):
    """A velocity has no jumps to train, and a flow map acts by nothing else."""
    with pytest.raises(InvalidConfig, match=why):
        FPMD(**wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"weigh": equal_weights, "bootstrap": OneStep()}, "improve nothing"),
        ({"weigh": equal_weights, "bootstrap": BestOfN(1)}, r"best_of_n\(n=32\), as released"),
        ({"weigh": released_weights, "entropy": -4.5}, r"above -4\.1.*-1\.5 or -0\.9.*got -4\.5"),
        ({"weigh": released_weights, "noise": 1e-3}, r"overflow below 0\.004.*0\.001"),
    ],
)
def test_weights_that_cannot_work_are_refused(wrong, why):
    """Neither weights nor a selection; a temperature of next to 0 by way of the noise."""
    with pytest.raises(InvalidConfig, match=why):
        FPMD(**wrong)


def test_the_smallest_noise_of_the_released_weights_is_no_overflow():
    """At the entropy where the noise is 0.004 the largest weight is a number of float32."""
    assert FPMD(weigh=released_weights, entropy=-4.1).entropy == -4.1
    with pytest.raises(InvalidConfig):
        FPMD(weigh=released_weights, entropy=-4.11)
    weights = released_weights(jnp.full(2, 1e6), Moments.create(), jnp.asarray(0.004))
    assert np.isfinite(weights).all()


def test_guards_are_told_values_in_the_rewards_own_units():
    """Whatever the scale in which the critic learns; its target at the start is the reward."""
    data = dataclasses.replace(setup.batch(), discount=jnp.zeros_like(setup.batch().discount))
    for scale in (0.1, 10.0):
        agent = setup.build(setup.config("fpmd", reward_scale=scale), True)
        _, metrics = setup.update(agent, KEY, data)
        told = [float(metrics[f"critic/target_{name}"]) for name in ("mean", "max")]
        np.testing.assert_allclose(told, [data.reward.mean(), data.reward.max()], rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"tau": np.nan}, {"ensemble": 0}])
def test_critics_that_make_no_sense_are_refused(wrong):
    """By the check that all agents share, with the papers' values."""
    text = rf"fpmd.*tau.*0\.005.*ensemble.*2 to 10.*got.*{next(iter(wrong.values()))}"
    with pytest.raises(InvalidConfig, match=text):
        FPMD(**wrong)
