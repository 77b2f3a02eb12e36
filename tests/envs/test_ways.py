"""Two ways around a disc: demonstrations arrive, the straight line does not."""

import numpy as np
import pytest

from flowpolicy.envs.base import Env
from flowpolicy.envs.ways import CENTRE, RADIUS, STEPS, TARGET, TwoWays, two_ways_data, way
from flowpolicy.runs.tasks import TwoWaysTask


def _play(actions, seed=0):
    env = TwoWays()
    env.reset(seed)
    for action in actions:
        step = env.step(action)
        if step.terminated or step.truncated:
            break
    return step


def test_every_demonstration_succeeds_when_it_is_played():
    """Of 40, both ways among them, in at most as many steps; none goes through the disc."""
    data = two_ways_data(40, 1)
    obs, action = (data[name].reshape(40, STEPS, 2) for name in ("obs", "action"))
    assert all(_play(action[i], i).success for i in range(40))
    assert np.linalg.norm(obs - CENTRE, axis=-1).min() > RADIUS
    above = np.mean(obs[:, STEPS // 2, 1] > 0)
    assert 0.2 < above < 0.8
    assert np.abs(action).max() <= 1
    np.testing.assert_array_equal(data["terminated"].reshape(40, STEPS).argmax(1), STEPS - 1)


def test_the_straight_line_hits_the_disc_and_standing_still_runs_out_of_time():
    """Both without success."""
    step = _play([TARGET] * 40)
    assert step.terminated
    assert not step.success
    step = _play([np.zeros(2)] * 40)
    assert step.truncated
    assert not step.terminated


def test_a_step_goes_no_further_than_its_speed_and_a_push_displaces():
    """0.12 towards the action; less where that is nearer."""
    env = TwoWays()
    assert isinstance(env, Env)
    at = env.reset(3)
    moved = env.step(np.array([0.0, 1.0])).obs
    assert np.linalg.norm(moved - at) == pytest.approx(0.12, abs=1e-6)
    near = moved + np.array([0.03, 0.0], np.float32)
    np.testing.assert_allclose(env.step(near).obs, near, atol=1e-6)
    np.testing.assert_allclose(
        env.push(np.array([0.0, 0.1])), near + np.array([0.0, 0.1]), atol=1e-6
    )
    frame = env.render()
    assert frame is not None
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 4


def test_the_task_s_rows_are_those_demonstrations():
    """One trajectory each; the same rows for the same seed."""
    task = TwoWaysTask(episodes=5, seed=2)
    data = task.dataset()
    assert (len(data), data.episodes) == (5 * STEPS, 5)
    np.testing.assert_array_equal(data.rows.action, task.dataset().rows.action)
    np.testing.assert_allclose(way(np.array(1.0), np.array(1.0)), TARGET, atol=1e-12)
