"""Distillation against velocities whose flow maps are known, and what FMQ takes over."""

import dataclasses

import agents_setup as setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import AGENTS, BC, FMQ, QC, Distilled
from flowpolicy.agents.cloning import Cloning
from flowpolicy.agents.distilled import (
    TEACHERS,
    Source,
    Taught,
    eulerian_distillation,
    lagrangian_distillation,
    semigroup_distillation,
)
from flowpolicy.agents.fmq import FMQAgent
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.nets import MLPFlow, Plain

D = setup.CHUNK * setup.ACTION
RATE = 1.5
LOSSES = {
    "lagrangian": lagrangian_distillation(),
    "eulerian": eulerian_distillation(),
    "semigroup": semigroup_distillation(),
}
every_loss = pytest.mark.parametrize("terms", LOSSES.values(), ids=LOSSES)


def _draw_in(r, t, a, s):
    """v_t(a) = -RATE a, by a net that has one time: asked for another jump it still says v_t."""
    return -RATE * a


def _shrink(r, t, a, s):
    """u_{r,t} of that velocity: (exp(-RATE (t - r)) - 1) / (t - r) a."""
    gap = t - r
    small = jnp.abs(gap) < 1e-3  # the quotient's series, whose derivatives are finite
    safe = jnp.where(small, 1.0, gap)
    series = -RATE + RATE**2 * gap / 2 - RATE**3 * jnp.square(gap) / 6
    return jnp.where(small, series, jnp.expm1(-RATE * safe) / safe) * a


class Constant(eqx.Module):
    """u_{r,t}(a | s) = u."""

    u: jax.Array

    def __call__(self, r, t, a, s):
        return self.u


def _loss(terms, student, source, seed=0):
    loss, metrics = Cloning(terms, 10).taught(
        jax.random.key(seed), student, Taught(source, student), setup.batch(), jnp.int32(5)
    )
    return loss, metrics


@every_loss
def test_the_sources_flow_map_solves_every_equation(terms):
    """Zero residuals, though the data have nothing to do with the velocity."""
    source, truth = FlowMap(_draw_in, D), FlowMap(_shrink, D)
    assert _loss(terms, truth, source)[0] < 1e-8
    other = FlowMap(lambda *at: 0.9 * _shrink(*at), D)
    assert _loss(terms, other, source)[0] > 1e-3


@every_loss
def test_the_velocity_is_the_sources_and_not_the_maps_own(terms):
    """Constant maps solve their own equations; descent takes them to the source's constant."""
    c = jnp.array([0.4, -0.3, 0.2, 0.9])
    source = FlowMap(Constant(c), D)
    step = jax.jit(
        lambda u: u - 0.5 * jax.grad(lambda u: _loss(terms, FlowMap(Constant(u), D), source)[0])(u)
    )
    u = jnp.full(D, -0.5)
    for _ in range(40):
        u = step(u)
    np.testing.assert_allclose(u, c, atol=1e-3)


def test_no_gradient_reaches_the_source():
    """The teacher carries none."""

    def loss(c):
        student = FlowMap(Constant(jnp.zeros(D)), D)
        return _loss(LOSSES["lagrangian"], student, FlowMap(Constant(c), D))[0]

    assert not jax.grad(loss)(jnp.ones(D)).any()


@dataclasses.dataclass(frozen=True)
class DrawIn:
    """A net configuration for a velocity that never learns: it has one leaf, times zero."""

    def init(self, key, spec, action):
        return Known(jnp.zeros(()))


class Known(eqx.Module):
    """v_t(a) = -RATE a."""

    zero: jax.Array

    def __call__(self, r, t, a, s):
        return _draw_in(r, t, a, s) + 0.0 * self.zero


def test_an_agents_one_jump_becomes_the_sources_integral():
    """A net of 24 units after 600 updates: X_{0,1}(a) against exp(-RATE) a for a ~ N(0, I).

    Root mean square error below 0.07 (0.046), where the action's own is 0.22; before training above
    0.5 (0.86).
    """
    config = setup.config(
        "distilled",
        source=setup.config("qc", actor=DrawIn()),
        target=setup.config("fmq", actor=MLPFlow(width=24, depth=2, embed=Plain())),
        train_source=False,
    )
    agent = setup.build(config, False)

    @jax.jit
    def train(agent):
        def step(agent, key):
            key_data, key_update = jax.random.split(key)
            data = setup.batch(32)
            action = jnp.clip(jax.random.normal(key_data, data.action.shape), -1, 1)
            data = dataclasses.replace(data, action=action, mask=jnp.ones_like(action))
            return agent.update(key_update, data)[0], None

        return jax.lax.scan(step, agent, jax.random.split(jax.random.key(1), 600))[0]

    a0 = jax.random.normal(jax.random.key(5), (400, D))

    @jax.jit
    def error(agent):
        zero, one = jnp.zeros(()), jnp.ones(())
        a1 = jax.vmap(lambda a: agent.flow().flow(zero, one, a, jnp.zeros(setup.OBS)))(a0)
        return jnp.sqrt(jnp.mean(jnp.square(a1 - np.exp(-RATE) * a0)))

    assert error(agent) > 0.5
    assert error(train(agent)) < 0.07


def test_the_source_trains_as_it_does_alone_or_not_at_all():
    """Its update is the source's own, bit for bit; what the map learns changes nothing in it."""
    key, data = jax.random.key(3), setup.batch()
    for trains in (True, False):
        agent = setup.make("distilled", False, train_source=trains)
        after, metrics = setup.update(agent, key, data)
        key_source, _ = jax.random.split(key)
        alone = setup.update(agent.source, key_source, data)[0] if trains else agent.source
        for a, b in zip(jax.tree.leaves(after.source), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(a, b)
        assert ("critic/loss" in metrics) == trains
        assert {"distilled/lagrangian", "distilled/lagrangian_1"} <= set(metrics)


def test_the_map_learns_from_the_source_after_its_step():
    """Its losses are those with the velocity that the source has from now on."""
    agent, data, key = setup.make("distilled", False), setup.batch(), jax.random.key(3)
    after, metrics = setup.update(agent, key, data)
    student = agent.actor.model
    teacher = Taught(after.source.teacher(), student)
    _, told = agent.distillation.taught(
        jax.random.split(key)[1], student, teacher, data, agent.count
    )
    assert set(told) == {"flow/lagrangian", "flow/lagrangian_1"}
    for name in ("lagrangian", "lagrangian_1"):
        assert metrics[f"distilled/{name}"] == pytest.approx(float(told[f"flow/{name}"]), rel=1e-5)


def test_online_it_is_fmq_around_the_map_and_the_sources_critics():
    """Nothing of what was trained is lost; the flow map is the reference; it goes on as FMQ."""
    before = setup.train(setup.make("distilled", False), jax.random.key(0), setup.batch(), 3)
    after = before.begin_online(jax.random.key(1))
    assert isinstance(after, FMQAgent)
    assert after.config == setup.config("fmq")
    pairs = (
        (after.actor, before.actor),
        (after.reference, before.actor.model),
        (after.critic, before.source.critic),
        (after.count, before.count),
    )
    for new, old in pairs:
        for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
            np.testing.assert_array_equal(a, b)
    _, metrics = setup.update(after, jax.random.key(2), setup.batch())
    assert "fmq/loss" in metrics


def test_it_acts_with_the_map_and_the_sources_critics():
    """Offline already: the target's refiner over single jumps, one evaluation each."""
    agent = setup.make("distilled", False)
    key, obs = jax.random.key(0), jnp.ones(setup.OBS)
    source = agent.source
    wanted = setup.config("fmq").act(key, agent.actor.model, lambda a: source.value(obs, a), obs)
    np.testing.assert_array_equal(agent.act(key, obs, ())[0], wanted)
    assert agent.flow().nfe(0.0) == 1


@pytest.mark.parametrize(
    "name",
    [
        "fql",
        "mvp",
        "qc",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("fmq", "ifql")),
    ],
)
def test_agents_that_can_be_distilled(name):
    """One update and the way online for each."""
    agent = setup.make("distilled", False, source=setup.config(name))
    agent, _ = setup.update(agent, jax.random.key(0), setup.batch())
    online = jax.jit(lambda a: a.begin_online(jax.random.key(1)))(agent)
    assert isinstance(online, FMQAgent)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": QC(chunk=3)}, "chunk"),
        ({"source": QC(discount=0.9)}, "discount"),
        ({"source": 3}, r"distilled\.source"),
        ({"target": QC()}, r"distilled\.target"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    """When the configuration is made; the message names the field."""
    with pytest.raises(InvalidConfig, match=message):
        Distilled(**{"source": QC(), "target": FMQ(), **wrong})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": BC(chunk=2)}, f"bc has not; {', '.join(TEACHERS)} have both"),
        ({"source": setup.config("qc", ensemble=3)}, "ensemble"),
        ({"source": setup.config("qc", tau=0.5)}, "tau"),
    ],
)
def test_what_an_agent_lacks_is_named(changes, message):
    """When the agent is built."""
    config = setup.config("distilled", **changes)
    with pytest.raises(InvalidConfig, match=message):
        config.init(jax.random.key(0), setup.SPEC)


def test_the_agents_that_can_be_distilled_are_named():
    """And these are all that have a velocity and critics."""
    have = [name for name in AGENTS if isinstance(setup.make(name, False), Source)]
    assert sorted(have) == list(TEACHERS)


def test_the_teacher_of_mvp_is_its_diagonal():
    """v_t = u_{t,t}, what Eq. 15 trains towards the velocity."""
    agent, s = setup.make("mvp", False), jnp.ones(setup.OBS)
    t, a = jnp.float32(0.3), jnp.linspace(-1.0, 1.0, D)
    taught = agent.teacher().velocity(t, a, s)
    np.testing.assert_array_equal(taught, agent.actor.model.average_velocity(t, t, a, s))
