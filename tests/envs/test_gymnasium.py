"""Gymnasium's environments behind our interface: the same episodes, and nothing hidden."""

import contextlib
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import Autoreset, RescaleAction, TimeLimit

from flowpolicy.envs.base import Env, Step
from flowpolicy.envs.gymnasium import GymnasiumEnv, make_gymnasium
from flowpolicy.errors import InvalidConfig, InvalidData, MissingExtra, UnknownName

NAMES = ("Pendulum-v1", "InvertedPendulum-v5", "HalfCheetah-v5")


class Wanderer(gymnasium.Env):
    """Draws from numpy's global generator, gives one array again and again, ends as it is told."""

    action_space = Box(np.float32([-1, 0]), np.float32([3, 5]))

    def __init__(self, space: Any = None, *, ends: tuple[int, ...] = (), info: Any = None) -> None:
        self.observation_space = space or Box(-np.inf, np.inf, (2,), np.float64)
        self._ends, self._info, self._seen = ends, info or {}, np.zeros(2)
        self.given: list[np.ndarray] = []

    def _obs(self) -> Any:
        if isinstance(self.observation_space, Dict):
            return {"b": np.array([[1.0, 2.0]]), "a": np.array([3.0]), "n": 4}
        return self._seen

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self._steps = 0
        self._seen[:] = np.random.uniform(size=2)
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.given.append(action)
        self._steps += 1
        self._seen[:] = np.random.normal(size=2)
        return self._obs(), 0.5, self._steps in self._ends, False, self._info


def _wanderer(limit: int = 5, **given: Any) -> GymnasiumEnv:
    env = Wanderer(**given)
    env.spec = gymnasium.envs.registration.EnvSpec("Wanderer-v0")
    return GymnasiumEnv(TimeLimit(env, limit))


def _actions(env: Env, seed: int, steps: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, env.action_size))


def _episode(env: Env, seed: int, steps: int = 40) -> list[np.ndarray]:
    """Every observation, and beside it what else the step told."""
    told = [np.append(env.reset(seed), (0.0, 0.0, 0.0, 0.0))]
    for action in _actions(env, seed, steps):
        step = env.step(action)
        told.append(np.append(step.obs, step[1:]))
        if step.terminated or step.truncated:
            break
    return told


def _same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_s_own_checker(name: str):
    """What is inside is a proper environment, and ours has the interface that the loop asks for."""
    env = make_gymnasium(name)
    assert isinstance(env, Env)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises symmetric boxes and tells of render modes
        check_env(env._env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_that_of_gymnasium(name: str):
    """Against gymnasium's registry and its own rescaling wrapper: every number of every step."""
    ours, theirs = (
        make_gymnasium(name),
        RescaleAction(gymnasium.make(name), np.float32(-1), np.float32(1)),
    )
    for seed in (3, 4):
        first, _ = theirs.reset(seed=seed)
        np.testing.assert_array_equal(ours.reset(seed), first.astype(np.float32))
        for action in _actions(ours, seed):
            step = ours.step(action)
            dtype = theirs.action_space.dtype
            obs, reward, terminated, truncated, _ = theirs.step(action.astype(dtype))
            # The wrapper scales in the Box's float32, we in float64 before rounding.
            np.testing.assert_allclose(step.obs, obs.astype(np.float32), rtol=2e-4, atol=2e-5)
            assert step.reward == pytest.approx(float(reward), rel=1e-4, abs=1e-5)
            assert (step.terminated, step.truncated) == (terminated, truncated)
            if terminated or truncated:
                break


@pytest.mark.parametrize("make", [lambda: make_gymnasium("HalfCheetah-v5"), _wanderer])
def test_an_episode_depends_on_its_seed_alone(make: Any):
    """Whatever was played before, in whatever order environments take turns."""
    one, other = make(), make()
    np.random.seed(1)
    alone = [_episode(one, 5), _episode(one, 6)]
    np.random.seed(2)
    assert _same(_episode(other, 5), alone[0])
    assert not _same(*alone)
    told = [one.reset(5)], [other.reset(6)]
    for a, b in zip(_actions(one, 5, 4), _actions(other, 6, 4), strict=True):
        told[0].append(one.step(a).obs)
        np.random.uniform(size=3)
        told[1].append(other.step(b).obs)
    for obs, before in zip(told, alone, strict=True):
        assert _same(obs, [row[: len(obs[0])] for row in before[:5]])


def test_numpys_global_generator_is_untouched():
    """Also where the environment draws from it."""
    np.random.seed(7)
    np.random.normal()  # leaves the second half of a Gaussian pair behind
    before = np.random.get_state()
    for env in (_wanderer(), make_gymnasium("Pendulum-v1")):
        _episode(env, 3, 5)
    for a, b in zip(before, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_environments_play_the_same_episodes(mode: AutoresetMode):
    """Four first episodes, of which NEXT_STEP adds a step that is none, SAME_STEP hides the end."""
    seeds, limit, size = [3, 4, 5, 6], 60, 4
    make = lambda: TimeLimit(gymnasium.make("InvertedPendulum-v5"), limit)  # noqa: E731
    vector = SyncVectorEnv([make] * size, autoreset_mode=mode)
    assert vector.metadata["autoreset_mode"] is mode
    obs, _ = vector.reset(seed=seeds)
    told: list[list[Any]] = [[o] for o in obs]
    ended: list[Any] = [None] * size
    while None in ended:
        time = max(len(t) for t in told) - 1
        chosen = np.stack([_chosen(seed, time) for seed in seeds])
        obs, _, terminated, truncated, info = vector.step(np.float32(3) * chosen.astype(np.float32))
        done = terminated | truncated
        for i in np.flatnonzero([e is None for e in ended]):
            hidden = mode is AutoresetMode.SAME_STEP and done[i]
            told[i].append(info["final_obs"][i] if hidden else obs[i])
            if done[i]:
                ended[i] = bool(terminated[i]), bool(truncated[i])
        if mode is AutoresetMode.DISABLED and done.any() and None in ended:
            vector.reset(options={"reset_mask": done})
    for i, seed in enumerate(seeds):
        env = make_gymnasium("InvertedPendulum-v5", max_steps=limit)
        ours, step = [env.reset(seed)], None
        while step is None or not (step.terminated or step.truncated):
            step = env.step(_chosen(seed, len(ours) - 1))
            ours.append(step.obs)
        assert ended[i] == (step.terminated, step.truncated)
        np.testing.assert_array_equal(np.stack(ours), np.stack(told[i]).astype(np.float32))


def _chosen(seed: int, time: int) -> np.ndarray:
    """Small enough that some episodes last to the limit."""
    return np.random.default_rng([seed, time]).uniform(-0.25, 0.25, 1)


def test_the_end_of_the_task_and_of_the_time_are_told_apart():
    """An end before the limit, at the limit, and none."""
    flags = {}
    for ends in ((2,), (3,), ()):
        env = _wanderer(3, ends=ends)
        env.reset(0)
        steps: list[Step] = [env.step(np.zeros(2))]
        while not (steps[-1].terminated or steps[-1].truncated):
            steps.append(env.step(np.zeros(2)))
        flags[ends] = len(steps), steps[-1].terminated, steps[-1].truncated
        with pytest.raises(RuntimeError, match="reset it first"):
            env.step(np.zeros(2))
    assert flags == {(2,): (2, True, False), (3,): (3, True, True), (): (3, False, True)}


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"success": True}, True),
        ({"is_success": np.float32(1)}, True),
        ({"is_success": 0.0}, False),
        ({"success": False, "is_success": True}, False),
        ({}, False),
    ],
)
def test_success_is_what_info_says(info: dict, success: bool):
    """``success``, else ``is_success``, else never."""
    env = _wanderer(info=info)
    env.reset(0)
    assert env.step(np.zeros(2)).success is success


def test_actions_are_scaled_clipped_and_checked():
    """Into [-1, 3] x [0, 5], in the Box's dtype."""
    env = _wanderer()
    inner = env._env.unwrapped
    with pytest.raises(RuntimeError, match="reset it first"):
        env.step(np.zeros(2))
    env.reset(0)
    for action in ([-1, -1], [1, 1], [0, 0], [-9, 0.5]):
        env.step(np.array(action, np.float32))
    np.testing.assert_array_equal(inner.given, [[-1, 0], [3, 5], [1, 2.5], [-1, 3.75]])
    assert all(inner.action_space.contains(action) for action in inner.given)
    for wrong in (np.zeros(3), np.array([0, np.nan]), np.array([np.inf, 0])):
        with pytest.raises(InvalidData, match="Wanderer-v0: action must be 2 finite numbers"):
            env.step(wrong)
    with pytest.raises(InvalidConfig, match="seed must not be negative"):
        env.reset(-1)


@pytest.mark.parametrize(
    ("low", "high"),
    [([-1, -1], [1, 1]), ([-3, -0.3], [3, 0.3]), ([-1, 0], [3, 5]), ([[-2, -1]], [[2, 1]])],
)
def test_every_way_of_scaling_is_the_same(low: Any, high: Any):
    """By numpy, for actions with entries inside and outside, whatever the short cuts."""
    inner = Wanderer()
    inner.action_space = Box(np.float32(low), np.float32(high))
    inner.spec = gymnasium.envs.registration.EnvSpec("Wanderer-v0")
    env = GymnasiumEnv(TimeLimit(inner, 100))
    env.reset(0)
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (60, 2)).astype(np.float32)
    actions[:20] /= 4  # all inside
    for action in actions:
        env.step(action)
    low, high = np.float32(low).ravel(), np.float32(high).ravel()
    wanted = np.clip((low + high) / 2 + (high - low) / 2 * actions, low, high)
    found = np.stack(inner.given)
    assert found.shape[1:] == inner.action_space.shape
    np.testing.assert_array_equal(found.reshape(60, 2), wanted)


def test_rewards_are_shifted():
    """D4RL's rule for antmazes: -1 a step, 0 where it pays 1."""
    env, shifted = (make_gymnasium("Pendulum-v1", reward_shift=by) for by in (0.0, -1.0))
    for one, other in zip(_episode(env, 0)[1:], _episode(shifted, 0)[1:], strict=True):
        np.testing.assert_array_equal(one[:3], other[:3])
        assert other[3] == one[3] - 1.0


def test_observations_are_float32_and_not_overwritten():
    """The environment gives one array again and again; what was told stays what it was."""
    env = _wanderer()
    first = env.reset(0)
    kept = first.copy()
    step = env.step(np.zeros(2))
    assert first.dtype == step.obs.dtype == np.float32
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, step.obs)


DICT = Dict({"b": Box(-9, 9, (1, 2)), "a": Box(-9, 9, (1,)), "n": Discrete(9)})


def _dict_env(keys: tuple[str, ...]) -> GymnasiumEnv:
    env = Wanderer(DICT)
    env.spec = gymnasium.envs.registration.EnvSpec("Wanderer-v0")
    return GymnasiumEnv(TimeLimit(env, 5), keys=keys)


def test_entries_of_a_dict_come_in_the_order_that_is_asked_for():
    """Raveled, one after the other."""
    for keys, wanted in ((("b", "a"), [1, 2, 3]), (("a", "b"), [3, 1, 2]), (("b",), [1, 2])):
        env = _dict_env(keys)
        assert env.obs_shape == (len(wanted),)
        for obs in (env.reset(0), env.step(np.zeros(2)).obs):
            np.testing.assert_array_equal(obs, np.float32(wanted))


@pytest.mark.parametrize(
    ("keys", "kind", "message"),
    [
        ((), InvalidConfig, "has the entries a, b, n; name those"),
        (("a", "c"), UnknownName, "unknown entry of Wanderer-v0's observation 'c'"),
        (("n",), InvalidConfig, "'n' must be a Box, got Discrete"),
        (("a", "a"), InvalidConfig, "distinct"),
    ],
)
def test_entries_that_cannot_be_seen(keys: tuple[str, ...], kind: type, message: str):
    """Told by name."""
    with pytest.raises(kind, match=message):
        _dict_env(keys)


def _changed(**spaces: Any) -> gymnasium.Env:
    env = gymnasium.make("Pendulum-v1")
    for name, space in spaces.items():
        setattr(env, name, space)
    return env


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gymnasium.make("CartPole-v1"), "actions must be a Box of floats, got Discrete"),
        (lambda: _changed(action_space=Box(-np.inf, 1, (2,))), "finite bounds, .* -inf and 1.0"),
        (lambda: _changed(action_space=Box(0, 9, (2,), np.int64)), "Box of floats"),
        (lambda: _changed(observation_space=Discrete(3)), "must be a Box, or a Dict of Boxes"),
        (lambda: Autoreset(gymnasium.make("Pendulum-v1")), "resets itself"),
        (lambda: gymnasium.make("Pendulum-v1").unwrapped.__class__(), "no time limit"),
        (lambda: gymnasium.make_vec("Pendulum-v1", num_envs=2), "single gymnasium.Env"),
        (lambda: "Pendulum-v1", "single gymnasium.Env is needed, got str"),
    ],
)
def test_environments_that_are_none_for_us(make: Any, message: str):
    """With the reason."""
    with pytest.raises(InvalidConfig, match=message):
        GymnasiumEnv(make())


def test_keys_of_an_observation_without_entries():
    """A Box has none."""
    with pytest.raises(InvalidConfig, match=r"keys=\('a',\) of an observation that is no Dict"):
        make_gymnasium("Pendulum-v1", keys=("a",))


def test_names_limits_and_options():
    """The nearest names; a limit and the environment's own arguments are passed on."""
    with pytest.raises(UnknownName, match="'HalfCheetah-v9'; did you mean 'HalfCheetah-v5'"):
        make_gymnasium("HalfCheetah-v9")
    with pytest.raises(UnknownName, match="unknown environment"):
        make_gymnasium("antigravity:Pendulum-v1")  # gymnasium would import the module
    with pytest.raises(InvalidConfig, match=r"Pendulum-v1 cannot be made: .*wheels"):
        make_gymnasium("Pendulum-v1", options={"wheels": 4})
    env = make_gymnasium("Pendulum-v1", max_steps=7, options={"g": 0.0})
    assert (env.name, env.max_steps, env._env.unwrapped.g) == ("Pendulum-v1", 7, 0.0)
    assert len(_episode(env, 0)) == 8


EXTRAS = {
    "shimmy": ("dm_control/cheetah-run-v0", ("position", "velocity"), 1000, "dm-control"),
    "gym_pusht": ("gym_pusht/PushT-v0", (), 0, "pusht"),
    "gymnasium_robotics": ("FetchReach-v4", ("observation", "desired_goal"), 0, "robotics"),
}


@pytest.mark.extras
@pytest.mark.parametrize("module", EXTRAS)
def test_environments_of_an_extra(module: str):
    """Repeatable, with numpy's generator untouched; skipped where the extra is missing."""
    pytest.importorskip(module)
    name, keys, limit, _ = EXTRAS[module]
    one, other = (make_gymnasium(name, keys=keys, max_steps=limit) for _ in range(2))
    before = np.random.get_state()
    assert _same(_episode(one, 5), _episode(other, 5))
    assert not _same(_episode(one, 5), _episode(one, 6))
    for a, b in zip(before, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(a, b)
    with contextlib.closing(one), contextlib.closing(other):
        assert one.reset(0).shape == one.obs_shape


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_extra_is_named(module: str, monkeypatch: pytest.MonkeyPatch):
    """With the command that installs it."""
    name, *_, extra = EXTRAS[module]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.delitem(gymnasium.registry, name, raising=False)
    with pytest.raises(MissingExtra, match=rf"{name} needs {module}.*flowpolicy\[{extra}\]"):
        make_gymnasium(name)
