"""SFP against numpy: its loss on trajectories, what it streams call by call, what it refuses."""

import dataclasses
import functools

import agents_setup as setup
import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts, runs
from flowpolicy.agents import SFP
from flowpolicy.agents.sfp import Measured, last_action
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Latent, Stabilised
from flowpolicy.nets import Adam, MLPVelocity
from flowpolicy.train.normalise import MinMax, Standardise
from flowpolicy.types import Spec, Transition

KEY = jax.random.key(3)
OBS, ACTION = 3, 2
TUBES = {"stabilised": Stabilised(0.3, 1.5), "latent": Latent(0.2, 0.3, 1.5)}
STARTS = {"last": last_action, "measured": Measured((2, 0))}


def _config(tube, start, **changes):
    fields = {"horizon": 4, "execute": 3, "history": 2, "substeps": 2} | changes
    return SFP(tube=tube, start=start, actor=MLPVelocity(width=8, depth=1), **fields)


def _batch(size, horizon, history):
    """Random trajectories with a history each; the last ends after one action."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    mask = jnp.ones((size, horizon + 1, ACTION)).at[-1, 2:].set(0.0)
    points = jnp.clip(normal(size, horizon + 1, ACTION), -1, 1) * mask
    none, seen = jnp.zeros(size), normal(size, history, OBS)
    flat = points.reshape(size, -1), mask.reshape(size, -1)
    return Transition(seen, flat[0], none, none, seen, flat[1], none + 1.0)


def _start(start, last, now):
    return now[..., [2, 0]] if start is not last_action else last


def _tube(tube, t, a0, noise, z0, points):
    """State and velocity at t of the path from a0 + noise, by the paper's formulas."""
    n = len(points) - 1
    i = min(int(t * n), n - 1)
    slope = n * (points[i + 1] - points[i])
    xi = points[i] + (t - i / n) * slope
    k = tube.gain
    a, v = xi + (a0 + noise - points[0]) * np.exp(-k * t), slope
    if isinstance(tube, Stabilised):
        return a, v - k * (a - xi)
    added = np.sqrt(tube.sigma_end**2 - (tube.sigma_start * np.exp(-k)) ** 2)
    rest = 1 - tube.sigma_end
    a = a + added * t * z0
    va = v - k * (a - xi) + added * (1 + k * t) * z0
    z, vz = (1 - rest * t) * z0 + t * xi, xi + t * slope - rest * z0
    return np.concatenate([a, z]), np.concatenate([va, vz])


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("tube", TUBES.values(), ids=TUBES)
def test_an_update_is_the_equations(tube, start):
    """The loss of a batch to 1e-6, from the draws of its keys on."""
    config, size = _config(tube, start), 8
    agent = config.init(jax.random.key(1), Spec((OBS,), ACTION))
    with by_hand.double(agent, _batch(size, 4, 2)) as (agent, data):
        _, metrics = setup.update(agent, KEY, data)
        losses = []
        for i, key in enumerate(jax.random.split(KEY, size)):
            key_time, key_start = jax.random.split(key)
            t = float(jax.random.uniform(key_time, dtype=float))
            history = np.asarray(data.obs[i])
            points = np.array(data.action[i]).reshape(5, ACTION)
            points[0] = _start(start, points[0], history[-1])
            x0 = np.asarray(tube.start(key_start, jnp.zeros(ACTION)))
            noise, z0 = x0[:ACTION], x0[ACTION:]
            x, v = _tube(tube, t, points[0], noise, z0, points)
            net = agent.actor.model.net
            made = by_hand.velocity(net, np.array([t]), x[None], history.reshape(1, -1))[0]
            mask = np.asarray(data.mask[i]).reshape(5, ACTION)[1 + int(4 * t), 0]
            losses.append(mask * np.mean((made - v) ** 2))
        assert float(metrics["flow/streaming"]) == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("tube", TUBES.values(), ids=TUBES)
def test_acting_streams_one_trajectory_over_several_calls(tube, start):
    """Seven calls in numpy: what was seen when a trajectory began steers it to its end; after
    ``execute`` actions the next begins at the last one, or where the observation says."""
    config = _config(tube, start, spread=0.5)
    agent = config.init(jax.random.key(1), Spec((OBS,), ACTION))
    seen_all = np.random.default_rng(1).normal(size=(7, OBS)).astype(np.float32)
    act, memory = jax.jit(lambda *inputs: agent.act(*inputs)), agent.memory()
    last, x, seen = np.zeros(ACTION), None, None
    for n, obs in enumerate(seen_all):
        key = jax.random.fold_in(KEY, n)
        action, memory = act(key, jnp.asarray(obs), memory)
        if n % 3 == 0:
            seen = np.concatenate([seen_all[max(n - 1, 0)], obs])[None]
            x = np.asarray(tube.start(key, jnp.asarray(_start(start, last, obs)), 0.5))
        for j in range(2):
            t = (n % 3 + j / 2) / 4
            x = x + by_hand.velocity(agent.actor.model.net, np.array([t]), x[None], seen)[0] / 8
        last = np.clip(x[:ACTION], -1, 1)
        np.testing.assert_allclose(action, last, atol=1e-5)
        assert int(memory.count) == n + 1


def test_without_noise_a_trajectory_begins_at_the_last_action():
    """spread = 0 and a net that is 0 everywhere: the action 0 at first, for ever."""
    agent = _config(TUBES["stabilised"], last_action, spread=0.0).init(KEY, Spec((OBS,), ACTION))
    agent = jax.tree.map(lambda x: 0 * x, agent)
    action, memory = agent.act(KEY, jnp.ones(OBS), agent.memory())
    np.testing.assert_array_equal(action, 0.0)
    moved = type(memory)(memory.history, memory.seen, memory.state, action + 0.4, memory.count + 2)
    again, _ = agent.act(KEY, jnp.ones(OBS), moved)
    np.testing.assert_allclose(again, 0.4, atol=1e-6)


def test_observations_that_are_trees_are_flattened_in_one_order():
    """Acting remembers flat observations, training sees the view's history: the net sees the same,
    here told by an agent whose net has weights on single entries."""
    spec = Spec({"a": (1,), "b": (2,)}, ACTION)
    config = _config(TUBES["stabilised"], last_action, spread=0.0, substeps=1)
    agent = config.init(KEY, spec)
    obs = [{"a": jnp.array([0.1 * i]), "b": jnp.array([0.2, 0.3]) * i} for i in (1, 2)]
    _, memory = agent.act(KEY, obs[0], agent.memory())
    memory = type(memory)(
        memory.history, memory.seen, memory.state, memory.last, jnp.int32(config.execute)
    )
    _, memory = agent.act(KEY, obs[1], memory)
    together = jax.tree.map(lambda *x: jnp.stack(x), *obs)
    data = jax.tree.map(lambda x: x[:1], _batch(2, 4, 2))
    data = Transition(
        jax.tree.map(lambda x: x[None], together), data.action, data.reward, data.discount,
        data.next_obs, data.mask, data.weight,
    )  # fmt: skip
    as_vectors = Transition(
        memory.seen.reshape(1, 2, OBS), data.action, data.reward, data.discount, data.next_obs,
        data.mask, data.weight,
    )  # fmt: skip
    (_, one), (_, two) = (agent.update(KEY, d) for d in (data, as_vectors))
    assert float(one["flow/streaming"]) == pytest.approx(float(two["flow/streaming"]), rel=1e-5)


@functools.cache
def _bandit(tube):
    """Trained on one action of either mode, (-+0.5, 0) with width 0.1, from the action 0."""
    config = SFP(
        horizon=1, execute=1, history=1, substeps=10, tube=tube,
        optimiser=Adam(rate=3e-3), actor=MLPVelocity(width=24, depth=2),
    )  # fmt: skip
    agent = config.init(jax.random.key(0), Spec((1,), ACTION))

    def step(agent, key):
        key_side, key_wide, key_update = jax.random.split(key, 3)
        side = jax.random.rademacher(key_side, (64,), jnp.float32)
        centre = jnp.stack([0.5 * side, jnp.zeros(64)], axis=1)
        action = centre + 0.1 * jax.random.normal(key_wide, (64, ACTION))
        points = jnp.concatenate([jnp.zeros_like(action), action], axis=1)
        none, obs = jnp.zeros(64), jnp.zeros((64, 1))
        data = Transition(obs, points, none, none, obs, jnp.ones_like(points), none + 1.0)
        return agent.update(key_update, data)

    keys = jax.random.split(jax.random.key(1), 800)
    agent = jax.jit(lambda a: jax.lax.scan(step, a, keys)[0])(agent)
    draw = jax.jit(jax.vmap(lambda k: agent.act(k, jnp.zeros(1), agent.memory())[0]))
    return np.asarray(draw(jax.random.split(jax.random.key(2), 4000)))


@pytest.mark.parametrize("tube", [Stabilised(0.2, 1.0), Latent(0.2, 0.1, 1.0)], ids=TUBES)
def test_both_modes_are_kept(tube):
    """Within 0.35 of either centre: 0.33 and 0.41 of 40 000 actions, and 0.30 and 0.33.

    The nearest bound, of the sum of the latter, is 4.3 standard deviations of 4000 actions away:
    other keys of the same nets would pass it in 1e-5 of such tests.
    """
    action = _bandit(tube)
    near = [np.mean(np.linalg.norm(action - np.array([x, 0]), axis=1) < 0.35) for x in (-0.5, 0.5)]
    assert min(near) > 0.25
    assert sum(near) > 0.6


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"chunk": 5}, "chunk must be 1, got 5.*streams.*15.*16 points.*8"),
        ({"horizon": 0}, "horizon.*got 0"),
        ({"execute": 16}, r"execute in 1 \.\. horizon.*16"),
        ({"history": 0}, "history.*got 15, 0"),
        ({"substeps": 0}, "substeps.*got 15, 2, 0"),
        ({"spread": -1.0}, "spread >= 0.*-1.0.*released.*paper's spread is 1"),
        ({"spread": float("nan")}, "spread >= 0 and finite.*nan"),
        ({"spread": float("inf")}, "spread >= 0 and finite.*inf"),
        ({"tube": Stabilised(0.1, 15.0)}, r"gain must be below .*15, got 15\.0.*0 to 2\.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, text):
    """With the reason and the paper's values."""
    with pytest.raises(InvalidConfig, match=text):
        SFP(**wrong)


@pytest.mark.parametrize(
    "tube",
    [Stabilised(0.1, 14.9), Latent(0.001, 0.02, 2.5), Latent(0.0, 1e-4, 0.0), Latent(0.1, 1.0)],
)
def test_no_euler_step_goes_past_the_trajectory(tube):
    """What is off a trajectory is multiplied by 0 to 1 in every step that is executed, up to the
    end: by 1 - h k, and in the latent by (1 - c (t + h)) / (1 - c t), c = 1 - sigma_1, though its
    slope at t = 1, where no step begins, may be steeper than 2 / h."""
    config = SFP(tube=tube, horizon=15, execute=15)
    h = 1 / (config.horizon * config.substeps)
    xi = lambda t: jnp.stack([jnp.sin(3.0 * t)])  # noqa: E731
    for i in range(config.execute * config.substeps):
        with jax.enable_x64(True):
            t = jnp.asarray(i * h)
            step = jax.jacobian(lambda x, t=t: x + h * tube.velocity(t, x, xi))(
                jnp.ones(tube.copies)
            )
        wanted = [1 - h * tube.gain]
        if isinstance(tube, Latent):
            c = 1 - tube.sigma_end
            wanted.append((1 - c * (i + 1) * h) / (1 - c * i * h))
        factors = np.sort(np.linalg.eigvals(np.asarray(step)))
        np.testing.assert_allclose(factors, np.sort(wanted), atol=1e-9)
        assert np.all((factors >= 0) & (factors <= 1))


def test_entries_that_an_observation_has_not_are_refused():
    """As many as the action has, within the observation."""
    with pytest.raises(InvalidConfig, match=r"measured.entries.*\(-1,\)"):
        Measured((-1,))
    first = Measured()(jnp.zeros(2), jnp.array([3.0, 4.0, 5.0]))
    assert first.tolist() == [3.0, 4.0]
    for entries in ((0,), (0, 3)):
        with pytest.raises(InvalidConfig, match="must be 2 of the observation's 3 entries"):
            Measured(entries)(jnp.zeros(2), jnp.zeros(3))


def test_a_configuration_is_text_and_back():
    """On a command line: parts within parts."""
    text = "sfp(tube=latent(sigma_start=0.01), start=measured(entries=(0, 1)), horizon=12)"
    config = parts.parse(text)
    assert config == SFP(tube=Latent(0.01), start=Measured((0, 1)), horizon=12)
    assert parts.parse(parts.describe(config)) == config


def test_a_measured_start_is_not_normalised():
    """It would be read in the wrong units; the action executed last is in its own."""
    config = runs.get("toy/sfp/two-ways").config
    for normaliser in (Standardise(), MinMax()):
        with pytest.raises(InvalidConfig, match=r"normaliser must be identity\(\) for this sfp"):
            dataclasses.replace(config, normaliser=normaliser)
    last = dataclasses.replace(config.agent, start=last_action)
    dataclasses.replace(config, agent=last, normaliser=Standardise())
