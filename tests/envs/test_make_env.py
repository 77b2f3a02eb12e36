"""Episodes are functions of their seed and actions, whatever else runs in the process."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from flowpolicy.envs.base import Env, Step
from flowpolicy.envs.make import gripper_path, make_env, seed_for, short_name, task_names
from flowpolicy.errors import InvalidConfig, InvalidData, UnknownName
from flowpolicy.simulators import gymnasium_with_ogbench

# The teleports and the goals of mazes draw from numpy's global generator, the arm's resets from
# the environment's own and from the action space's.
TASKS = ["cube-double-task2", "pointmaze-teleport-task1", "antmaze-medium-task1"]


@pytest.fixture(scope="module", params=TASKS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Env, Env]]:
    first, second = make_env(request.param), make_env(request.param)
    yield first, second
    first.close()
    second.close()


def _actions(env: Env, seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, env.action_size))


def _episode(env: Env, seed: int, steps: int = 25) -> list[Step]:
    env.reset(seed)
    return [env.step(action) for action in _actions(env, seed, steps)]


def _equal(first: list[Step], second: list[Step]) -> bool:
    return all(
        np.array_equal(a.obs, b.obs) and a[1:] == b[1:] for a, b in zip(first, second, strict=True)
    )


def test_an_episode_depends_on_its_seed_alone(pair: tuple[Env, Env]):
    used, fresh = pair
    np.random.seed(1)
    first = _episode(used, 5)
    _episode(used, 6)
    np.random.seed(2)
    assert _equal(first, _episode(used, 5))
    assert _equal(first, _episode(fresh, 5))
    assert np.array_equal(used.reset(5), fresh.reset(5))
    assert not np.array_equal(used.reset(5), used.reset(6))


def test_environments_that_take_turns_do_not_disturb_each_other(pair: tuple[Env, Env]):
    one, other = pair
    alone = [_episode(one, 5), _episode(other, 6)]
    one.reset(5)
    other.reset(6)
    turns: tuple[list[Step], list[Step]] = ([], [])
    for a, b in zip(_actions(one, 5, 25), _actions(other, 6, 25), strict=True):
        turns[0].append(one.step(a))
        np.random.uniform(size=3)
        turns[1].append(other.step(b))
    assert _equal(alone[0], turns[0])
    assert _equal(alone[1], turns[1])


def test_numpys_global_generator_is_untouched(pair: tuple[Env, Env]):
    np.random.seed(7)
    np.random.normal()  # leaves the second half of a Gaussian pair behind
    before = np.random.get_state()
    _episode(pair[0], 3)
    for a, b in zip(before, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("task", ["cube-single-task1", "scene-task2", "puzzle-3x3-task1",
                                  "pointmaze-medium-task1", "humanoidmaze-medium-task1",
                                  "antsoccer-arena-task1"])  # fmt: skip
def test_steps_outside_teleports_draw_nothing(task: str):
    """Around which the generators are not exchanged: the bare steps leave numpy's as it was."""
    env = make_env(task)
    env.reset(0)
    np.random.seed(3)
    before = np.random.get_state()
    for action in _actions(env, 0, 40):
        env.step(action)
    env.close()
    for a, b in zip(before, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_teleports_are_drawn_from_the_episodes_own_stream():
    """Where one comes out is drawn in a step, the same whatever numpy's generator is at."""
    env = make_env("pointmaze-teleport-task1")
    maze = env._env.unwrapped

    def exits(seed: int) -> list[tuple[int, ...]]:
        np.random.seed(seed)
        env.reset(4)
        found = []
        for _ in range(12):
            maze.set_xy(np.array(maze._teleport_info["teleport_in_xys"][0]))
            env.step(np.zeros(2))
            found.append(tuple(np.round(maze.get_xy()).astype(int)))
        return found

    first = exits(1)
    assert first == exits(2)
    assert len(set(first)) > 1
    env.close()


def test_interface(pair: tuple[Env, Env]):
    env, _ = pair
    obs = env.reset(0)
    step = env.step(np.zeros(env.action_size))
    assert obs.shape == step.obs.shape == env.obs_shape
    assert obs.dtype == step.obs.dtype == np.float32
    assert step.reward < 0
    assert (step.terminated, step.truncated, step.success) == (False, False, False)
    assert env.name in TASKS


def test_actions_are_clipped_and_checked(pair: tuple[Env, Env]):
    env, other = pair
    env.reset(0)
    other.reset(0)
    wild = np.full(env.action_size, 7.0)
    assert _equal([env.step(wild)], [other.step(np.ones(env.action_size))])
    with pytest.raises(InvalidData, match="finite numbers"):
        env.step(np.full(env.action_size, np.nan))
    with pytest.raises(InvalidData, match="finite numbers"):
        env.step(np.zeros(env.action_size + 1))
    with pytest.raises(InvalidConfig, match="seed must not be negative"):
        env.reset(-1)


def test_time_runs_out():
    env = make_env("pointmaze-medium-task1")
    with pytest.raises(RuntimeError, match="reset it first"):
        env.step(np.zeros(2))
    env.reset(0)
    steps = [env.step(np.zeros(2)) for _ in range(env.max_steps)]
    assert env.max_steps == 1000
    assert [step.truncated for step in steps] == [False] * 999 + [True]
    with pytest.raises(RuntimeError, match="reset it first"):
        env.step(np.zeros(2))


@pytest.mark.parametrize("timing", ["pre", "post"])
def test_success_timing(timing: str):
    """Walks into the goal: with "post" the step that enters it pays, with "pre" the next one."""
    env = make_env("pointmaze-medium-task3", success_timing=timing)
    maze = gymnasium_with_ogbench().make("pointmaze-medium-v0", disable_env_checker=True).unwrapped
    obs, goal = env.reset(0), np.array([4.0, 12.0])
    for _ in range(env.max_steps):
        subgoal, _ = maze.get_oracle_subgoal(obs, goal)
        away = subgoal - obs
        before, step = obs, env.step(away / (np.linalg.norm(away) + 1e-6))
        obs = step.obs
        if step.terminated:
            break
        assert step.reward == -1
    assert step.success
    assert step.reward == 0
    assert np.linalg.norm(obs - goal) <= 1
    assert (np.linalg.norm(before - goal) <= 1) == (timing == "pre")
    with pytest.raises(RuntimeError, match="reset it first"):
        env.step(np.zeros(2))


def test_sparse_rewards():
    """Two cubes are not in their places: -2 a step, or -1."""
    rewards = []
    for sparse in (False, True):
        env = make_env("cube-double-task2", sparse=sparse)
        env.reset(0)
        rewards.append(env.step(np.zeros(5)).reward)
        env.close()
    assert rewards == [-2.0, -1.0]


def test_names():
    names = task_names()
    assert {"cube-single-task1", "pointmaze-giant-task5", "puzzle-4x4-task2"} <= set(names)
    assert "visual-cube-single-task1" in names
    for written in (
        "cube-single-task1",
        "cube-single-singletask-task1-v0",
        "cube-single-play-singletask-task1-v0",
    ):
        assert short_name(written) == "cube-single-task1"
    assert make_env("pointmaze-medium-singletask-v0").name == "pointmaze-medium-default"
    with pytest.raises(UnknownName, match="did you mean 'cube-single-task1'"):
        make_env("cube-singel-task1")
    with pytest.raises(InvalidConfig, match="success_timing must be 'pre' or 'post', got 'now'"):
        make_env("cube-single-task1", success_timing="now")


def test_gripper_path_is_where_the_gripper_is():
    env = make_env("cube-double-task2")
    observations = np.stack([env.reset(0), env.step(np.ones(5)).obs])
    path = gripper_path(env.name, observations)
    assert path is not None
    measured = env._env.compute_ob_info()["proprio/effector_pos"]  # type: ignore[attr-defined]
    np.testing.assert_allclose(path[-1], measured, atol=1e-6)
    assert gripper_path("pointmaze-medium-task1", np.zeros((3, 2))) is None


def test_episode_seeds_are_unrelated():
    seeds = {seed_for(seed, episode) for seed in range(20) for episode in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_for(3, 4) == seed_for(3, 4)


_DRAW = """
import sys
import flowpolicy.envs.make as make
assert "ogbench" not in sys.modules and "mujoco" not in sys.modules
env = make.make_env("pointmaze-medium-task1", render_size=(24, 32))
env.reset(0)
frame = env.render()
sys.stdout.write("none" if frame is None else f"{frame.shape} {frame.dtype}")
env.close()
"""


@pytest.mark.parametrize("way", ["osmesa", "glfw", ""])
def test_rendering_never_fails(way: str):
    """A frame or None, whatever MUJOCO_GL asks for on a machine without a screen."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    if way:
        environment["MUJOCO_GL"] = way
    child = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _DRAW],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    assert child.stdout in ("none", "(24, 32, 3) uint8")
    if way == "glfw":
        assert child.stdout == "none"
