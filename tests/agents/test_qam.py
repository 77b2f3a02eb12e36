"""QAM and its variants against numpy, where their gradients go, and what is refused or reported."""

import dataclasses

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import QAM, bam, qam_e, qam_f
from flowpolicy.agents.heads import EditHead, FlowHead, OneStepHead, edit_law, edit_terms
from flowpolicy.agents.qam import back_propagate, match_adjoint
from flowpolicy.agents.td import TDCritic
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap, Integrated, adjoint_matching, lean_adjoint, memoryless_path
from flowpolicy.nets import LARGEST, Adam, TanhGaussian
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.train.guards import Bounds, Fault, Guard, examine
from flowpolicy.values import Critic, mean

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION
SINGLE = {"act": OneStep(), "bootstrap": OneStep()}


def _train_a_little(config, count=2):
    """An agent whose averages are not what they follow: it matters which one is asked."""
    return setup.train(setup.build(config, False), jax.random.key(1), setup.batch(), count)


def _jacobian(net, t, a, s):
    """dv/da of by_hand's velocity, (batch, out, in), by central differences in double precision."""
    eps, columns = 1e-5, []
    for i in range(a.shape[1]):
        e = eps * np.eye(a.shape[1])[i]
        difference = by_hand.velocity(net, t, a + e, s) - by_hand.velocity(net, t, a - e, s)
        columns.append(difference / (2 * eps))
    return np.stack(columns, axis=-1)


def _path(key, flow, base, steps, s):
    """Points (steps + 1, batch, d) of the SDE of ``flow``, its end a step of ``base``."""
    h, size = 1 / steps, len(s)
    keys = jax.vmap(jax.random.split)(jax.random.split(key, size))
    a = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (D,)))(keys[:, 0]))
    noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (steps - 1, D)))(keys[:, 1]))
    points = [a]
    for i in range(steps - 1):
        t = np.full(size, i * h)
        drift = 2 * by_hand.velocity(flow, t, a, s) - a / (i * h + h)
        sigma = np.sqrt(2 * (1 - i * h + h) / (i * h + h))
        a = a + h * drift + np.sqrt(h) * sigma * noise[:, i]
        points.append(a)
    return [*points, a + h * by_hand.velocity(base, np.full(size, 1 - h), a, s)]


def _q_slope(critic, s, a, eps=1e-5):
    """d mean_k Q_k(s, clip(a)) / da by central differences."""

    def q(a):
        return by_hand.critics(critic, s, np.clip(a, -1, 1)).mean(0)

    rows = [eps * np.eye(D)[i] for i in range(D)]
    return np.stack([(q(a + e) - q(a - e)) / (2 * eps) for e in rows], axis=-1)


def test_an_update_is_the_equations():
    """Losses of critic, v_beta and v to 1e-6: the SDE, the adjoint backwards, and the residual.

    The target critic gives the adjoint, by its mean; the TD target is pessimistic.
    """
    config = setup.config("qam", inverse_temperature=1.7, steps=4, **SINGLE)
    agent = _train_a_little(config)
    with by_hand.double(agent, setup.batch()) as (agent, data):
        after, metrics = setup.update(agent, KEY, data)
        key_next, key_clone, key_path, _ = jax.random.split(KEY, 4)
        s, following = np.asarray(data.obs), np.asarray(data.next_obs)
        size, h = len(s), 0.25

        keys = jax.random.split(key_next, size)
        z = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (D,)))(keys))
        action = by_hand.euler(agent.actor.model.net, 4, z, following)
        q = by_hand.critics(agent.critic.target, following, action)
        y = np.asarray(data.reward) + np.asarray(data.discount) * (q.mean(0) - 0.5 * q.std(0))
        loss = by_hand.td_loss(agent.critic.online.model, y, data)
        assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)

        z, t = by_hand.cloning_draws(key_clone, size, D)
        net, mask = agent.behaviour.model.net, np.asarray(data.mask)
        cloned = by_hand.flow_matching(net, z, t, np.asarray(data.action), s, mask)
        assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)

        flow, base = agent.actor.model.net, after.base.net
        points = _path(key_path, flow, base, 4, s)
        g, total = -1.7 * _q_slope(after.critic.target, s, points[-1]), np.zeros(size)
        largest = 0.0
        for i in reversed(range(4)):
            now, later = np.full(size, i * h), np.full(size, i * h + h)
            slope = 2 * _jacobian(base, later, points[i], s) - np.eye(D) / (i * h + h)
            g = g + h * np.einsum("bij,bi->bj", slope, g)
            sigma = np.sqrt(2 * (1 - i * h + h) / (i * h + h))
            away = by_hand.velocity(flow, now, points[i], s)
            away = away - by_hand.velocity(base, now, points[i], s)
            total = total + np.sum((2 / sigma * away + sigma * g) ** 2, axis=-1)
            largest = max(largest, np.abs(g).max())
        assert metrics["qam/loss"] == pytest.approx(total.mean(), rel=1e-5)
        norm = np.linalg.norm(g, axis=-1).mean()
        assert metrics["qam/adjoint"] == pytest.approx(norm, rel=1e-5)
        assert metrics["qam/adjoint_largest"] == pytest.approx(largest, rel=1e-5)
        for new, old, online in zip(
            *map(jax.tree.leaves, (after.base, agent.base, after.behaviour.model)), strict=True
        ):
            np.testing.assert_allclose(new, 0.995 * old + 0.005 * online, rtol=1e-9)


def test_the_control_by_numpy():
    """BAM: -tau (mean - rho std) of the online critics, and h sum 2 |v - v_beta|^2 / sigma^2."""
    config = setup.config("bam", inverse_temperature=1.7, steps=4, **SINGLE)
    agent = _train_a_little(config)
    with by_hand.double(agent, setup.batch()) as (agent, data):
        flow, base, s = agent.actor.model.net, agent.base.net, np.asarray(data.obs)
        total, metrics = back_propagate(
            config, KEY, agent.actor.model, agent.base, agent.critic, data
        )
        points, h, cost = _path(KEY, flow, base, 4, s), 0.25, np.zeros(len(s))
        for i in range(4):
            t = np.full(len(s), i * h)
            away = by_hand.velocity(flow, t, points[i], s) - by_hand.velocity(base, t, points[i], s)
            cost = cost + h * 2 * np.sum(away**2, -1) / (2 * (1 - i * h + h) / (i * h + h))
        q = by_hand.critics(agent.critic.online.model, s, np.clip(points[-1], -1, 1))
        q = q.mean(0) - 0.5 * q.std(0)
        assert metrics["qam/cost"] == pytest.approx(cost.mean(), rel=1e-6)
        assert metrics["qam/q"] == pytest.approx(q.mean(), rel=1e-6)
        assert total == pytest.approx((cost - 1.7 * q).mean(), rel=1e-6)


def _norms(tree):
    return np.array([np.abs(leaf).max() for leaf in jax.tree.leaves(tree)])


def test_the_loss_trains_the_velocity_at_points_that_stand():
    """Its gradient is that with path and adjoint given as numbers; the control's goes through.

    Nothing reaches v_beta or the critics.
    """
    agent = _train_a_little(setup.config("qam"))
    config, data = agent.config, setup.batch()

    def standing(flow, path, adjoint):
        one = lambda p, g, s: adjoint_matching(flow, agent.base, p, g, s)  # noqa: E731
        return jnp.mean(jax.vmap(one)(path, adjoint, data.obs))

    def numbers(key, s):
        path = memoryless_path(key, agent.actor.model, agent.base, config.steps, s)
        q = lambda a: jnp.mean(agent.critic.target(s, jnp.clip(a, -1.0, 1.0)))  # noqa: E731
        return path, lean_adjoint(agent.base, path, -jax.grad(q)(path[-1]), s)

    def loss(improve, flow, base, critic):
        return improve(config, KEY, flow, base, critic, data)[0]

    given = jax.jit(jax.vmap(numbers))(jax.random.split(KEY, setup.BATCH), data.obs)
    wanted = jax.jit(jax.grad(standing))(agent.actor.model, *given)
    slopes = jax.jit(jax.grad(lambda *x: loss(match_adjoint, *x), argnums=(0, 1), allow_int=True))(
        agent.actor.model, agent.base, agent.critic
    )
    for one, other in zip(*map(jax.tree.leaves, (slopes[0], wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert not _norms(slopes[1]).any()
    through = jax.jit(jax.grad(lambda *x: loss(back_propagate, *x), argnums=(0, 1)))(
        agent.actor.model, agent.base, agent.critic
    )
    assert not _norms(through[1]).any()
    assert _norms(through[0]).all()


class Line(eqx.Module):
    """Q(s, a) = slope . a."""

    slope: jax.Array

    def __call__(self, s, a):
        return jnp.dot(self.slope, a)


class Still(eqx.Module):
    """v = 0."""

    def __call__(self, r, t, a, s):
        return jnp.zeros_like(a)


class Stretch(eqx.Module):
    """v = by a."""

    by: jax.Array

    def __call__(self, r, t, a, s):
        return self.by * a


def _lines(*slopes):
    return Critic(Line(jnp.array(slopes)))


def test_the_adjoint_begins_inside_the_box_alone():
    """v = 0 in both: g_1 is -tau times the mean slope in entries that end inside, and 0 outside.

    Then g_0 = 0, as 1 - h / (t + h) is 0 in the first step.
    """
    critic = TDCritic.create(_lines([3.0, 0.0], [1.0, -2.0]), Adam(), 0.005)
    flow = FlowMap(Still(), 2)
    ends, largest = [], []
    data = jax.tree.map(lambda x: x[:1], setup.batch())
    for i in range(20):
        _, metrics = match_adjoint(
            QAM(inverse_temperature=2.0), jax.random.key(i), flow, flow, critic, data
        )
        (key,) = jax.random.split(jax.random.key(i), 1)
        ends.append(np.asarray(memoryless_path(key, flow, flow, 10, data.obs[0])[-1]))
        largest.append(float(metrics["qam/adjoint_largest"]))
        assert metrics["qam/adjoint"] == pytest.approx(0.0, abs=1e-6)
    # One step back from the end, from time 0.9 + h: 1 - h / 1.
    wanted = 0.9 * 2.0 * np.max(np.abs([2.0, -1.0]) * (np.abs(ends) < 1), axis=-1)
    assert len(np.unique(wanted)) == 3
    np.testing.assert_allclose(largest, wanted, rtol=1e-5)


def test_the_one_step_head_is_fql_s_actor_on_the_flow():
    """alpha |mu - clip(flow)|^2 - mean Q: its metrics by numpy, and its step follows alpha."""
    agent = _train_a_little(setup.config("qam_f", **SINGLE))
    with by_hand.double(agent, setup.batch()) as (agent, data):
        after, metrics = setup.update(agent, KEY, data)
        s, key = np.asarray(data.obs), jax.random.split(KEY, 4)[3]
        z = np.asarray(jax.random.normal(key, data.action.shape))
        mu = by_hand.mlp(agent.head.actor.model, s, z)
        taught = by_hand.euler(after.actor.model.net, 3, z, s)
        q = by_hand.critics(after.critic.online.model, s, np.clip(mu, -1, 1))
        assert metrics["head/distillation"] == pytest.approx(np.mean((mu - taught) ** 2), rel=1e-6)
        assert metrics["head/q"] == pytest.approx(q.mean(), rel=1e-6)


def _next_action(agent, key, following):
    """What the head makes of the flow at each next observation, drawn as a refiner draws."""
    keys = jax.random.split(key, len(following))
    draw = jax.vmap(lambda k: jax.random.normal(k, (D,)))
    if isinstance(agent.config.head, OneStepHead):
        return by_hand.mlp(agent.head.actor.model, following, np.asarray(draw(keys)))
    keys = jax.vmap(jax.random.split)(keys)
    noise, z = np.asarray(draw(keys[:, 0])), np.asarray(draw(keys[:, 1]))
    a = by_hand.euler(agent.actor.model.net, agent.config.steps, z, following)
    law = jax.vmap(lambda a, s: edit_law(agent.head.net.model, a, s))(jnp.asarray(a), following)
    return a + agent.config.head.scale * np.tanh(law.mean + np.exp(law.log_std) * noise)


@pytest.mark.parametrize("name", ["qam_f", "qam_e"])
def test_the_td_target_takes_the_action_of_what_acts(name):
    """QAM-F's one-step actor, QAM-E's flow with an edit that is drawn, not the flow itself: the
    critics' loss to 1e-6 by the next action in numpy, pessimistic, without entropy."""
    agent = _train_a_little(setup.config(name, steps=3, **SINGLE))
    with by_hand.double(agent, setup.batch()) as (agent, data):
        _, metrics = setup.update(agent, KEY, data)
        following = jnp.asarray(data.next_obs)
        action = _next_action(agent, jax.random.split(KEY, 4)[0], following)
        q = by_hand.critics(agent.critic.target, np.asarray(following), np.clip(action, -1, 1))
        y = np.asarray(data.reward) + np.asarray(data.discount) * (q.mean(0) - 0.5 * q.std(0))
        loss = by_hand.td_loss(agent.critic.online.model, y, data)
        assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)
        assert metrics["critic/target_mean"] == pytest.approx(y.mean(), rel=1e-6)


def _taught(alpha, critic, shift=0.2, steps=60):
    """How far mu(s, z) = z + shift gets from a flow that stands still."""

    class Net:
        def init(self, key, spec, size):
            return Shift(jnp.full(size, shift))

    head = OneStepHead(alpha, Net()).init(KEY, setup.SPEC, 2, Adam(rate=1e-2))
    flow, data = Integrated(FlowMap(Still(), 2), 3), setup.batch()
    data = dataclasses.replace(data, action=data.action[:, :2], mask=data.mask[:, :2])
    learn = jax.jit(lambda h, k: h.learn(k, flow, critic, data)[0])
    for key in jax.random.split(KEY, steps):
        head = learn(head, key)
    return np.asarray(head.actor.model.by)


class Shift(eqx.Module):
    """mu(s, z) = z + by."""

    by: jax.Array

    def __call__(self, z, s):
        return z + self.by


def test_the_one_step_head_weighs_teacher_against_critics():
    """A heavy alpha takes mu to the flow, a light one up the critics' mean slope, (2, -1)."""
    critic = _lines([3.0, 0.0], [1.0, -2.0])
    np.testing.assert_allclose(_taught(1e4, critic), 0.0, atol=0.1)
    light = _taught(1e-4, critic)
    assert light[0] > 0.5
    assert light[1] < -0.1


class Law(eqx.Module):
    """The same law of the edit at every action."""

    mean: jax.Array
    log_std: jax.Array

    def __call__(self, s):
        return TanhGaussian(self.mean, self.log_std)


@dataclasses.dataclass(frozen=True)
class LawNet:
    log_std: float = 0.0

    def init(self, key, spec, action):
        return Law(jnp.full(action, 0.3), jnp.full(action, self.log_std))


def test_an_edit_is_bounded_and_drawn_anew():
    """|action - clip(flow)| <= scale, in every entry; the agent's own action has another for each
    key, ``flow()`` the middle of the law; what comes before the end is the flow's."""
    config = setup.config("qam", head=EditHead(scale=0.2, net=LawNet(0.5)), **SINGLE)
    agent = setup.build(config, False)
    flow, plain = agent.flow(), Integrated(agent.actor.model, 3)
    zero, half, one = jnp.zeros(()), jnp.asarray(0.5), jnp.ones(())
    s, z = jnp.ones(setup.OBS), jnp.array([-3.0, 0.1, 0.4, 3.0])
    unedited = jnp.clip(plain.flow(zero, one, z, s), -1, 1)
    wanted = jnp.clip(unedited + 0.2 * jnp.tanh(0.3), -1, 1)
    np.testing.assert_allclose(flow.flow(zero, one, z, s), wanted, atol=1e-6)
    np.testing.assert_allclose(flow.flow(zero, half, z, s), plain.flow(zero, half, z, s))
    assert (flow.nfe(0.0), flow.action) == (4, D)

    key_edit, key_refine = jax.random.split(KEY)
    noise = jax.random.normal(key_edit, (D,))
    start = jax.random.normal(key_refine, (D,))
    base = jnp.clip(plain.flow(zero, one, start, s), -1, 1)
    drawn = jnp.clip(base + 0.2 * jnp.tanh(0.3 + np.exp(0.5) * noise), -1, 1)
    np.testing.assert_allclose(agent.act(KEY, s, ())[0], drawn, atol=1e-6)


def test_the_edit_s_terms_by_numpy():
    """Q at the edited action of the flow and -log of the tanh-Gaussian's density there."""
    critic, flow = _lines([3.0, 0.0], [1.0, -2.0]), Integrated(FlowMap(Still(), 2), 3)
    net, config = Law(jnp.full(2, 0.3), jnp.full(2, -0.4)), EditHead(scale=0.5)
    q, entropy = edit_terms(KEY, config, net, flow, critic, jnp.ones(3))
    key_flow, key_edit = jax.random.split(KEY)
    a = np.clip(np.asarray(jax.random.normal(key_flow, (2,)), float), -1, 1)
    z = np.asarray(jax.random.normal(key_edit, (2,)), float)
    e = np.tanh(0.3 + np.exp(-0.4) * z)
    density = -(z**2) / 2 - 0.5 * np.log(2 * np.pi) + 0.4 - np.log(1 - e**2)
    assert q == pytest.approx(np.array([2.0, -1.0]) @ np.clip(a + 0.5 * e, -1, 1), rel=1e-5)
    assert entropy == pytest.approx(-density.sum(), rel=1e-4)

    def through(by):
        flow = Integrated(FlowMap(Stretch(by), 2), 3)
        return edit_terms(KEY, config, net, flow, critic, jnp.ones(3))[0]

    assert jax.grad(through)(jnp.float32(-1.5)) == 0
    seen = []
    edit_law(lambda x: (seen.append(x), Law(*2 * [jnp.ones(2)])(x))[1], jnp.ones(2), jnp.ones(3))
    assert {k: v.shape for k, v in seen[0].items()} == {"action": (2,), "obs": (3,)}


class Bowl(eqx.Module):
    """Q(s, a) = -5 |a|^2; the leaf makes it a net."""

    zero: jax.Array

    def __call__(self, s, a):
        return self.zero - 5.0 * jnp.sum(jnp.square(a))


@pytest.mark.parametrize("log_std", [-3.0, 0.0])
def test_the_edit_keeps_its_entropy(log_std):
    """The temperature takes it to the target from below and from above, at actions that no edit
    makes better (the flow's two Euler steps of v = -2 a end at 0); averages of the last 200 of
    600 steps."""
    data, critic = setup.batch(), Critic(Bowl(jnp.zeros(2)))
    flow = Integrated(FlowMap(Stretch(jnp.float32(-2.0)), D), 2)
    head = EditHead(scale=0.5, entropy=-0.7, temperature=0.1, net=LawNet(log_std))
    state = head.init(KEY, setup.SPEC, D, Adam(rate=3e-2))

    @jax.jit
    def run(state, keys):
        return jax.lax.scan(lambda h, k: h.learn(k, flow, critic, data), state, keys)

    state, metrics = run(state, jax.random.split(KEY, 600))
    entropy = metrics["head/entropy"]
    assert float(entropy[0] + 0.7 * D) * (1 if log_std else -1) < -0.5
    assert float(entropy[-200:].mean()) == pytest.approx(-0.7 * D, abs=0.3)
    np.testing.assert_allclose(jnp.tanh(state.net.model.mean), 0.0, atol=0.1)


def test_nothing_of_a_head_reaches_the_flow():
    """Cloning and critics are the same with every head where nothing is bootstrapped."""
    data = dataclasses.replace(setup.batch(), discount=jnp.zeros(setup.BATCH))
    first, *others = (
        setup.update(setup.make(name, False, **SINGLE), KEY, data)[0]
        for name in ("qam", "qam_f", "qam_e")
    )
    for other in others:
        for field in ("behaviour", "base", "critic"):
            same = zip(*(jax.tree.leaves(getattr(x, field)) for x in (first, other)), strict=True)
            assert all(np.allclose(x, y, rtol=1e-5, atol=1e-6) for x, y in same)


def test_an_adjoint_that_overflows_is_reported_and_stops_the_update():
    """Not finite in the metrics; the velocity stays, and the guard calls the update bad."""
    agent = setup.make("qam", False, steps=10, optimiser=Adam(clip=1.0))
    huge = jax.tree.map(lambda x: 1e20 * x, agent.base)
    agent = dataclasses.replace(agent, base=huge)
    after, metrics = setup.update(agent, KEY, setup.batch())
    assert not np.isfinite(metrics["qam/adjoint_largest"])
    assert not np.isfinite(metrics["qam/loss"])
    assert after.actor.norm >= LARGEST
    for old, new in zip(*(jax.tree.leaves(a.actor.model) for a in (agent, after)), strict=True):
        np.testing.assert_array_equal(old, new)
    wide = Bounds(*(jnp.full((), x) for x in (-1e9, 1e9, 1.0)))
    _, _, faults = examine(Guard(), wide, after, setup.batch(), metrics)
    assert Fault.LOSS in Fault(int(faults))


def test_the_papers_settings():
    """Ten critics at rho = 0.5, ten steps, chunks of 5, one action of what acts."""
    agent = QAM()
    assert (agent.chunk, agent.steps, agent.ensemble, agent.tau) == (5, 10, 10, 0.005)
    assert (agent.act, agent.bootstrap, agent.head) == (OneStep(), OneStep(), FlowHead())
    assert agent.aggregate(jnp.array([1.0, 3.0])) == pytest.approx(2 - 0.5 * 1)
    assert agent.optimiser == Adam(rate=3e-4, clip=1.0)
    assert qam_f(alpha=3.0, inverse_temperature=10.0).head == OneStepHead(alpha=3.0)
    assert qam_e(scale=0.9).head == EditHead(scale=0.9, entropy=-0.5, temperature=1.0)
    assert bam(aggregate=mean) == QAM(improve=back_propagate, aggregate=mean)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"steps": 1}, "qam.steps must be at least 2, got 1.*paper has 10"),
        ({"inverse_temperature": 0.0}, "above 0 and finite, got 0.0.*between 0.1 and 30"),
        ({"inverse_temperature": float("inf")}, "got inf.*no law to sample"),
        ({"inverse_temperature": float("nan")}, "got nan"),
        ({"tau": 0.0}, r"tau in.*0\.005.*got 0\.0"),
        ({"ensemble": 0}, "ensemble >= 1 .*2 to 10.*and 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, why):
    """With the field, the value, the reason and the paper's range."""
    with pytest.raises(InvalidConfig, match=why):
        QAM(**wrong)


@pytest.mark.parametrize(
    ("head", "wrong", "paper"),
    [
        (OneStepHead, {"alpha": 0.0}, "3 to 300.*QAM without this actor"),
        (OneStepHead, {"alpha": float("inf")}, "3 to 300"),
        (EditHead, {"scale": 0.0}, r"0\.1 and 0\.9.*stands for QAM"),
        (EditHead, {"scale": float("nan")}, r"0\.1 and 0\.9"),
        (EditHead, {"scale": 5.0}, r"2 is the width of the box.*got 5"),
        (EditHead, {"temperature": 0.0}, r"temperature > 0 \(1\)"),
        (EditHead, {"temperature": float("inf")}, r"temperature > 0 \(1\)"),
        (EditHead, {"entropy": float("nan")}, r"\(-0\.5\)"),
        (EditHead, {"entropy": 0.7}, r"\(-0\.5\) below the 0\.69 nats of a uniform entry"),
    ],
)
def test_heads_that_do_nothing_are_refused(head, wrong, paper):
    """The paper's 0 means that there is no such head."""
    ((field, value),) = wrong.items()
    with pytest.raises(InvalidConfig, match=rf"(?=.*{field})(?=.*got.*{value}).*{paper}"):
        head(**wrong)


def test_candidates_share_the_edit_and_are_ranked_with_it():
    """Best-of-N takes the best edited candidate of one draw."""
    config = setup.config("qam_e", act=BestOfN(4))
    agent, s = setup.build(config, False), jnp.ones(setup.OBS)
    key_edit, key_refine = jax.random.split(KEY)
    noise = jax.random.normal(key_edit, (D,))
    flow = dataclasses.replace(agent.flow(), noise=noise)
    drawn = [OneStep()(k, flow, lambda a: a[0], s) for k in jax.random.split(key_refine, 4)]
    best = max(drawn, key=lambda a: float(agent.value(s, a)))
    np.testing.assert_allclose(agent.act(KEY, s, ())[0], best, atol=1e-5)
