"""RoboMimic's environments: what is refused before robosuite is asked, and what it then plays."""

import copy
import importlib.util
from importlib import metadata

import numpy as np
import pytest

from flowpolicy.envs.base import Env
from flowpolicy.envs.robomimic import WORLDS, fields_of, make_robomimic, usual_env_args
from flowpolicy.errors import InvalidConfig, InvalidData, MissingExtra, UnknownName

needs_robosuite = pytest.mark.skipif(
    importlib.util.find_spec("robosuite") is None, reason="robosuite is not installed"
)


def test_unknown_tasks_suggest_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'square'"):
        make_robomimic("sqare")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("env_name", "Lift", "env_name must be 'PickPlaceCan' for can, got 'Lift'"),
        ("env_version", "1.4.1", r"env_version must be 1.5, as in low_dim_v15.hdf5, got 1.4.1"),
        ("env_version", None, "env_version must be 1.5"),
        ("env_kwargs", "robots", "env_kwargs must be a mapping, got 'robots'"),
        ("env_kwargs.robot", ["Panda"], "env_kwargs 'robot'; did you mean 'robots'"),
        ("env_kwargs.controller_configs", "/etc/passwd", "controller_configs must be a mapping"),
    ],
)
def test_what_a_file_may_not_say(where, value, message):
    """It is refused whether robosuite is installed or not."""
    args = copy.deepcopy(usual_env_args("can"))
    *outer, last = where.split(".")
    inner = args[outer[0]] if outer else args
    inner[last] = value
    with pytest.raises((InvalidData, UnknownName), match=message):
        make_robomimic("can", args)


@pytest.mark.parametrize(
    ("versions", "error", "message"),
    [
        (
            {},
            MissingExtra,
            r"robosuite is not installed.*flowpolicy\[robomimic\].*1\.5\.1.*3\.3\.7",
        ),
        ({"robosuite": "1.5.1"}, MissingExtra, "mujoco is not installed"),
        ({"robosuite": "1.5.2", "mujoco": "3.3.7"}, InvalidConfig, "robosuite 1.5.2 is installed"),
        ({"robosuite": "1.5.10", "mujoco": "3.3.7"}, InvalidConfig, r"need robosuite 1\.5\.1"),
        ({"robosuite": "1.5.1", "mujoco": "4.0.0"}, InvalidConfig, r"need mujoco 3\.3;.*==3\.3\.7"),
        ({"robosuite": "1.5.1", "mujoco": "3.30.0"}, InvalidConfig, r"need mujoco 3\.3;"),
    ],
)
def test_other_versions_are_refused_by_the_right_pins(monkeypatch, versions, error, message):
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(error, match=message):
        make_robomimic("can")


def test_the_fields_are_those_of_the_papers():
    own = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    assert fields_of("can") == (*own, "object")
    assert fields_of("transport")[3:] == (*(f.replace("0", "1") for f in own), "object")
    assert {task: world.max_steps for task, world in WORLDS.items()} == {
        "lift": 300, "can": 300, "square": 400, "transport": 800, "tool_hang": 1000,
    }  # fmt: skip


def _episode(env, seed: int, steps: int = 6) -> np.ndarray:
    draws = np.random.default_rng(seed)
    seen = [env.reset(seed)]
    seen += [env.step(draws.uniform(-1, 1, env.action_size)).obs for _ in range(steps)]
    return np.stack(seen)


@pytest.mark.extras
@needs_robosuite
@pytest.mark.parametrize("task", ["lift", "can"])  # built anew at a reset, and put back
def test_an_episode_is_a_function_of_its_seed(task):
    """Whatever was played before, and in whichever environment."""
    env, other = make_robomimic(task), make_robomimic(task)
    assert isinstance(env, Env)
    first = _episode(env, 3)
    global_state = np.random.get_state()[1]
    between = _episode(env, 4)
    np.testing.assert_array_equal(np.random.get_state()[1], global_state)
    np.testing.assert_array_equal(_episode(env, 3), first)
    np.testing.assert_array_equal(_episode(other, 3), first)
    assert np.abs(between[0] - first[0]).max() > 1e-3
    env.close()
    with pytest.raises(RuntimeError, match="reset it first"):
        env.step(np.zeros(7))


@pytest.mark.extras
@needs_robosuite
def test_it_is_robosuites_own_environment():
    """The same observations in the same order as from robosuite itself, played side by side."""
    import robosuite

    from flowpolicy.randomness import GlobalNumpy

    kwargs = usual_env_args("square")["env_kwargs"]
    theirs = robosuite.make(
        "NutAssemblySquare", **copy.deepcopy(kwargs), has_renderer=False, use_camera_obs=False,
        has_offscreen_renderer=False, ignore_done=True, reward_shaping=False,
    )  # fmt: skip
    ours = make_robomimic("square")
    with GlobalNumpy(5).active():
        seen = theirs.reset()
    obs = ours.reset(5)
    names = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object-state")
    for action in np.random.default_rng(0).uniform(-1, 1, (5, 7)):
        wanted = np.concatenate([seen[name] for name in names])
        np.testing.assert_allclose(obs, wanted, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(ours.by_field(obs)["object"], obs[9:])
        step = ours.step(action)
        obs, (seen, reward, _, _) = step.obs, theirs.step(action)
        assert (step.reward, step.success, step.terminated) == (reward - 1.0, False, False)
    with pytest.raises(InvalidData, match="7 finite numbers"):
        ours.step(np.full(7, np.nan))


@pytest.mark.extras
@needs_robosuite
def test_what_robosuite_cannot_make_is_named():
    args = copy.deepcopy(usual_env_args("lift"))
    args["env_kwargs"]["robots"] = ["Pandora"]
    with pytest.raises(InvalidConfig, match=r"lift: robosuite cannot make Lift with.*Pandora"):
        make_robomimic("lift", args)


@pytest.mark.extras
@needs_robosuite
def test_observations_are_as_large_as_the_task_says():
    """One arm and two, each field where the task's entries have it."""
    from flowpolicy.runs.robomimic import OBJECT_SIZES

    for task in ("lift", "transport"):
        env = make_robomimic(task)
        assert env.fields["object"] == OBJECT_SIZES[task]
        assert tuple(env.fields) == fields_of(task)
        assert env.obs_shape == env.reset(0).shape == (9 * WORLDS[task].arms + OBJECT_SIZES[task],)
        env.close()
