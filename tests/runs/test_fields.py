"""The stated entries of observations are those that the environment gives."""

import numpy as np
import pytest

from flowpolicy.envs.make import gripper_path, make_env
from flowpolicy.runs import OGBench
from flowpolicy.train.task import TellsFields


@pytest.mark.parametrize("task", ["cube-single-task1", "cube-double-task2"])
def test_a_cube_task_tells_its_observation(task):
    """Sizes add up, positions are as said, sines and quaternions have length 1."""
    told = OGBench(task=task)
    assert isinstance(told, TellsFields)
    entries = told.fields()["obs"]
    env = make_env(task)
    obs = env.reset(0)
    assert (sum(entry.size for entry in entries),) == env.obs_shape
    ends = np.cumsum([entry.size for entry in entries])
    parts = {e.name: obs[end - e.size : end] for e, end in zip(entries, ends, strict=True)}
    raw = env._env
    np.testing.assert_allclose(parts["joint positions"], raw._data.qpos[:6], atol=1e-5)
    where = gripper_path(task, obs[None])[0]
    np.testing.assert_allclose(
        parts["gripper position"], 10 * (where - np.array([0.425, 0, 0])), atol=1e-5
    )
    for name, part in parts.items():
        if "sine" in name or "quaternion" in name:
            assert np.linalg.norm(part) == pytest.approx(1, abs=1e-5), name
    cubes = [name for name in parts if "cube" in name and "position" in name]
    for i, name in enumerate(cubes):
        at = raw._data.joint(f"object_joint_{i}").qpos[:3]
        np.testing.assert_allclose(parts[name], 10 * (at - np.array([0.425, 0, 0])), atol=1e-4)
    assert raw.control_timestep() == told.control_interval
    env.close()


def test_other_tasks_tell_nothing_that_is_not_known():
    """An antmaze has no arm."""
    told = OGBench(task="antmaze-large-navigate-task1")
    assert told.fields() == {}
    assert told.control_interval is None
