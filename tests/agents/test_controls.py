"""The controls of FMQ: the direct gradient against its closed form, and eta = 0."""

import agents_setup as setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.agents.controls import DirectGradient
from flowpolicy.agents.fmq import FMQ, q_guidance
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.refine import normalise
from flowpolicy.values import Critic, mean

D = setup.CHUNK * setup.ACTION
SLOPE = np.array([3.0, 0.0, -4.0, 1.0], np.float32)


class Constant(eqx.Module):
    """u_{r,t}(a | s) = u, so that a_1 = a_0 + u."""

    u: jax.Array

    def __call__(self, r, t, a, s):
        return self.u


class Point(eqx.Module):
    """X_{0,1}(a | s) = m, wherever it starts."""

    m: jax.Array

    def __call__(self, r, t, a, s):
        return self.m - a


class Line(eqx.Module):
    """Q(s, a) = slope . a."""

    slope: jax.Array

    def __call__(self, s, a):
        return jnp.dot(self.slope, a)


class Bowl(eqx.Module):
    """Q(s, a) = -|a - c|^2."""

    c: jax.Array

    def __call__(self, s, a):
        return -jnp.sum(jnp.square(a - self.c))


def _loss(control, flow, reference, critic, key=0, **changes):
    config = setup.config("fmq", **changes)
    key = jax.random.key(key)
    return control(config, key, flow, reference, critic, setup.batch())


@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_direct_gradient_in_closed_form(anchor):
    """Loss and gradient by u, from the same noise, by numpy: |Q|'s mean is a constant to it.

    d/du = -mean over samples of slope where a_0 + u is inside the box, over mean |Q|,
    + anchor 2 (u - u_off) / D.
    """
    u, u_off = np.linspace(-0.4, 0.5, D), np.full(D, 0.2)
    critic = Critic(Line(jnp.stack([SLOPE, -9 * SLOPE])))  # member 0 guides
    flow, reference = (FlowMap(Constant(jnp.asarray(x, jnp.float32)), D) for x in (u, u_off))
    (value, metrics), gradient = jax.value_and_grad(
        lambda f: _loss(DirectGradient(anchor), f, reference, critic), has_aux=True
    )(flow)
    keys = jax.random.split(jax.random.key(0), setup.BATCH)
    a1 = np.stack([np.asarray(jax.random.normal(k, (D,)), np.float64) for k in keys]) + u
    q = np.clip(a1, -1, 1) @ SLOPE
    scale, inside = np.abs(q).mean(), np.abs(a1) <= 1
    assert 0.1 < inside.mean() < 0.9
    far = np.square(u - u_off).mean()
    assert value == pytest.approx(-q.mean() / scale + anchor * far, rel=1e-4)
    wanted = -(inside * SLOPE).mean(0) / scale + anchor * 2 * (u - u_off) / D
    np.testing.assert_allclose(gradient.net.u, wanted, rtol=1e-4, atol=1e-6)
    assert metrics["fmq/q"] == pytest.approx(q.mean(), rel=1e-4)
    assert metrics["fmq/moved"] == pytest.approx(np.linalg.norm(u - u_off), rel=1e-4)
    assert metrics["fmq/clipped_share"] == pytest.approx(1 - inside.mean(), abs=1e-6)


def test_it_asks_the_critic_that_guides():
    """``FMQ.gradient`` says which: the mean of two opposite slopes is flat."""
    critic = Critic(Line(jnp.stack([SLOPE, -SLOPE])))
    flow = FlowMap(Constant(jnp.zeros(D)), D)
    _, metrics = _loss(DirectGradient(), flow, flow, critic, gradient=mean)
    assert metrics["fmq/q"] == pytest.approx(0.0, abs=1e-6)
    _, metrics = _loss(DirectGradient(), flow, flow, critic)
    assert abs(metrics["fmq/q"]) > 0.1


def test_descent_ends_at_the_critics_optimum():
    """Q = -|a - c|^2 without an anchor, and a map that sends all noise to one point: to c."""
    c = np.array([0.5, -0.5, 0.2, 0.9], np.float32)
    critic, reference = Critic(Bowl(jnp.stack([c, -c]))), FlowMap(Point(jnp.zeros(D)), D)

    def step(m, key):
        loss = lambda m: DirectGradient(0.0)(  # noqa: E731
            setup.config("fmq"), key, FlowMap(Point(m), D), reference, critic, setup.batch()
        )[0]
        return m - 0.01 * normalise(jax.grad(loss)(m)), None

    keys = jax.random.split(jax.random.key(0), 300)
    m = jax.jit(lambda m: jax.lax.scan(step, m, keys)[0])(jnp.full(D, 0.1))
    np.testing.assert_allclose(m, c, atol=0.02)


def test_an_agent_ascends_with_it_and_leaves_the_reference():
    """Through ``update``: the policy earns more by the critic that stays, u_off is as it was."""
    agent = setup.make("fmq", False, improve=DirectGradient(0.0))
    online = agent.begin_online(jax.random.key(1))
    data = setup.batch()
    data = eqx.tree_at(lambda d: d.weight, data, jnp.zeros(setup.BATCH))
    _, first = setup.update(online, jax.random.key(2), data)
    after = setup.train(online, jax.random.key(3), data, 60)
    _, last = setup.update(after, jax.random.key(2), data)
    assert last["fmq/q"] > first["fmq/q"] + 0.05
    for a, b in zip(
        jax.tree.leaves(after.reference), jax.tree.leaves(agent.actor.model), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_with_eta_0_the_policy_keeps_its_bits():
    """Best-of-N without a Q-gradient: not even the moments of the offline optimiser move it.

    The critic goes on learning.
    """
    offline = setup.train(setup.make("fmq", False, eta=0.0), jax.random.key(0), setup.batch(), 3)
    before = offline.begin_online(jax.random.key(1))
    after = setup.train(before, jax.random.key(2), setup.batch(), 3)
    for a, b in zip(jax.tree.leaves(before.actor), jax.tree.leaves(after.actor), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(before.critic.online.model),
            jax.tree.leaves(after.critic.online.model),
            strict=True,
        )
    ]
    assert all(moved)


def test_improvements_are_parts():
    """Read from text, written to text, checked; Theorem 3.2 is the default."""
    assert FMQ().improve is q_guidance
    config = parts.parse("fmq(improve=direct_gradient(anchor=0.5))")
    assert config.improve == DirectGradient(0.5)
    assert parts.parse(parts.describe(config)) == config
    assert parts.decode(parts.encode(FMQ())) == FMQ()
    with pytest.raises(InvalidConfig, match=r"direct_gradient\.anchor"):
        DirectGradient(-1.0)
