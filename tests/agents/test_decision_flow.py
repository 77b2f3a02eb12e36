"""Decision Flow as reconstructed: one decision, its optimum in closed form, an update in numpy."""

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents.reconstructed.decision_flow import (
    DecisionFlow,
    decision,
    direction_reward,
    divergence_reward,
    every_decision,
    improvement,
    path,
    value_loss,
)
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.values import Critic, mean

KEY = jax.random.key(3)
C, BETA, WEIGHT, K = np.array([0.6, -0.4]), np.array([0.1, 0.2]), 2.0, 4
BEST = BETA + C / (2 * WEIGHT)
"""What the divergence variant decides for Q = C . a and u_beta = BETA."""


def _config(reward=divergence_reward, **fields):
    return DecisionFlow(reward=reward, **{"weight": WEIGHT, "steps": K, **fields})


def _linear(a):
    return jnp.asarray(C, jnp.float32) @ a


def _exact(t, a):
    """The value of the best decisions from (t, a) on."""
    return _linear(a) + (1 - t) * (C @ BETA + C @ C / (4 * WEIGHT))


def _decide(config, t, a, u, later=_exact, q=_linear):
    t, a, u, beta = (jnp.asarray(x, jnp.float32) for x in (t, a, u, BETA))
    return decision(config, t, a, u, beta, q, later)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.75])
def test_the_best_decision_is_worth_the_exact_value_and_no_other_is(t):
    """The inner process solved by hand: V = C . a + (1 - t) (C . BETA + |C|^2 / 4 w) is the reward
    and what follows of u_beta + C / (2 w); any other decision loses h w |u - u*|^2."""
    config, a = _config(), np.array([0.05, -0.1])
    assert float(_decide(config, t, a, BEST)) == pytest.approx(float(_exact(t, a)), abs=1e-6)
    for off in ([0.3, 0.0], [-0.2, 0.1]):
        lost = float(_exact(t, a)) - float(_decide(config, t, a, BEST + off))
        assert lost == pytest.approx(WEIGHT / K * np.square(off).sum(), abs=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.75])
def test_a_decision_s_gradient_points_to_the_best_one(t):
    """h (C - 2 w (u - u_beta)), at the last decision by Q itself."""
    u = np.array([0.5, 0.1])
    gradient = jax.grad(lambda u: _decide(_config(), t, [0.05, -0.1], u))(jnp.asarray(u))
    np.testing.assert_allclose(gradient, (C - 2 * WEIGHT * (u - BETA)) / K, atol=1e-6)


def test_direction_rewards_what_goes_where_the_critic_rises():
    """h w u . C / |C| and what follows; u_beta does not count."""
    u, a = np.array([0.5, 0.1]), np.array([0.05, -0.1])
    made = _decide(_config(direction_reward), 0.25, a, u)
    wanted = WEIGHT / K * u @ C / np.linalg.norm(C) + float(_exact(0.5, a + u / K))
    assert float(made) == pytest.approx(wanted, abs=1e-6)


def test_the_last_decision_is_valued_by_the_critic_of_the_clipped_action():
    """And no other: the flow critic is asked at every time but 1."""
    config = _config(weight=0.0)
    zero = lambda t, a: jnp.zeros(())  # noqa: E731
    for i in range(K):
        made = _decide(config, i / K, [0.9, 0.0], [4.0, 0.0], later=zero)
        assert float(made) == pytest.approx(C[0] if i == K - 1 else 0.0, abs=1e-6)


class Constant(eqx.Module):
    """The velocity ``by``."""

    by: jax.Array

    def __call__(self, r, t, a, s):
        return self.by


class Line(eqx.Module):
    """A critic slope . a, and a flow critic that is 2 slope . a."""

    slope: jax.Array

    def __call__(self, *inputs):
        _, a, *rest = inputs
        return (2.0 if rest else 1.0) * jnp.dot(self.slope, a)


def _case():
    flow, beta = (FlowMap(Constant(jnp.asarray(x, jnp.float32)), 2) for x in ([0.3, 0.1], BETA))
    critic = Critic(Line(jnp.asarray(C, jnp.float32)[None]))
    value = Line(jnp.asarray(-C, jnp.float32))
    data = jax.tree.map(lambda x: x[:2], setup.batch())
    points = jnp.stack([path(flow, K, z, data.obs[0]) for z in jnp.array([[0.1, 0.2], [0.0, 0.3]])])
    return flow, beta, critic, value, points, data


def test_a_path_is_euler_s_and_carries_no_gradient():
    """a_0 is the noise; nothing reaches the flow through it."""
    flow, *_, points, data = _case()
    wanted = np.array([0.1, 0.2]) + np.arange(K + 1)[:, None] / K * np.array([0.3, 0.1])
    np.testing.assert_allclose(points[0], wanted, atol=1e-6)
    gradient = jax.grad(lambda f: jnp.sum(path(f, K, jnp.ones(2), data.obs[0])))(flow)
    np.testing.assert_array_equal(gradient.net.by, 0.0)


@pytest.mark.parametrize("reward", [divergence_reward, direction_reward])
def test_where_gradients_go(reward):
    """The flow critic learns from its own prediction alone; the policy from one step: not through
    u_beta, the critic's direction, the path or lambda."""
    config = _config(reward, aggregate=mean)
    flow, beta, critic, value, points, data = _case()
    own, average, by_critic, by_beta, by_flow = jax.grad(
        lambda v, w, c, b, f: value_loss(config, v, w, c, b, f, points, data),
        argnums=(0, 1, 2, 3, 4),
    )(value, value, critic, beta, flow)
    assert np.any(own.slope)
    for stopped in (average.slope, by_critic.members.slope, by_beta.net.by, by_flow.net.by):
        np.testing.assert_array_equal(stopped, 0.0)

    def total(beta, points, critic, flow):
        return improvement(config, flow, value, critic, beta, points, data)[0]

    by_beta, by_points, _, by_flow = jax.grad(total, argnums=(0, 1, 2, 3))(
        beta, points, critic, flow
    )
    np.testing.assert_array_equal(by_beta.net.by, 0.0)
    np.testing.assert_array_equal(by_points, 0.0)
    later = (-2 * C * (K - 1) + C) / K
    own = -2 * WEIGHT * (np.array([0.3, 0.1]) - BETA)
    own = own if reward is divergence_reward else WEIGHT * C / np.linalg.norm(C)
    np.testing.assert_allclose(by_flow.net.by, (later + own) / K, atol=1e-5)

    scale = jax.grad(
        lambda c: improvement(config, flow, value, c, beta, points, data)[1]
    )(critic)  # fmt: skip
    np.testing.assert_array_equal(scale.members.slope, 0.0)
    # Before the last decision the critic enters by its direction alone, which is a number.
    first = jax.grad(
        lambda c: every_decision(config, flow, beta, c, value, points[0], data.obs[0])[0]
    )(critic)
    np.testing.assert_array_equal(first.members.slope, 0.0)


def _trained(alpha):
    """A small configuration and its agent after two updates."""
    tiny = {"width": 8, "depth": 1}
    config = DecisionFlow(
        chunk=setup.CHUNK, weight=0.7, alpha=alpha, steps=3, optimiser=Adam(rate=1e-2),
        behaviour=MLPVelocity(**tiny), actor=MLPVelocity(**tiny), critic=MLPCritic(**tiny),
        value=MLPInnerValue(**tiny),
    )  # fmt: skip
    return config, setup.train(setup.build(config, False), jax.random.key(1), setup.batch(), 2)


def test_an_update_is_the_equations():
    """The flow critic's loss and the policy's gain of one update to 1e-6, in numpy; the update
    lowers the one and, without flow matching, raises the other, on the same paths. The averaged
    flow critic takes 0.005 of the new one."""
    config, agent = _trained(alpha=0.0)
    with by_hand.double(agent, setup.batch()) as (agent, data):
        after, metrics = setup.update(agent, KEY, data)
        k, s = config.steps, np.asarray(data.obs)
        noise = jax.random.normal(jax.random.split(KEY, 4)[2], data.action.shape)
        a = np.asarray(noise)
        losses, gains = [], []
        for i in range(k):
            t, now = np.full(len(a), i / k), agent.actor.model.net
            u, beta = (by_hand.velocity(n, t, a, s) for n in (now, after.behaviour.model.net))
            reward = -0.7 / k * np.square(u - beta).sum(-1)
            following = a + u / k
            ends = [
                by_hand.mlp(net, s, following, t[:, None] + 1 / k)[:, 0]
                for net in (agent.average, after.inner.model)
            ]
            if i == k - 1:
                there = np.clip(following, -1, 1)
                critics = after.critic.target, after.critic.online.model
                ends = [by_hand.critics(c, s, there).mean(0) for c in critics]
            v = by_hand.mlp(agent.inner.model, s, a, t[:, None])[:, 0]
            losses.append(np.mean((v - reward - ends[0]) ** 2))
            gains.append(np.mean(reward + ends[1]))
            a = following
        assert float(metrics["decision_flow/value_loss"]) == pytest.approx(
            np.mean(losses), rel=1e-6
        )
        assert float(metrics["decision_flow/gain"]) == pytest.approx(np.mean(gains), rel=1e-6)

        nets = agent.average, after.inner.model, after.average
        for old, new, average in zip(*map(jax.tree.leaves, nets), strict=True):
            np.testing.assert_allclose(average, 0.995 * old + 0.005 * new, atol=1e-9)

        new, critic, before = after.behaviour.model, after.critic, agent.actor.model
        paths = jax.vmap(lambda z, s: path(before, k, z, s))(noise, data.obs)
        lost = lambda v: value_loss(  # noqa: E731
            config, v, agent.average, critic.target, new, before, paths, data
        )
        gained = lambda f: improvement(  # noqa: E731
            config, f, after.inner.model, critic.online.model, new, paths, data
        )[0]
        assert float(jax.jit(lost)(after.inner.model)) < np.mean(losses)
        assert float(jax.jit(gained)(after.actor.model)) > np.mean(gains)


def test_the_policy_descends_alpha_cloning_less_lambda_gain():
    """lambda = 1 / mean |Q(s, clip(a_K))| by the new online critics, in numpy; the step of the
    policy is that of alpha (flow matching) - lambda (gain), its moments included."""
    config, agent = _trained(alpha=0.8)
    with by_hand.double(agent, setup.batch()) as (agent, data):
        after, metrics = setup.update(agent, KEY, data)
        _, _, key_path, key_policy = jax.random.split(KEY, 4)
        size, d = data.action.shape
        s, z = np.asarray(data.obs), np.asarray(jax.random.normal(key_path, (size, d)))
        end = by_hand.euler(agent.actor.model.net, 3, z, s)
        critic = after.critic.online.model
        scale = 1 / np.abs(by_hand.critics(critic, s, end).mean(0)).mean()
        beta, value = after.behaviour.model, after.inner.model
        paths = jax.vmap(lambda z, s: path(agent.actor.model, 3, z, s))(jnp.asarray(z), data.obs)

        def loss(flow):
            gain, made = improvement(config, flow, value, critic, beta, paths, data)
            cloned, _ = agent.cloning(key_policy, flow, data, agent.count)
            return 0.8 * cloned - scale * gain, made

        gradient, made = jax.jit(jax.grad(loss, has_aux=True))(agent.actor.model)
        assert float(made) == pytest.approx(scale, rel=1e-4)  # but for the 1e-6 beside mean |Q|
        wanted = jax.jit(lambda g: agent.actor.step(g))(gradient)
        assert float(after.actor.norm) == pytest.approx(float(wanted.norm), rel=1e-4)
        leaves = zip(*(jax.tree.leaves(x.model) for x in (after.actor, wanted)), strict=True)
        for found, right in leaves:
            np.testing.assert_allclose(found, right, atol=1e-6)

        noise, t = by_hand.cloning_draws(key_policy, size, d)
        net, mask = agent.actor.model.net, np.asarray(data.mask)
        cloned = by_hand.flow_matching(net, noise, t, np.asarray(data.action), s, mask)
        assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": -1.0}, {"weight": np.nan}, {"weight": np.inf}, {"alpha": -1.0},
        {"alpha": np.nan}, {"steps": 1}, {"tau": 2.0}, {"ensemble": 0},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    """With the field, the value, and what is usual: of our own numbers that they are ours."""
    ((field, value),) = wrong.items()
    usual = "the papers have" if field in ("tau", "ensemble") else "ours are 1, 1 and 10"
    with pytest.raises(InvalidConfig, match=f"(?=.*{field}.*{value})(?=.*{usual})"):
        DecisionFlow(**wrong)


def test_the_direction_reward_without_what_holds_it_is_refused():
    """Its best decision would be the longest."""
    with pytest.raises(InvalidConfig, match=r"alpha must be above 0 with direction_reward.*got 0"):
        DecisionFlow(reward=direction_reward, alpha=0.0)
    DecisionFlow(alpha=0.0)
