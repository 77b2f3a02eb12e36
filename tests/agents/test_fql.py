"""FQL against numpy, where its gradients go, and what refiners are given."""

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import FQL, fql_n, qc_fql
from flowpolicy.agents.fql import actor_loss
from flowpolicy.data.chunk import ChunkView, NStepView
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap, Integrated
from flowpolicy.refine import QGBS, BestOfN, OneStep
from flowpolicy.types import Spec, Transition
from flowpolicy.values import Critic, minimum

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION


def _cut(batch, d):
    """The first ``d`` entries of each action: a batch of shorter chunks."""
    fields = {"action": batch.action[:, :d], "mask": batch.mask[:, :d]}
    rest = {k: getattr(batch, k) for k in ("obs", "reward", "discount", "next_obs", "weight")}
    return Transition(**rest, **fields)


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("normalise", [False, True])
def test_an_update_is_the_equations(chunk, normalise):
    """All losses of one update to 1e-6, by one formula for FQL (h = 1) and QC-FQL (h > 1).

    The target takes mu's next action and the minimum here; the actor's loss takes the mean.
    """
    config = setup.config(
        "fql", chunk=chunk, alpha=0.7, normalise_q=normalise, aggregate=minimum, act=OneStep(),
        bootstrap=OneStep(),
    )  # fmt: skip
    data = _cut(setup.batch(), chunk * setup.ACTION)
    # Two updates, after which the target is not the online critic: it matters which one is asked.
    agent = setup.train(setup.build(config, False), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        _compare(config, agent, data)


def _compare(config, agent, data):
    size, d = data.action.shape
    after, metrics = setup.update(agent, KEY, data)
    key_next, key_flow, key_actor = jax.random.split(KEY, 3)
    s, following = np.asarray(data.obs), np.asarray(data.next_obs)

    z = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (d,)))(jax.random.split(key_next, size)))
    action = np.clip(by_hand.mlp(agent.actor.model, following, z), -1, 1)
    next_q = by_hand.critics(agent.critic.target, following, action).min(0)
    y = np.asarray(data.reward) + np.asarray(data.discount) * next_q
    loss = by_hand.td_loss(agent.critic.online.model, y, data)
    assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)

    z, t = by_hand.cloning_draws(key_flow, size, d)
    net, mask = agent.behaviour.model.net, np.asarray(data.mask)
    cloned = by_hand.flow_matching(net, z, t, np.asarray(data.action), s, mask)
    assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)

    z = np.asarray(jax.random.normal(key_actor, (size, d)))
    student = by_hand.mlp(agent.actor.model, s, z)
    teacher = by_hand.euler(after.behaviour.model.net, config.steps, z, s)
    q = by_hand.critics(after.critic.online.model, s, np.clip(student, -1, 1)).mean(0)
    distance = np.mean((student - teacher) ** 2)
    assert metrics["fql/distillation"] == pytest.approx(distance, rel=1e-6)
    assert metrics["fql/q"] == pytest.approx(q.mean(), rel=1e-6)
    total, _ = actor_loss(
        config, agent.actor.model, Integrated(after.behaviour.model, config.steps),
        after.critic.online.model, jnp.asarray(z), data.obs,
    )  # fmt: skip
    scale = 1 / np.abs(q).mean() if config.normalise_q else 1.0
    assert total == pytest.approx(0.7 * distance - scale * q.mean(), rel=1e-6)


class Shift(eqx.Module):
    """mu(s, z) = z + by."""

    by: jax.Array

    def __call__(self, z, s):
        return z + self.by


class Line(eqx.Module):
    """Q(s, a) = slope . a."""

    slope: jax.Array

    def __call__(self, s, a):
        return jnp.dot(self.slope, a)


def _still(r, t, a, s):
    return jnp.zeros_like(a)


def _slope(noise, by, alpha, normalise=False):
    """The gradient of the actor's loss by mu's shift; the teacher leaves noise where it is."""
    config = setup.config("fql", alpha=alpha, normalise_q=normalise)
    critic = Critic(Line(jnp.array([[3.0, 0.0], [1.0, -2.0]])))  # mean slope (2, -1)
    teacher = Integrated(FlowMap(_still, 2), 3)
    obs, noise = jnp.zeros((len(noise), 1)), jnp.asarray(noise)
    loss = lambda mu: actor_loss(config, mu, teacher, critic, noise, obs)[0]  # noqa: E731
    return np.asarray(jax.grad(loss)(Shift(jnp.asarray(by))).by)


def test_the_critic_pulls_inside_the_box_and_not_outside():
    """-dQ/da = (-2, 1) for the mean critic inside; 0 in an entry that the box cuts."""
    np.testing.assert_allclose(_slope([[0.2, 0.3]], [0.0, 0.0], 0.0), [-2, 1], atol=1e-6)
    np.testing.assert_allclose(_slope([[0.2, 0.3]], [1.0, 0.0], 0.0), [0, 1], atol=1e-6)


def test_the_student_is_compared_unclipped_with_the_clipped_teacher():
    """z = (2, 0.5), mu = z + (1, 0): distance to clip(z) = (1, 0.5) is (2, 0), not clip(3) - 1."""
    slope = _slope([[2.0, 0.5]], [1.0, 0.0], alpha=3.0) - _slope([[2.0, 0.5]], [1.0, 0.0], 0.0)
    np.testing.assert_allclose(slope, [3 * 2 * 2.0 / 2, 0.0], atol=1e-5)


def test_a_normalised_critic_pulls_by_its_size_in_the_batch():
    """Divided by mean |Q| of mu's actions, which carries no gradient of its own: with it nothing
    would pull here, where all Q are positive."""
    noise = [[0.4, 0.1], [0.2, -0.3]]
    mean_q = np.mean(np.abs(np.asarray(noise) @ [2, -1]))
    plain, scaled = (_slope(noise, [0.0, 0.0], 0.0, normalise=n) for n in (False, True))
    np.testing.assert_allclose(scaled, plain / mean_q, rtol=1e-5)


def test_the_velocity_sees_its_own_loss_alone():
    """The same bits whatever alpha and the critic are; the actor moves otherwise."""
    data, agents = setup.batch(), [setup.make("fql", False, alpha=a) for a in (0.0, 100.0)]
    one, other = (setup.update(agent, KEY, data)[0] for agent in agents)
    same = lambda x, y: all(map(np.array_equal, jax.tree.leaves(x), jax.tree.leaves(y)))  # noqa: E731
    assert same(one.behaviour, other.behaviour)
    assert same(one.critic, other.critic)
    assert not same(one.actor.model, other.actor.model)


def test_the_teacher_gets_no_gradient():
    """Distillation is flat in the velocity; without the stop-gradient it is not."""
    agent, config = setup.make("fql", False), setup.config("fql", alpha=1.0)
    noise, obs = jnp.ones((2, D)), jnp.ones((2, setup.OBS))

    def loss(net):
        teacher = Integrated(FlowMap(net, D), 3)
        critic = agent.critic.online.model
        return actor_loss(config, agent.actor.model, teacher, critic, noise, obs)[0]

    gradient = jax.grad(loss)(agent.behaviour.model.net)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_refiners_draw_from_mu_and_go_on_by_the_behaviour_flow():
    """X_{0,1} = mu(s, z), one evaluation; from a later time the behaviour flow's Euler steps."""
    agent = setup.make("fql", False)
    flow, s, z = agent.flow(), jnp.ones(setup.OBS), jnp.linspace(-1.0, 1.0, D)
    zero, half, one = jnp.zeros(()), jnp.asarray(0.5), jnp.ones(())
    mu = agent.actor.model(z, s)
    np.testing.assert_allclose(flow.flow(zero, one, z, s), mu, atol=1e-6)
    np.testing.assert_allclose(flow.flow(zero, half, z, s), 0.5 * (z + mu), atol=1e-6)
    behaviour = Integrated(agent.behaviour.model, agent.config.steps)
    np.testing.assert_allclose(
        flow.flow(half, one, z, s), behaviour.flow(half, one, z, s), atol=1e-6
    )
    assert (flow.nfe(0.0), flow.nfe(0.5), flow.action) == (1, agent.config.steps, D)
    single = OneStep()(KEY, flow, lambda a: jnp.zeros(()), s)
    drawn = jnp.clip(agent.actor.model(jax.random.normal(KEY, (D,)), s), -1, 1)
    np.testing.assert_allclose(single, drawn, atol=1e-6)


def test_candidates_of_mu_never_run_the_behaviour_flow():
    """Under best-of-N's vmap too the branch is chosen, not computed and thrown away."""
    calls = []

    def net(r, t, a, s):
        jax.debug.callback(lambda _: calls.append(1), a)
        return a

    agent = setup.make("fql", False)
    agent = eqx.tree_at(lambda a: a.behaviour.model, agent, FlowMap(net, D))
    draw = jax.jit(lambda key, refiner: refiner(
        key, agent.flow(), lambda a: jnp.sum(a), jnp.ones(setup.OBS)
    ), static_argnums=1)  # fmt: skip
    draw(KEY, BestOfN(4)).block_until_ready()
    jax.effects_barrier()
    assert calls == []
    draw(KEY, QGBS(steps=1, beam=2, branches=2)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == 4 * agent.config.steps


def test_the_papers_settings():
    """FQL on single actions, QC-FQL on chunks of 5, FQL-n with 5-step returns; mu acts alone."""
    fql, chunks, n_step = FQL(), qc_fql(), fql_n()
    assert (fql.view, fql.steps, fql.act, fql.bootstrap) == (ChunkView(1), 10, OneStep(), OneStep())
    assert (chunks.view, chunks.alpha) == (ChunkView(5), 100.0)
    assert (n_step.view, n_step.alpha) == (NStepView(5), 100.0)
    assert qc_fql(chunk=1, alpha=300.0) == FQL(alpha=300.0)
    agent = n_step.init(jax.random.key(0), Spec(obs=(1,), action=2))
    assert agent.flow().action == 2


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"steps": 0}, {"tau": 2.0}, {"ensemble": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    """With the field and the value."""
    (field,) = wrong
    with pytest.raises(InvalidConfig, match=f"{field}.*{wrong[field]}"):
        FQL(**wrong)
