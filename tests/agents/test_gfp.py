"""GFP against numpy, FQL as its special case, what the guidance weighs, and where gradients go."""

import dataclasses

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents import GFP
from flowpolicy.agents.gfp import actor_loss, advantage_guidance, guidance, normaliser
from flowpolicy.agents.gfp import target as td_target
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap, Integrated
from flowpolicy.nets import LARGEST, Adam
from flowpolicy.refine import OneStep
from flowpolicy.train.guards import Bounds, Fault, Guard, examine
from flowpolicy.values import Critic, mean, member, minimum

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION


def _leaves(agent, names=("behaviour", "actor", "critic")):
    return [x for name in names for x in jax.tree.leaves(getattr(agent, name))]


def test_without_guidance_it_is_fql_with_a_normalised_critic():
    """eta = 0: every parameter and moment after two updates, to 1e-9."""
    data = setup.batch()
    shared = {"alpha": 0.7, "act": OneStep(), "bootstrap": OneStep()}
    gfp = setup.make("gfp", False, eta=0.0, **shared)
    fql = setup.make("fql", False, normalise_q=True, **shared)
    with by_hand.double(gfp, fql, data) as (gfp, fql, data):
        gfp, fql = (setup.train(agent, KEY, data, 1) for agent in (gfp, fql))
        (gfp, said), (fql, _) = (setup.update(agent, KEY, data) for agent in (gfp, fql))
        assert not [name for name in said if name.startswith("weights/")]
        for ours, theirs in zip(_leaves(gfp), _leaves(fql), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


RULES = [
    {"target": member(0), "reference": member(0), "aggregate": mean},
    {"target": mean, "reference": minimum, "aggregate": minimum},
    {"target": mean, "target_use_next": False, "guidance": advantage_guidance, "eta": 0.5},
]


@pytest.mark.parametrize("rules", RULES)
def test_an_update_is_the_equations(rules):
    """All losses of one update to 1e-6, by both rules of the target and of the reference, and as
    released with VaBC's next action drawn at s."""
    config = setup.config("gfp", **{"alpha": 0.7, "eta": 0.1, "act": OneStep(), **rules})
    data = setup.batch()
    agent = setup.train(setup.build(config, False), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        _compare(config, agent, data)


def _put_together(aggregate, q):
    return {"mean": np.mean, "minimum": np.min}.get(
        getattr(aggregate, "__name__", ""), lambda q, axis: q[0]
    )(q, axis=0)


def _compare(config, agent, data):
    size, d = data.action.shape
    after, metrics = setup.update(agent, KEY, data)
    key_next, key_flow, key_actor = jax.random.split(KEY, 3)
    s, following, action = (np.asarray(x) for x in (data.obs, data.next_obs, data.action))

    def value(critic, s, a):
        return _put_together(config.aggregate, by_hand.critics(critic, s, np.clip(a, -1, 1)))

    def proposed(z, s, t):
        cloned = by_hand.euler(agent.behaviour.model.net, config.steps, z, t)
        return by_hand.mlp(agent.actor.model, s, z), cloned

    z = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (d,)))(jax.random.split(key_next, size)))
    at = following if config.target_use_next else s
    q = np.stack([value(agent.critic.target, following, a) for a in proposed(z, following, at)])
    y = np.asarray(data.reward) + np.asarray(data.discount) * _put_together(config.target, q)
    loss = by_hand.td_loss(agent.critic.online.model, y, data)
    assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)

    z = np.asarray(jax.random.normal(key_actor, (size, d)))
    student = by_hand.mlp(agent.actor.model, s, z)
    own = value(after.critic.online.model, s, student)
    scale = 1 / np.abs(own).mean()
    target = after.critic.target
    q = np.stack([value(target, s, a) for a in proposed(z, s, s)])
    advantage = value(target, s, action) - _put_together(config.reference, q)
    x = scale * advantage / config.eta
    g = np.exp(x) if config.guidance is advantage_guidance else 1 / (1 + np.exp(-x))
    assert metrics["gfp/scale"] == pytest.approx(scale, rel=1e-6)
    assert metrics["weights/mean"] == pytest.approx(g.mean(), rel=1e-6)
    share = g.sum() ** 2 / (size * (g**2).sum())
    assert metrics["weights/effective_share"] == pytest.approx(share, rel=1e-6)

    noise, t = by_hand.cloning_draws(key_flow, size, d)
    mask = g[:, None] * np.asarray(data.mask)
    cloned = by_hand.flow_matching(agent.behaviour.model.net, noise, t, action, s, mask)
    assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)

    teacher = by_hand.euler(after.behaviour.model.net, config.steps, z, s)
    distance = np.mean((student - teacher) ** 2)
    assert metrics["gfp/distillation"] == pytest.approx(distance, rel=1e-6)
    assert metrics["gfp/q"] == pytest.approx(own.mean(), rel=1e-6)


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


class Still(eqx.Module):
    """The velocity ``by``, whatever the time."""

    by: jax.Array

    def __call__(self, r, t, a, s):
        return self.by


@dataclasses.dataclass(frozen=True)
class ShiftNet:
    """An actor that ends at the box's corner: its action is worth 4 or -4 of ``LineNet``."""

    by: float

    def init(self, key, spec, size):
        return Shift(jnp.full(size, self.by))


@dataclasses.dataclass(frozen=True)
class LineNet:
    """Q is the sum of the action's four entries."""

    def init(self, key, spec, size):
        return Line(jnp.ones(size))


def _guided(by, action, **changes):
    """One update on data that all have ``action`` (batch,) in every entry, and its faults."""
    nets = {"critic": LineNet(), "actor": ShiftNet(by), "optimiser": Adam(rate=1e-4)}
    agent = setup.make("gfp", False, **nets, **changes)
    data = setup.batch()
    data = dataclasses.replace(data, action=jnp.broadcast_to(action[:, None], data.action.shape))
    after, metrics = setup.update(agent, KEY, data)
    wide = Bounds(*(jnp.full((), x) for x in (-1e9, 1e9, 1.0)))
    _, _, faults = examine(Guard(), wide, after, data, metrics)
    models = (jax.tree.leaves(x.behaviour.model) for x in (agent, after))
    return metrics, Fault(int(faults)), after.behaviour.norm, all(map(np.array_equal, *models))


def test_a_batch_of_which_nothing_is_cloned_is_no_fault():
    """Every action is worse than the reference by 8, which eta = 1e-3 makes e^-2000: all weights
    are 0, the flow stays where it is, and the guards have nothing to say."""
    metrics, faults, norm, stays = _guided(9.0, jnp.full(setup.BATCH, -1.0), eta=1e-3)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    for name in ("mean", "effective_share", "overflow"):
        assert float(metrics[f"weights/{name}"]) == 0.0
    assert faults == Fault(0)
    assert (float(norm), stays) == (0.0, True)


def test_guidance_that_overflows_is_reported_and_not_followed():
    """exp of an advantage of 8 / 4 over eta = 0.01 is e^200, beyond float32, for the six better of
    eight actions: a share of 0.75 is told, nothing is clipped, the flow stays, and the guards call
    the update bad. The sigmoid bounds the same at 1."""
    action = jnp.ones(setup.BATCH).at[:2].set(-1.0)
    metrics, faults, norm, stays = _guided(-9.0, action, eta=0.01, guidance=advantage_guidance)
    assert float(metrics["weights/overflow"]) == 0.75
    assert np.isposinf(metrics["weights/mean"])
    assert np.isnan(metrics["weights/effective_share"])
    assert not np.isfinite(metrics["flow/diagonal"])
    assert Fault.LOSS in faults
    assert (float(norm), stays) == (pytest.approx(LARGEST), True)
    metrics, faults, *_ = _guided(-9.0, action, eta=0.01)
    assert float(metrics["weights/overflow"]) == 0.0
    assert float(metrics["weights/mean"]) == pytest.approx(0.75 + 0.25 / 2, rel=1e-3)
    assert faults == Fault(0)


def _case(by, slope=((2.0, 0.0),)):
    """A critic, and policies that move noise by ``by``: mu, and VaBC by the other way round."""
    by = jnp.asarray(by)
    pair = (Shift(by), Integrated(FlowMap(Still(-by), 2), 3))
    return Critic(Line(jnp.asarray(slope))), pair


def _data(action):
    data = jax.tree.map(lambda x: x[:1], setup.batch())
    fields = {"action": jnp.asarray([action]), "mask": jnp.ones((1, 2))}
    return eqx.tree_at(lambda d: (d.action, d.mask), data, tuple(fields.values()))


@pytest.mark.parametrize(("rule", "reference"), [(member(0), 2 * 0.3), (minimum, 2 * -0.3)])
def test_actions_above_the_reference_are_cloned(rule, reference):
    """Q(a) = 2 a_1, mu = 0.3, VaBC = -0.3: g = sigmoid(scale (2 a_1 - Q_ref) / eta) by hand, above
    a half for better actions, below for worse ones."""
    critic, pair = _case([0.3, 0.0])
    config = setup.config("gfp", eta=0.5, reference=rule)
    noise, scale = jnp.zeros((1, 2)), jnp.asarray(0.25)
    for a in (0.9, 0.0, -0.9):
        (g,) = guidance(config, scale, critic, pair, noise, _data([a, 0.0]))
        x = 0.25 * (2 * a - reference) / 0.5
        assert g == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-5)
        assert (g > 0.5) == (2 * a > reference)


@pytest.mark.parametrize("field", ["target", "reference"])
def test_a_third_policy_is_refused(field):
    """Where it is given, and not where it is traced: the values are those of two actions."""
    with pytest.raises(InvalidConfig, match=rf"gfp\.{field}.*0, the actor's.*1, VaBC's.*got 2"):
        setup.config("gfp", **{field: member(2)})
    assert setup.config("gfp", **{field: member(1)})


def test_the_guidance_trains_nothing():
    """Weights and normaliser are numbers to the critic, to mu and to VaBC."""
    critic, pair = _case([0.3, 0.1], slope=((2.0, 0.0), (1.0, -1.0)))
    config = setup.config("gfp", eta=0.5, reference=minimum)
    noise, data = jnp.full((1, 2), 0.2), _data([0.5, 0.5])

    def total(parts):
        critic, pair = parts
        scale = normaliser(config, pair[0], critic, noise, data.obs)
        return jnp.sum(guidance(config, scale, critic, pair, noise, data)) + scale

    gradient = jax.grad(total)((critic, pair))
    assert len(jax.tree.leaves(gradient)) == 3
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_the_actor_climbs_the_aggregate_by_the_scale_given():
    """-scale dQ/da + 2 alpha (mu - teacher) / d: Q of the lower critic here, teacher at 0.2 - 0.3
    and mu at 0.2 + 0.3, without a gradient into the teacher."""
    critic, (mu, teacher) = _case([0.3, 0.0], slope=((2.0, 0.0), (1.0, -1.0)))
    config = setup.config("gfp", alpha=3.0, aggregate=minimum)
    noise, obs = jnp.full((1, 2), 0.2), jnp.zeros((1, 3))

    def loss(mu, teacher):
        return actor_loss(config, mu, teacher, critic, jnp.asarray(0.25), noise, obs)[0]

    by, through = jax.grad(loss, argnums=(0, 1))(mu, teacher)
    pull = -0.25 * np.array([1.0, -1.0]) + 3.0 * 2 * np.array([0.6, 0.0]) / 2
    np.testing.assert_allclose(by.by, pull, atol=1e-6)
    np.testing.assert_array_equal(through.map.net.by, 0.0)


def test_the_switch_of_the_released_code_draws_at_s_and_values_at_the_next():
    """A VaBC that goes to s: with the switch off y sees Q(s', s), else Q(s', s'), beside mu's."""

    class Follow(eqx.Module):
        def __call__(self, r, t, a, s):
            return s[:2] - a

    critic = Critic(Line(jnp.array([[1.0, 0.0]])))
    pair = (lambda z, s: s[:2] / 2, Integrated(FlowMap(Follow(), 2), 1))
    data = jax.tree.map(lambda x: x[1], setup.batch())
    data = eqx.tree_at(
        lambda d: (d.obs, d.next_obs, d.action, d.reward, d.discount), data,
        (jnp.full(3, 0.1), jnp.full(3, -0.2), jnp.zeros(2), jnp.ones(()), jnp.asarray(0.9)),
    )  # fmt: skip
    for use_next, cloned in ((True, -0.2), (False, 0.1)):
        config = setup.config("gfp", target=mean, target_use_next=use_next)
        y = td_target(KEY, config, critic, pair, data)
        assert y == pytest.approx(1.0 + 0.9 * (-0.1 + cloned) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("field", "value", "released"),
    [
        ("alpha", -1.0, r"0\.01 to 10"), ("alpha", np.nan, r"0\.01 to 10"),
        ("alpha", np.inf, r"0\.01 to 10"), ("steps", 0, "10, or 30"),
        ("eta", -0.1, r"1e-6 to 0\.1"), ("eta", 1e-20, r"1e-6 to 0\.1"),
        ("eta", np.nan, r"1e-6 to 0\.1"), ("eta", np.inf, r"1e-6 to 0\.1"),
        ("tau", 2.0, r"0\.005"), ("ensemble", 0, "2 to 10"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(field, value, released):
    """With the field, the released runs' range, and the value."""
    with pytest.raises(InvalidConfig, match=rf"{field}.*{released}.*got.*{value}"):
        GFP(**{field: value})
