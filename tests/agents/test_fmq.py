"""FMQ against closed forms: a flow that is one constant vector, critics that are linear.

With u_theta constant and Q_k(s, a) = slope_k . a, Algorithm 1's optimum is u_off + eta g with
g = slope_0 / |slope_0|, whatever is drawn.
"""

import dataclasses

import agents_setup as setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents.cloning import Cloning, fmq_terms
from flowpolicy.agents.controls import DirectGradient
from flowpolicy.agents.fmq import effective_eta, fmq_loss, guidance, online_metrics, q_guidance
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.refine import BestOfN
from flowpolicy.types import Transition
from flowpolicy.values import Critic, mean, member, minimum

D = setup.CHUNK * setup.ACTION
SLOPE = np.array([3.0, 0.0, -4.0, 0.0], np.float32)
G = SLOPE / 5


class Constant(eqx.Module):
    """u_{r,t}(a | s) = u."""

    u: jax.Array

    def __call__(self, r, t, a, s):
        return self.u


class Line(eqx.Module):
    """Q(s, a) = slope . a."""

    slope: jax.Array

    def __call__(self, s, a):
        return jnp.dot(self.slope, a)


@dataclasses.dataclass(frozen=True)
class ConstantActor:
    def init(self, key, spec, action):
        return Constant(jnp.zeros(action))


@dataclasses.dataclass(frozen=True)
class LinearCritic:
    def init(self, key, spec, action):
        return Line(jnp.asarray(SLOPE))


RULES = ("aggregate_offline", "aggregate_online")


def _agent(online=True, slopes=(SLOPE, SLOPE), value=0.2, **changes):
    """An FMQ agent with a constant flow and a twin critic of the given slopes.

    Slopes and the flow's value are leaves: all tests that change no field share one program. The
    phase's own value is the mean of the critics; the other phase's rule is Q_2.
    """
    rules = dict(zip(RULES, (member(1), mean) if online else (mean, member(1)), strict=True))
    nets = {"actor": ConstantActor(), "critic": LinearCritic()}
    fields = {"eta": 0.3, "beta": 0.0, "tau": 0.5, "bootstrap": BestOfN(64), **nets, **rules}
    agent = setup.make("fmq", False, **{**fields, **changes})
    slopes = jnp.asarray(np.stack(slopes))
    where = lambda a: (  # noqa: E731
        a.critic.online.model.members.slope, a.critic.target.members.slope, a.actor.model.net.u,
    )  # fmt: skip
    agent = eqx.tree_at(where, agent, (slopes, jnp.copy(slopes), jnp.full(D, value)))
    return agent.begin_online(jax.random.key(0)) if online else agent


def _unteaching(size=setup.BATCH):
    """A batch that teaches the critic nothing, so that its slopes stay."""
    return dataclasses.replace(setup.batch(size), weight=jnp.zeros(size), mask=jnp.ones((size, D)))


def _guide(sample, value=0.2, slopes=(SLOPE, SLOPE), key=0, **changes):
    flow = FlowMap(Constant(jnp.full(D, value)), D)
    critic = Critic(Line(jnp.asarray(np.stack(slopes))))
    return guidance(jax.random.key(key), setup.config("fmq", **changes), flow, critic, sample)


def _guidance(agent, key):
    return guidance(key, agent.config, agent.reference, agent.critic.online.model, _one())


def _one():
    return jax.tree.map(lambda x: x[0], setup.batch(1))


def test_guidance_is_lines_6_to_9_of_algorithm_1():
    """r ~ U[0, 1), a_r = (1 - r) a_0 + r a with a_0 ~ N(0, I), a_1 = a_r + (1 - r) u_off, g.

    Four moments over 2000 draws, 4 entries each, within 6 sigma: a false alarm in 1e-8 of such
    tests, were the key new.
    """
    sample = _one()
    action = jnp.array([0.9, -0.9, 0.5, 0.0])
    sample = dataclasses.replace(sample, action=action)
    flow = FlowMap(Constant(jnp.full(D, 0.2)), D)
    critic = Critic(Line(jnp.stack([SLOPE, SLOPE])))
    config = setup.config("fmq")
    guides = jax.jit(jax.vmap(lambda k: guidance(k, config, flow, critic, sample)))(
        jax.random.split(jax.random.key(0), 2000)
    )
    r = np.asarray(guides.r)[:, None]
    assert r.min() >= 0
    assert r.max() < 1
    assert abs(r.mean() - 0.5) < 6 * np.sqrt(1 / 12 / 2000)
    assert abs(np.square(r).mean() - 1 / 3) < 6 * np.sqrt(4 / 45 / 2000)
    late = r < 0.9  # the noise is divided by 1 - r
    noise = ((np.asarray(guides.ar) - r * np.asarray(action)) / (1 - r))[late[:, 0]]
    assert abs(noise.mean()) < 6 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 6 * np.sqrt(2 / noise.size)
    np.testing.assert_allclose(guides.a1, guides.ar + (1 - r) * 0.2, atol=1e-6)
    np.testing.assert_allclose(guides.u_off, 0.2)
    np.testing.assert_allclose(guides.g, np.tile(G, (2000, 1)), atol=1e-6)


def test_the_reference_is_asked_for_the_jump_from_r_to_1():
    """u_off = u_{r,1}(a_r | s): not u_{r,r}, and not from r = 0."""
    flow = FlowMap(lambda r, t, a, s: a + 10.0 * r + 100.0 * t + s[0], D)
    critic, sample = Critic(Line(jnp.stack([SLOPE, SLOPE]))), _one()
    guide = guidance(jax.random.key(0), setup.config("fmq"), flow, critic, sample)
    wanted = guide.ar + 10 * guide.r + 100 + sample.obs[0]
    np.testing.assert_allclose(guide.u_off, wanted, rtol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_descent_on_the_loss_reaches_the_optimum(eta):
    """|u - u_off| -> eta_eff along g (Theorem 3.2): plain gradient descent on the mean square."""
    sample = dataclasses.replace(_one(), mask=jnp.ones(D))
    guide = _guide(sample)

    def step(u, _):
        loss = lambda u: fmq_loss(FlowMap(Constant(u), D), guide, jnp.float32(eta), sample)[0]  # noqa: E731
        return u - 1.0 * jax.grad(loss)(u), None

    u = jax.jit(lambda u: jax.lax.scan(step, u, length=60)[0])(jnp.full(D, -0.7))
    np.testing.assert_allclose(u, guide.u_off + eta * G, atol=1e-5)
    _, moved = fmq_loss(FlowMap(Constant(u), D), guide, jnp.float32(eta), sample)
    assert moved == pytest.approx(eta, abs=1e-5)


def test_updates_of_the_agent_reach_it_too():
    """The same through ``update``, Adam and all; the logged distance is the radius."""
    agent = setup.train(_agent(), jax.random.key(0), _unteaching(), 400)
    moved = np.asarray(agent.actor.model.net.u) - 0.2
    np.testing.assert_allclose(moved, 0.3 * G, atol=2e-3)
    _, metrics = setup.update(agent, jax.random.key(1), _unteaching())
    assert metrics["fmq/eta_eff"] == pytest.approx(0.3)
    assert metrics["fmq/moved"] == pytest.approx(0.3, abs=2e-3)
    np.testing.assert_array_equal(agent.reference.net.u, np.full(D, 0.2, np.float32))


def test_with_eta_0_the_reference_is_a_fixed_point():
    """Nothing moves, for a net as for a constant (gradient 0 up to rounding)."""
    agent = setup.train(_agent(eta=0.0), jax.random.key(0), _unteaching(), 5)
    np.testing.assert_array_equal(agent.actor.model.net.u, np.full(D, 0.2, np.float32))
    net, sample = setup.make("fmq", online=True, eta=0.0), _one()
    guide = guidance(jax.random.key(0), net.config, net.reference, net.critic.online.model, sample)
    gradient = jax.grad(lambda f: fmq_loss(f, guide, jnp.float32(0), sample)[0])(net.actor.model)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-6


@pytest.mark.parametrize(
    ("gradient", "direction"), [(member(0), 1.0), (member(1), -1.0), (mean, 0.0)]
)
def test_which_critic_gives_the_direction(gradient, direction):
    """Two critics of opposite slope: Q_phi1 alone by default, not the minimum or the mean."""
    assert setup.config("fmq").gradient == member(0)
    guide = _guide(_one(), slopes=(SLOPE, -SLOPE), gradient=gradient)
    np.testing.assert_allclose(guide.g, direction * G, atol=1e-6)


def test_the_minimum_would_point_elsewhere():
    """Where Q_1 > Q_2 the minimum climbs Q_2: the test above can tell them apart."""
    guides = [_guide(_one(), slopes=(SLOPE, -SLOPE), gradient=minimum, key=k) for k in range(8)]
    uphill = [float(g.a1 @ SLOPE) > 0 for g in guides]
    assert 0 < sum(uphill) < 8
    for guide, up in zip(guides, uphill, strict=True):
        np.testing.assert_allclose(guide.g, -G if up else G, atol=1e-6)


def test_effective_eta_in_closed_form():
    """eta / (1 + beta delta / mean delta); beta 0 is constant, no disagreement at all is finite."""
    delta = jnp.array([0.0, 1.0, 3.0])  # mean 4/3
    wanted = 0.6 / (1 + 0.5 * np.array([0, 0.75, 2.25]))
    np.testing.assert_allclose(effective_eta(0.6, 0.5, delta), wanted, rtol=1e-6)
    np.testing.assert_allclose(effective_eta(0.6, 0.0, delta), [0.6] * 3, rtol=1e-6)
    np.testing.assert_allclose(effective_eta(0.6, 0.5, 0 * delta), [0.6] * 3, rtol=1e-6)


def test_disagreement_is_the_spread_at_the_endpoint():
    """delta = std_k Q_k(s, a_1) over the online critics; it is logged."""
    guide = _guide(_one(), slopes=(SLOPE, 3 * SLOPE))
    assert guide.delta == pytest.approx(abs(float(guide.a1 @ SLOPE)), rel=1e-5)


def test_the_radius_adapts_by_beta():
    """eta_eff of an update is the mean of 0.3 / (1 + 0.5 delta / mean delta), critics 2 apart."""
    agent, data, key = _agent(beta=0.5, slopes=(SLOPE, 3 * SLOPE)), _unteaching(), jax.random.key(0)
    _, metrics = setup.update(agent, key, data)
    keys = jax.random.split(jax.random.split(key, 3)[1], setup.BATCH)
    critic = agent.critic.online.model
    guides = jax.vmap(lambda k, tr: guidance(k, agent.config, agent.reference, critic, tr))
    delta = np.asarray(guides(keys, data).delta)
    wanted = np.mean(0.3 / (1 + 0.5 * delta / delta.mean()))
    assert metrics["fmq/eta_eff"] == pytest.approx(wanted, rel=1e-5)


def test_clipping_changes_where_the_gradient_is_taken():
    """A quadratic Q = -|a - c|^2 / 2 with a_1 outside the box: g points from there to c."""

    class Bowl(eqx.Module):
        c: jax.Array

        def __call__(self, s, a):
            return -0.5 * jnp.sum(jnp.square(a - self.c))

    c, sample = np.array([0.5, -0.5, 0.0, 1.0], np.float32), _one()
    critic = Critic(Bowl(jnp.stack([c, c])))
    flow = FlowMap(lambda r, t, a, s: (jnp.array([2.0, -3.0, 4.0, 0.0]) - a) / (1.0 - r), D)
    for clip, at in ((False, [2.0, -3.0, 4.0, 0.0]), (True, [1.0, -1.0, 1.0, 0.0])):
        config = setup.config("fmq", clip_endpoint=clip)
        guide = guidance(jax.random.key(0), config, flow, critic, sample)
        np.testing.assert_allclose(guide.a1, [2.0, -3.0, 4.0, 0.0], atol=1e-4)
        wanted = (c - at) / np.linalg.norm(c - at)
        np.testing.assert_allclose(guide.g, wanted, atol=1e-4)


def test_no_gradient_reaches_the_reference_or_the_critic():
    """What is regressed onto is a constant."""
    agent, sample = setup.make("fmq", online=True), _one()

    def loss(reference, critic):
        guide = guidance(jax.random.key(0), agent.config, reference, critic, sample)
        eta = effective_eta(0.3, 0.3, guide.delta[None])[0]
        return fmq_loss(agent.actor.model, guide, eta, sample)[0]

    gradients = jax.grad(loss, argnums=(0, 1))(agent.reference, agent.critic.online.model)
    assert all(not np.any(x) for x in jax.tree.leaves(gradients))


def test_masked_entries_train_nothing():
    """The gradient by u is 2 (u - target) / D where the mask is 1, and 0 where it is 0."""
    mask = jnp.array([1.0, 0.0, 1.0, 0.0])
    sample = dataclasses.replace(_one(), mask=mask)
    guide = _guide(sample)
    loss = lambda u: fmq_loss(FlowMap(Constant(u), D), guide, jnp.float32(0.3), sample)[0]  # noqa: E731
    gradient = jax.grad(loss)(jnp.full(D, -0.7))
    wanted = np.asarray(mask) * 2 * (-0.7 - 0.2 - 0.3 * G) / D
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)


def test_cloning_ignores_masked_entries():
    """Offline, the constant flow's gradient is 0 where the mask is 0."""
    data = dataclasses.replace(setup.batch(), mask=jnp.tile(jnp.array([1.0, 0, 1, 0]), (8, 1)))
    cloning = Cloning(fmq_terms(0.0, 0.1), 10)
    loss = lambda u: cloning(jax.random.key(0), FlowMap(Constant(u), D), data, jnp.int32(5))[0]  # noqa: E731
    gradient = np.asarray(jax.grad(loss)(jnp.full(D, 0.2)))
    assert (gradient[[1, 3]] == 0).all()
    assert (gradient[[0, 2]] != 0).all()


@pytest.mark.parametrize("online", [False, True])
def test_the_next_action_is_ranked_by_the_online_critics_and_valued_by_the_target(online):
    """Target critics of slopes opposite to the online ones: what ranks best is valued worst.

    r = 0, discount 1: y = Q_target(s', a'), a' the best of 64 by the mean of the online critics,
    which is the phase's own rule (the other phase's, Q_2, slopes the other way).
    """
    agent = _agent(online, slopes=(SLOPE, -SLOPE / 2), value=0.0)
    agent = eqx.tree_at(lambda a: a.critic.target.members.slope, agent, -jnp.stack([SLOPE, SLOPE]))
    data = dataclasses.replace(
        _unteaching(), reward=jnp.zeros(setup.BATCH), discount=jnp.ones(setup.BATCH)
    )
    _, metrics = setup.update(agent, jax.random.key(0), data)
    assert -7.0 <= metrics["critic/target_max"] < -4.0


@pytest.mark.parametrize("online", [False, True])
def test_the_aggregate_of_each_phase(online):
    """Critics of 3 and -1 at a' = the corner (1, 1, 1, 1), mean 1: y = 0.5 + 0.9 * 1.

    The minimum is the default of both phases: clipped double Q.
    """
    assert (setup.config("fmq").aggregate_offline, setup.config("fmq").aggregate_online) == (
        minimum, minimum,
    )  # fmt: skip
    slopes = (np.full(D, 0.75, np.float32), np.full(D, -0.25, np.float32))
    agent, n = _agent(online, slopes=slopes, value=100.0), setup.BATCH
    data = dataclasses.replace(_unteaching(), reward=jnp.full(n, 0.5), discount=jnp.full(n, 0.9))
    _, metrics = setup.update(agent, jax.random.key(0), data)
    assert metrics["critic/target_mean"] == pytest.approx(1.4, abs=1e-5)
    assert agent.value(jnp.zeros(setup.OBS), jnp.ones(D)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("online", [False, True])
def test_the_target_follows_the_new_parameters(online):
    """tau = 1/2: the mean of the old target and the *new* parameters.

    With the lag of one step of the reference codes the target would not move at all here.
    """
    before = _agent(online)
    after, _ = setup.update(before, jax.random.key(0), setup.batch())
    old, new = (a.critic.online.model.members.slope for a in (before, after))
    assert float(jnp.abs(new - old).min()) > 1e-3
    np.testing.assert_allclose(after.critic.target.members.slope, 0.5 * (old + new), atol=1e-6)


def test_the_policy_is_guided_by_the_critic_after_its_step():
    """Algorithm 1 updates the critics first: a slope that this very update turns round counts,
    though the target's has hardly moved."""
    slope, n = np.full(D, 0.001, np.float32), setup.BATCH
    agent = _agent(slopes=(slope, slope), value=0.0, tau=0.005)
    data = Transition(
        jnp.zeros((n, setup.OBS)), jnp.ones((n, D)), jnp.full(n, -10.0), jnp.zeros(n),
        jnp.zeros((n, setup.OBS)), jnp.ones((n, D)), jnp.ones(n),
    )  # fmt: skip
    after, _ = setup.update(agent, jax.random.key(0), data)
    assert float(after.critic.online.model.members.slope.max()) < 0
    assert float(after.critic.target.members.slope.min()) > 0
    assert float(after.actor.model.net.u.max()) < 0


def test_schedules_are_fractions_of_the_offline_updates():
    """A term that starts at half of 10 updates counts from the count 5 on, and after the end."""
    terms, data = fmq_terms(0.5, 1.0), setup.batch()
    flow = setup.make("fmq", online=False).actor.model
    cloning = jax.jit(lambda count: Cloning(terms, 10)(jax.random.key(0), flow, data, count))
    for count, both in ((0, False), (4, False), (5, True), (10, True), (25, True)):
        total, metrics = cloning(jnp.int32(count))
        wanted = metrics["flow/diagonal"] + (metrics["flow/mean_flow"] if both else 0.0)
        assert total == pytest.approx(float(wanted), rel=1e-5)
    agent = setup.make("fmq", online=False)
    assert agent.cloning.updates == setup.SPEC.offline_updates == 10


def test_the_offline_loss_online():
    """0 by default, and then not computed; otherwise it trains, here where eta = 0 does not, in
    proportion to its weight."""
    plain = _agent(eta=0.0)
    after, metrics = setup.update(plain, jax.random.key(0), _unteaching())
    assert not any(name.startswith("flow/") for name in metrics)
    assert np.array_equal(after.actor.model.net.u, plain.actor.model.net.u)
    kept = _agent(eta=0.0, keep_offline_loss=0.5)
    after, metrics = setup.update(kept, jax.random.key(0), _unteaching())
    assert {"flow/diagonal", "flow/mean_flow"} <= set(metrics)
    assert not np.array_equal(after.actor.model.net.u, kept.actor.model.net.u)
    whole = _agent(eta=0.0, keep_offline_loss=1.0)
    twice, _ = setup.update(whole, jax.random.key(0), _unteaching())
    assert twice.actor.norm == pytest.approx(2 * float(after.actor.norm), rel=1e-5)


def test_eta_0_leaves_the_improvement_out_beside_a_kept_loss():
    """Only the offline loss is followed, to the bit: nothing of Q, nothing holds on to u_off."""
    actors = []
    for improve in (q_guidance, DirectGradient()):
        kept = _agent(eta=0.0, keep_offline_loss=0.5, improve=improve)
        after, metrics = setup.update(kept, jax.random.key(0), _unteaching())
        assert not any(name.startswith("fmq/") for name in metrics)
        actors.append(after.actor)
    for a, b in zip(*map(jax.tree.leaves, actors), strict=True):
        np.testing.assert_array_equal(a, b)


def test_distance_by_quarters_of_r():
    """``moved_r00`` .. ``moved_r75``, each the mean of what moved there; and the clipped share."""
    agent, n = _agent(), 400
    agent = eqx.tree_at(lambda a: a.actor.model.net.u, agent, agent.reference.net.u + 0.3 * G)
    guides = jax.vmap(lambda k: _guidance(agent, k))(jax.random.split(jax.random.key(0), n))
    moved = 0.3 + guides.r  # a distance that tells r
    metrics = online_metrics(guides, jnp.full(n, 0.3), moved)
    for i, quarter in enumerate(("00", "25", "50", "75")):
        assert metrics[f"fmq/moved_r{quarter}"] == pytest.approx(0.425 + i / 4, abs=0.05)
    assert metrics["fmq/moved"] == pytest.approx(float(moved.mean()), rel=1e-5)
    outside = np.abs(np.asarray(guides.a1)) > 1
    assert metrics["fmq/clipped_share"] == pytest.approx(outside.mean(), rel=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"eta": -1.0}, {"beta": -0.1}, {"keep_offline_loss": -1.0}, {"tau": 0.0},
              {"tau": 1.5}, {"ensemble": 0}],
)  # fmt: skip
def test_values_outside_their_range_are_refused(wrong):
    """The message names the field."""
    with pytest.raises(InvalidConfig, match=next(iter(wrong))):
        setup.config("fmq", **wrong)


@pytest.mark.parametrize("field", ["gradient", "aggregate_offline", "aggregate_online"])
def test_a_critic_that_there_is_not_is_refused(field):
    """Before the offline phase, also where only the online one would ask for it."""
    with pytest.raises(InvalidConfig, match=r"fmq: member.index must be in \[0, 2\).*got 2"):
        setup.config("fmq", **{field: member(2)})
