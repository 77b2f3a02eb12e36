"""SWFP's block against the closed-form proximal step, its gradients against numpy, its life."""

import dataclasses
import itertools
import os
import signal

import agents_setup as setup
import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.agents.reconstructed import SWFP
from flowpolicy.agents.reconstructed.swfp import block_loss, end_to_end, normaliser, stepwise
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Blocks,
    FlowMap,
    exact_volume,
    finished_action,
    own_action,
    previous_law,
    previous_map,
    probed_volume,
)
from flowpolicy.nets import MLPCritic, MLPVelocity, Trainable
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.stop import Stopped
from flowpolicy.train.watch import Silent
from flowpolicy.values import Critic, member

KEY = jax.random.key(3)
D = setup.CHUNK * setup.ACTION

# The Gaussian of the actions that go in, and Q = -(a - G)' H (a - G) / 2.
M, ROOT = np.array([0.5, -1.0]), np.array([[0.6, 0.0], [0.3, 0.4]])
H, G, ETA = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, 0.2]), 0.3
OLD = np.array([[1.2, 0.1], [-0.2, 0.8]]), np.array([0.1, -0.3])
"""The block as it was: a to A a + b."""


def _nodes(d):
    """Points and weights that integrate cubics of a standard Gaussian exactly: Gauss-Hermite."""
    x, w = np.polynomial.hermite_e.hermegauss(3)
    points = np.array(list(itertools.product(x, repeat=d)))
    weights = np.prod(list(itertools.product(w / w.sum(), repeat=d)), axis=1)
    return points, weights


def _optimum(config, actions, weights, q, old):
    """The affine block (A, b) of least loss on a law of actions, by Newton's method from OLD."""
    d = actions.shape[1]

    def loss(theta):
        def block(a):
            return theta[: d * d].reshape(d, d) @ a + theta[d * d :]

        def one(a):
            end = jax.lax.stop_gradient(block(a))
            return block_loss(config, KEY, q, block, lambda a: old[0] @ a + old[1], a, end)[0]

        return jnp.dot(weights, jax.vmap(one)(actions))

    @jax.jit
    def step(theta):
        return theta - jnp.linalg.solve(jax.hessian(loss)(theta), jax.grad(loss)(theta))

    theta = jnp.concatenate([old[0].ravel(), old[1]])
    for _ in range(8):
        theta = step(theta)
    return np.asarray(theta[: d * d]).reshape(d, d), np.asarray(theta[d * d :])


@pytest.mark.parametrize("judge", [finished_action, own_action])
@pytest.mark.parametrize("previous", [previous_map, previous_law])
def test_a_block_is_the_closed_form_proximal_step(previous, judge):
    """Without entropy: from N(m, S), the law of the previous iterate, to mean
    (I + eta H)^-1 (m + eta H g) and covariance (I + eta H)^-1 S (I + eta H)^-1, to 1e-9."""
    points, weights = _nodes(2)
    config = SWFP(eta=ETA, alpha=0.0, previous=previous, judge=judge)
    with jax.enable_x64(True):
        q = lambda a: -0.5 * (a - G) @ H @ (a - G)  # noqa: E731
        slope, shift = _optimum(config, jnp.asarray(M + points @ ROOT.T), weights, q, OLD)
    by, to = OLD if previous is previous_map else (np.eye(2), np.zeros(2))
    mean, covariance = by @ M + to, by @ ROOT @ ROOT.T @ by.T
    shrink = np.linalg.inv(np.eye(2) + ETA * H)
    np.testing.assert_allclose(slope @ M + shift, shrink @ (mean + ETA * H @ G), atol=1e-9)
    np.testing.assert_allclose(
        slope @ ROOT @ ROOT.T @ slope.T, shrink @ covariance @ shrink, atol=1e-9
    )


@pytest.mark.parametrize("volume", [exact_volume, probed_volume(80)])
def test_with_entropy_a_block_is_the_closed_form_proximal_step(volume):
    """One dimension: sigma+ = (sigma / eta + sqrt(sigma^2 / eta^2 + 4 alpha c)) / (2 c) with
    c = H + 1 / eta; wider than without, and the mean is as without."""
    m, sigma, h, g, eta, alpha = 0.4, 0.5, 2.0, 1.0, 0.3, 0.2
    points, weights = _nodes(1)
    config = SWFP(eta=eta, alpha=alpha, previous=previous_law, volume=volume)
    with jax.enable_x64(True):
        q = lambda a: -0.5 * h * jnp.sum((a - g) ** 2)  # noqa: E731
        old = np.eye(1), np.zeros(1)
        slope, shift = _optimum(config, jnp.asarray(m + sigma * points), weights, q, old)
    c = h + 1 / eta
    wide = (sigma / eta + np.sqrt(sigma**2 / eta**2 + 4 * alpha * c)) / (2 * c)
    assert sigma * slope[0, 0] == pytest.approx(wide, abs=1e-9)
    assert slope[0, 0] * m + shift[0] == pytest.approx((m / eta + h * g) / c, abs=1e-9)
    assert wide > sigma / (1 + eta * h)


class Scale(eqx.Module):
    """v = w a."""

    w: jax.Array

    def __call__(self, r, t, a, s):
        return self.w * a


class Bowl(eqx.Module):
    """Q(s, a) = -3 - |a - centre|^2 / 2."""

    centre: jax.Array

    def __call__(self, s, a):
        return -3.0 - 0.5 * jnp.sum((a - self.centre) ** 2)


W, WAS = np.array([-0.9, 0.6, -1.5]), np.array([-0.6, 0.3, -1.2])
CENTRE = 0.4


def _cascade(w):
    return Blocks(FlowMap(Scale(jnp.asarray(w)), D), len(w))


def _numpy(config, noise, w):
    """Inputs of the blocks and the end, anchors of the blocks, Q and its slope at the end."""
    factors, before = 1 + w / len(w), 1 + WAS / len(w)
    path = [noise]
    for factor in factors:
        path.append(path[-1] * factor)
    old = before if config.previous is previous_map else np.ones(len(w))
    return path, [a * b for a, b in zip(path, old, strict=False)], factors


def _value(a):
    return -3 - 0.5 * np.sum((np.clip(a, -1, 1) - CENTRE) ** 2, axis=-1)


def _slope(a):
    return -(np.clip(a, -1, 1) - CENTRE) * (np.abs(a) < 1)


def _found(config, improve, data):
    """The gradient by ``improve`` for blocks W, before which they were WAS; metrics; noise."""
    critic = Critic(Bowl(jnp.array([CENTRE])))
    gradient, metrics = jax.jit(
        lambda k: improve(config, k, _cascade(W), _cascade(WAS), critic, data)
    )(KEY)
    noise = jax.random.normal(jax.random.split(KEY)[0], data.action.shape)
    return np.asarray(gradient.each.net.w), metrics, np.asarray(noise)


READINGS = [
    {"previous": previous_map, "judge": finished_action},
    {"previous": previous_law, "judge": finished_action},
    {"previous": previous_map, "judge": own_action},
    {"previous": previous_law, "judge": own_action, "alpha": 0.0},
]
ONE = {"aggregate": member(0), "volume": exact_volume, "alpha": 0.3, "eta": 0.7}


@pytest.mark.parametrize("reading", READINGS)
def test_blocks_descend_their_own_losses(reading):
    """v = w a and a quadratic Q, clipped at the box: slopes by each w by hand, to 1e-9, in which
    nothing of another block appears but where the path goes."""
    config = SWFP(**{**ONE, **reading})
    with by_hand.double(setup.batch(32)) as (data,):
        found, metrics, noise = _found(config, stepwise, data)
    path, anchors, factors = _numpy(config, noise, W)
    end, h = path[-1], 1 / len(W)
    scale = 1 / np.abs(_value(end)).mean()
    for k, factor in enumerate(factors):
        at = end if config.judge is finished_action else path[k + 1]
        pull = -scale * _slope(at) + (path[k + 1] - anchors[k]) / config.eta
        slope = np.mean(np.sum(pull * path[k] * h, axis=-1)) - config.alpha * D * h / factor
        assert found[k] == pytest.approx(slope, abs=1e-9)
    moved = [path[k + 1] - anchors[k] for k in range(len(W))]
    assert metrics["swfp/moved"] == pytest.approx(np.sqrt(np.mean(np.square(moved))), rel=1e-9)
    near = np.mean([np.sum(x**2, axis=-1) for x in moved]) / (2 * config.eta)
    assert metrics["swfp/proximity"] == pytest.approx(near, rel=1e-9)
    assert metrics["swfp/scale"] == pytest.approx(scale, rel=1e-9)
    assert metrics["swfp/q"] == pytest.approx(_value(end).mean(), rel=1e-9)
    ends = path[1:] if config.judge is own_action else [end] * len(W)
    volume = D * np.mean(np.log(factors))
    loss = near - np.mean([scale * _value(a) for a in ends]) - config.alpha * volume
    assert metrics["swfp/loss"] == pytest.approx(loss, rel=1e-9)
    assert ("swfp/volume" in metrics) == bool(config.alpha)
    if config.alpha:
        assert metrics["swfp/volume"] == pytest.approx(volume, rel=1e-9)


def test_the_control_differentiates_through_all_blocks():
    """The sum of the restraints less lambda Q(a_K), by differences of it in numpy; another
    gradient than the blocks' own."""
    config = SWFP(**ONE)
    with by_hand.double(setup.batch(32)) as (data,):
        found, _, noise = _found(config, end_to_end, data)
        alone, _, _ = _found(config, stepwise, data)
    _, anchors, _ = _numpy(config, noise, W)
    scale = 1 / np.abs(_value(_numpy(config, noise, W)[0][-1])).mean()

    def loss(w):
        path, _, factors = _numpy(config, noise, w)
        pairs = zip(path[1:], anchors, strict=True)
        near = sum(np.mean(np.sum((a - b) ** 2, axis=-1)) for a, b in pairs) / (2 * config.eta)
        volume = D * np.sum(np.log(factors))
        return near - config.alpha * volume - scale * _value(path[-1]).mean()

    step = 1e-5 * np.eye(len(W))
    wanted = [(loss(W + e) - loss(W - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(found - alone).max() > 0.05


def test_an_update_improves_the_blocks_by_the_new_critic():
    """The critic first; the blocks' metrics are then those of ``improve`` with it."""
    agent, data = setup.make("swfp", True), setup.batch()
    after, metrics = setup.update(agent, KEY, data)
    blocks, old = agent.policy.blocks.model, agent.policy.previous
    critic = after.critic.online.model
    key = jax.random.split(KEY)[1]
    gradient, said = jax.jit(lambda k: stepwise(agent.config, k, blocks, old, critic, data))(key)
    for name, value in said.items():
        assert metrics[name] == pytest.approx(float(value), rel=1e-4), name
    wanted = jax.jit(lambda g: agent.policy.blocks.step(g))(gradient)
    for a, b in zip(jax.tree.leaves(after.policy.blocks), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_the_cut_changes_no_action():
    """The offline policy is K Euler steps, the online one K blocks: the same function, and the
    optimiser of the blocks is new."""
    before = setup.train(setup.make("swfp", False), KEY, setup.batch(), 2)
    after = before.begin_online(KEY)
    assert isinstance(before.policy, Trainable)
    obs = jnp.ones(setup.OBS)
    for seed in range(3):
        one, two = (x.act(jax.random.key(seed), obs, ())[0] for x in (before, after))
        np.testing.assert_allclose(one, two, atol=1e-6)
    state = after.policy.blocks.opt_state
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state))
    np.testing.assert_array_equal((after.count, after.policy.count), (2, 0))


@pytest.mark.parametrize("offline", [0, 2])
def test_the_previous_iterate_is_renewed_after_every_proximal_step(offline):
    """With three updates each it stays through two and is the present one after the third, counted
    from the cut: the first step is whole after any number of offline updates."""
    data = setup.batch()
    agent = setup.train(setup.make("swfp", False, inner=3), KEY, data, offline).begin_online(KEY)
    leaves = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])  # noqa: E731
    was = leaves(agent.policy.previous)
    np.testing.assert_array_equal(was, leaves(agent.policy.blocks.model))
    for i in range(1, 7):
        agent, _ = setup.update(agent, jax.random.fold_in(KEY, i), data)
        now = leaves(agent.policy.blocks.model)
        assert np.any(now != was)
        was = now if i % 3 == 0 else was
        np.testing.assert_array_equal(leaves(agent.policy.previous), was)
    assert int(agent.count) == offline + 6


def test_it_acts_by_the_blocks_and_not_by_the_previous_iterate():
    """After two updates of a proximal step of fifty."""
    agent = setup.train(setup.make("swfp", True, inner=50), KEY, setup.batch(), 2)
    z, s, blocks = jnp.ones(D), jnp.ones(setup.OBS), agent.policy.blocks.model

    def end(flow):
        return np.asarray(flow.flow(jnp.zeros(()), jnp.ones(()), z, s))

    np.testing.assert_array_equal(end(agent.flow()), end(blocks))
    assert np.abs(end(blocks) - end(agent.policy.previous)).max() > 1e-3


class Stop(Silent):
    """Asks for a stop after the n-th block of updates or step."""

    def __init__(self, n):
        self.left = n

    def advance(self, done):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_that_is_stopped_amid_a_proximal_step_goes_on_in_it(tmp_path):
    """Four updates each, after three offline ones; stopped after online update 1, 2 or 3 of the
    first step, it ends as if it had not been, the previous iterate of its last step included."""
    plan = {
        "phases": (fp.Offline(3), fp.Online(7, start_after=0)), "inner": 4, "batch": 8,
        "evaluation": Evaluation(every=0, final_episodes=0), "actor": MLPVelocity(8, 1),
        "critic": MLPCritic(8, 1),
    }  # fmt: skip

    def ended(run):
        agent = run.load()[0].agents
        assert agent.policy.count.tolist() == [6]
        return [np.asarray(x) for x in jax.tree.leaves(agent)]

    whole = ended(fp.train("toy/swfp/unequal-modes", out=tmp_path / "whole", **plan))
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        fp.train("toy/swfp/unequal-modes", out=out, watch=Stop(4), **plan)
    assert fp.Run(out).load()[0].agents.policy.count.tolist() in ([1], [2], [3])
    for one, other in zip(ended(fp.resume(fp.Run(out))), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_normaliser_trains_nothing():
    """lambda is a number to the critics and to the actions."""
    critic, data = Critic(Bowl(jnp.array([CENTRE]))), setup.batch()
    slopes = jax.grad(
        lambda critic, end: normaliser(SWFP(), critic, end, data.obs)[0], argnums=(0, 1)
    )(critic, 0.5 * data.action)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"blocks": 1}, "carries noise to the data's mean"),
        ({"eta": 0.0}, "nothing may move"),
        ({"eta": float("inf")}, "finite"),
        ({"alpha": -0.1}, "collapse"),
        ({"inner": 1}, "hold nothing"),
        ({"tau": 2.0}, "tau"),
        ({"ensemble": 0}, "ensemble"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, why):
    """With the field, the value, and the reason."""
    ((field, value),) = wrong.items()
    with pytest.raises(InvalidConfig, match=f"(?s)(?=.*{field})(?=.*{value}).*{why}"):
        dataclasses.replace(SWFP(), **wrong)
