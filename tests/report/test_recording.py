"""Recorded episodes and their discounted returns."""

import numpy as np
import pytest

from flowpolicy.envs.base import Env
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidData
from flowpolicy.report.recording import Episode, Recorded, chunk_returns


def _episode(rewards, terminated):
    return Episode(last=None, rewards=[float(r) for r in rewards], terminated=terminated)


def test_a_terminated_episode_has_one_return():
    """sum gamma^i r_i from every second step, the last chunk being whole: a geometric series."""
    low, high = chunk_returns(_episode([-1.0] * 5 + [0.0], True), 2, 0.9, -1.0, 0.0)
    expected = [-(1 - 0.9**n) / 0.1 for n in (5, 3, 1)]
    np.testing.assert_allclose(low, expected)
    np.testing.assert_array_equal(low, high)


def test_a_chunk_that_an_end_cuts_is_left_out():
    """Seven steps hold three chunks of two."""
    low, _ = chunk_returns(_episode(range(7), True), 2, 1.0, 0.0, 1.0)
    np.testing.assert_allclose(low, [21, 20, 15])


def test_where_time_ran_out_the_bounds_hold_every_continuation():
    """-1 for ever is the lower bound to the last digit, 0 for ever the upper one."""
    low, high = chunk_returns(_episode([-1.0] * 4, False), 1, 0.5, -1.0, 0.0)
    np.testing.assert_allclose(low, [-2.0] * 4)
    np.testing.assert_allclose(high, [-1.875, -1.75, -1.5, -1.0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        more = rng.uniform(-1, 0, 200)
        whole, _ = chunk_returns(_episode([-1.0] * 4 + list(more), True), 1, 0.5, -1.0, 0.0)
        assert np.all((low - 1e-9 <= whole[:4]) & (whole[:4] <= high + 1e-9))


def test_without_discount_nothing_is_known_of_an_open_end():
    """Except on the side where rewards are bounded by 0."""
    low, high = chunk_returns(_episode([-1.0, -1.0], False), 1, 1.0, -1.0, 0.0)
    assert np.all(low == -np.inf)
    np.testing.assert_allclose(high, [-2.0, -1.0])


def test_recording_changes_nothing_and_misses_nothing():
    """The same steps as without it; observations are those before each action."""
    episodes = []
    plain, env = PointMass(), Recorded(PointMass(), episodes)
    assert isinstance(env, Env)
    for seed in (3, 4):
        obs, action = plain.reset(seed), np.array([0.3, -1.0], np.float32)
        np.testing.assert_array_equal(env.reset(seed), obs)
        for _ in range(3):
            ours, theirs = env.step(action), plain.step(action)
            np.testing.assert_array_equal(ours.obs, theirs.obs)
            np.testing.assert_array_equal(episodes[-1].obs[-1], obs)
            assert ours[1:] == theirs[1:]
            obs = theirs.obs
            action = -action
    assert [len(e.rewards) for e in episodes] == [3, 3]
    np.testing.assert_array_equal([a[0] for a in episodes[1].actions], np.float32([0.3, -0.3, 0.3]))


def test_an_environment_is_reset_first():
    """A step before any episode has no place in the record."""
    with pytest.raises(InvalidData, match="reset"):
        Recorded(PointMass(), []).step(np.zeros(2))
