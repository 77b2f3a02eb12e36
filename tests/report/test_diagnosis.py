"""What ``diagnose`` computes of one agent, on agents whose map and values are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.data.chunk import ChunkView
from flowpolicy.data.dataset import Dataset
from flowpolicy.envs.toy import point_mass_data
from flowpolicy.errors import InvalidData
from flowpolicy.flows import FlowMap
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.report import diagnosis
from flowpolicy.report.findings import estimate
from flowpolicy.report.recording import Episode
from flowpolicy.train.normalise import Identity
from flowpolicy.types import Transition

GAMMA, CHUNK = 0.9, 2
SIGMA = 0.5
AS_IS = Identity().fit(None)


def _gaussian(factor=1.0):
    """The exact flow map to actions N(s, SIGMA^2), the noise being N(0, 1); a factor breaks it."""

    def net(r, t, a, s):
        width = lambda x: jnp.sqrt((1 - x) ** 2 + (x * SIGMA) ** 2)  # noqa: E731
        end = t * s + width(t) / width(r) * (a - r * s)
        velocity = s + ((1 + SIGMA**2) * t - 1) / width(t) ** 2 * (a - t * s)
        mean = jnp.where(t > r, (end - a) / jnp.where(t > r, t - r, 1.0), velocity)
        return factor * mean

    return FlowMap(net, 2)


def _data(size, seed=0):
    """States and, given them, actions N(s, SIGMA^2)."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(size, 2))
    a = s + SIGMA * rng.normal(size=(size, 2))
    s, a = jnp.asarray(s, jnp.float32), jnp.asarray(a, jnp.float32)
    none = jnp.zeros(size)
    return Transition(s, a, none, none, s, jnp.ones_like(a), none)


def test_the_true_map_of_the_data_agrees_from_every_r(key):
    """Within 5 standard deviations of the estimate's noise at each of four r and three pairs:
    a false alarm in 4e-6 of seeds. A map that stays where it is is told at r = 0, and less the
    nearer r is to 1, where a point is almost the data's action already."""
    found = diagnosis.agreement(key, _gaussian(), _data(2500))
    assert found.samples == 500
    for row in found.pushed:
        assert abs(row.to_data) < 5 * found.noise.std
        assert abs(row.to_first) < 5 * found.noise.std
    broken = diagnosis.agreement(key, _gaussian(0.0), _data(2500))
    away = [row.to_data for row in broken.pushed]
    assert away[0] > 10 * found.noise.std
    assert away[0] > away[1] > away[3]


def test_a_map_that_forgets_its_state_is_told(key):
    """The actions alone have the data's law; with their states they have not."""
    forgetful = FlowMap(lambda r, t, a, s: jnp.sqrt(1 + SIGMA**2) * a - a, 2)
    found = diagnosis.agreement(key, forgetful, _data(2500))
    assert found.pushed[0].to_data > 10 * found.noise.std


def test_end_points_of_the_exact_map(key):
    """Jump and integration agree to the integration's error; two samples are 2 SIGMA Gamma(3/2)
    = SIGMA sqrt(pi) apart in the plane, within 5 standard errors (6e-7)."""
    found = diagnosis.end_points(key, _gaussian(), lambda s, a: jnp.sum(a), _data(100))
    assert found.apart.mean < 2e-3
    assert abs(found.q.mean) < 2e-3
    spread = found.spread
    assert abs(spread.mean - SIGMA * np.pi**0.5) < 5 * spread.error


def _episodes(count=6, length=8):
    """Rewards -1 a step and 0 at the end; observations count the steps that are left."""
    ends = []
    for i in range(count):
        n = length - (i % 3)
        rewards = [-1.0] * (n - 1) + [0.0]
        obs = [np.array([n - k], np.float32) for k in range(n)]
        ends.append(Episode(obs[-1], obs, [np.zeros(1, np.float32)] * n, rewards, True))
    return ends


def _value(offset):
    """The true value, with n steps left: -(1 - gamma^(n - 1)) / (1 - gamma)."""
    return lambda s, a: -(1 - GAMMA ** (s[0] - 1)) / (1 - GAMMA) + offset


@pytest.mark.parametrize("offset", [0.0, 2.5])
def test_the_excess_of_a_critic_that_is_off_by_a_constant(offset):
    """The constant, exactly and without error; the chunks are all whole ones."""
    found = diagnosis.excess(_value(offset), CHUNK, AS_IS, _episodes(), GAMMA, (-1.0, 0.0))
    assert found["chunks"] == 2 * (4 + 3 + 3)
    assert found["excess_low"] == pytest.approx(offset, abs=1e-5)
    assert found["excess_high"] == pytest.approx(offset, abs=1e-5)
    assert found["excess_error"] < 1e-5


def test_an_open_end_widens_the_excess():
    """Truncated: the returns' bounds differ, and the true excess lies between."""
    episodes = [dataclasses.replace(e, terminated=False) for e in _episodes()]
    found = diagnosis.excess(_value(0.0), CHUNK, AS_IS, episodes, GAMMA, (-1.0, 0.0))
    assert found["excess_low"] == pytest.approx(0.0, abs=1e-5)
    assert found["excess_high"] > 1.0
    assert diagnosis.excess(_value(0.0), CHUNK, AS_IS, episodes, 1.0, (-1.0, 0.0)) == {}


def test_the_error_counts_episodes_not_chunks():
    """Chunks of one episode that err together are one observation: 4 of +-1 give 1 / 2."""
    owner = np.repeat(np.arange(4), 50)
    values = np.repeat([1.0, -1.0, 1.0, -1.0], 50)
    assert diagnosis._clustered(values, owner) == pytest.approx(0.5)
    assert estimate(np.array([[1.0, 3.0], [2.0, 4.0]])).mean == 2.5
    assert estimate(np.array([[1.0, 3.0], [2.0, 4.0]])).error == pytest.approx(0.5)


def test_refiners_meet_the_same_states_and_keys(key):
    """A refiner beside itself gains exactly nothing; best-of-8 gains over a single sample."""
    value = lambda s, a: -jnp.sum(jnp.square(a))  # noqa: E731
    refiners = (OneStep(), BestOfN(8), OneStep(bound=1.0 + 1e-6))
    one, best, again = diagnosis.compare(key, _gaussian(), value, _data(40), refiners)
    assert best.q_over_first.mean > 3 * best.q_over_first.error > 0
    assert best.q_over_first.mean == pytest.approx(best.q.mean - one.q.mean)
    assert abs(again.q_over_first.mean) < 1e-4
    assert one.q_over_first.error == 0.0


def test_chunks_are_whole_different_and_normalised(key):
    """No chunk crosses an episode's end; a small set gives what it has, an empty one is refused."""
    rows = Dataset.from_arrays(**point_mass_data(300, 0)).rows
    found = diagnosis.draw_chunks(key, rows, ChunkView(4, GAMMA), lambda s: 2.0 * s, 60)
    assert found.action.shape == (60, 8)
    starts = []
    for obs, action in zip(np.asarray(found.obs), np.asarray(found.action), strict=True):
        (start,) = np.flatnonzero(np.all(2.0 * rows.obs == obs, axis=1))
        starts.append(start)
        np.testing.assert_array_equal(rows.action[start : start + 4].reshape(-1), action)
        assert not rows.ended[start : start + 3].any()
    assert len(set(starts)) == 60
    everything = diagnosis.draw_chunks(key, rows, ChunkView(4, GAMMA), lambda s: s, 1000)
    assert 60 < everything.reward.shape[0] < 300
    short = jax.tree.map(lambda x: x[:3], rows)
    with pytest.raises(InvalidData, match="no chunk of 4 rows"):
        diagnosis.draw_chunks(key, short, ChunkView(4, GAMMA), lambda s: s, 10)
