"""Gymnasium's environments as ``Env``: Box actions in [-1, 1], Box observations as float32.

An episode is a function of its reset seed and its actions. Nothing resets by itself: our loops
decide when an episode begins, so environments are single ones without ``Autoreset``, and no
transition leads from one episode into the next (gymnasium's vector environments have one such
per episode under NEXT_STEP, and hide the last observation in ``info`` under SAME_STEP).

A step counts as a success where its ``info`` says so, under ``success`` or ``is_success``. Where
it says neither there is no success: the success rate is 0, and the return is what tells.
"""

import importlib.util
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowpolicy.boxes import ActionBox, all_finite
from flowpolicy.envs.base import Step
from flowpolicy.envs.drawing import can_render
from flowpolicy.errors import InvalidConfig, InvalidData, MissingExtra, unknown_name
from flowpolicy.randomness import GlobalNumpy
from flowpolicy.simulators import gymnasium_alone

SEEDED = ("gymnasium.", "gymnasium_robotics.", "shimmy.", "gym_pusht.")
"""Packages whose environments draw from generators of their own while they step. Around steps of
all others numpy's global generator is exchanged, which takes some 60 microseconds."""

_FLOAT32 = np.dtype(np.float32)

ROBOTICS = ("Adroit", "AntMaze", "Fetch", "Franka", "Hand", "PointMaze")


def make_gymnasium(
    name: str,
    *,
    max_steps: int = 0,
    keys: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
    reward_shift: float = 0.0,
) -> "GymnasiumEnv":
    """The environment registered as ``name`` (``HalfCheetah-v5``).

    max_steps: steps after which an episode is truncated; the registered number where 0
    keys:      of a Dict observation, the entries that the agent sees, in their order
    options:   keyword arguments of the environment itself
    reward_shift: added to every reward

    Raises ``UnknownName`` with the nearest names, ``MissingExtra`` where the package that has the
    environment is not installed, ``InvalidConfig`` where it is none for us.
    """
    gymnasium = gymnasium_alone()
    registered = registered_spec(name)
    creator = registered.entry_point
    if isinstance(creator, str):
        creator = gymnasium.envs.registration.load_env_creator(creator)
    # Functions that make environments say nothing about rendering.
    modes = getattr(creator, "metadata", {}).get("render_modes", ())
    given: dict[str, Any] = {**(options or {}), "disable_env_checker": True}
    if "rgb_array" in modes:
        given.setdefault("render_mode", "rgb_array")
    if max_steps:
        given["max_episode_steps"] = max_steps
    try:
        env = gymnasium.make(registered.id, **given)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtra(f"{name}: {error}") from error
    except (TypeError, ValueError, gymnasium.error.Error) as error:
        raise InvalidConfig(f"{name} cannot be made: {error}") from error
    return GymnasiumEnv(env, name=name, keys=keys, reward_shift=reward_shift)


def registered_spec(name: str) -> Any:
    """Gymnasium's ``EnvSpec`` of ``name``, after importing the package that has it.

    Never the module of ``module:name``, which gymnasium would import.
    """
    gymnasium = gymnasium_alone()
    if name not in gymnasium.registry:
        _import_owner(name)
    if name not in gymnasium.registry:
        raise unknown_name("environment", name, gymnasium.registry)
    return gymnasium.spec(name)


def _import_owner(name: str) -> None:
    """Imports what registers ``name``, where a package is known for such names."""
    if name.startswith("dm_control/"):
        _need("shimmy", "dm-control", name)
        import shimmy  # noqa: F401 # pyright: ignore[reportMissingImports]
    elif name.startswith("gym_pusht/"):
        _need("gym_pusht", "pusht", name)
        import gym_pusht  # noqa: F401 # pyright: ignore[reportMissingImports]
    elif name.startswith(ROBOTICS):
        _need("gymnasium_robotics", "robotics", name)
        import gymnasium_robotics  # pyright: ignore[reportMissingImports]

        gymnasium_alone().register_envs(gymnasium_robotics)


def _need(module: str, extra: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(
            f"{name} needs {module}, which is not installed; install the extra: "
            f"pip install 'flowpolicy[{extra}]'"
        )


class GymnasiumEnv:
    """A Gymnasium environment, see ``Env``: one of the registry, or any of your own.

    env:  single, with a Box of finite bounds as action space and a Box, or a Dict of Boxes, as
          observation space; without ``Autoreset``, and with a time limit (``spec``'s)
    name: what reports call it; the registered name if empty
    keys: of a Dict observation, the entries that the agent sees, in their order
    reward_shift: added to every reward

    Raises ``InvalidConfig`` for any other.
    """

    def __init__(
        self, env: Any, *, name: str = "", keys: tuple[str, ...] = (), reward_shift: float = 0.0
    ) -> None:
        """Takes the environment over; ``close`` closes it."""
        gymnasium = gymnasium_alone()
        if not isinstance(env, gymnasium.Env):
            raise InvalidConfig(
                f"a single gymnasium.Env is needed, got {type(env).__name__}; our loops step "
                "several environments themselves and reset each when its episode is over"
            )
        spec = env.spec
        self.name = name or ("environment" if spec is None else spec.id)
        self._refuse_autoreset(env)
        if spec is None or not spec.max_episode_steps:
            raise InvalidConfig(
                f"{self.name} has no time limit; give max_steps (DM Control's tasks end after 1000 "
                "steps), or wrap an environment of your own in gymnasium.wrappers.TimeLimit"
            )
        self._env, self._keys, self._shift = _without_counting(env), keys, reward_shift
        self._dtype = env.action_space.dtype
        self._box = _action_box(self.name, env.action_space).astype(self._dtype)
        self.obs_shape = _obs_shape(self.name, env.observation_space, keys)
        self.action_size = self._box.size
        self._flat = (self._box.size,)
        # Of a box around 0, where nothing is rounded beyond its bounds.
        self._half = None if self._box.middle.any() else self._box.half
        self.max_steps = int(spec.max_episode_steps)
        seeded = type(env.unwrapped).__module__.startswith(SEEDED)
        self._guard_steps, self._stream = not seeded, GlobalNumpy(0)
        self._steps = self.max_steps
        # Left to interpreter shutdown, a renderer prints a traceback.
        self._free = weakref.finalize(self, env.close)

    def _refuse_autoreset(self, env: Any) -> None:
        inner = env
        while inner is not env.unwrapped:
            if isinstance(inner, gymnasium_alone().wrappers.Autoreset):
                raise InvalidConfig(
                    f"{self.name} resets itself (gymnasium.wrappers.Autoreset); give it without"
                )
            inner = inner.env

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that ``seed`` (not negative) names; its first observation."""
        if seed < 0:
            raise InvalidConfig(f"seed must not be negative, got {seed}")
        self._stream = GlobalNumpy(seed)
        with self._stream.active():
            obs, _ = self._env.reset(seed=seed)
        self._steps = 0
        return self._seen(obs)

    def step(self, action: np.ndarray) -> Step:
        """Executes ``action`` (action_size,), clipped to [-1, 1] and scaled to the Box.

        Raises ``InvalidData`` for a wrong shape or a value that is not finite, ``RuntimeError``
        where the episode is over or was never started.
        """
        if self._steps >= self.max_steps:
            raise RuntimeError(f"{self.name}: no episode is running; reset it first")
        given = self._given(np.asarray(action, self._dtype))
        if self._guard_steps:
            with self._stream.active():
                told = self._env.step(given)
        else:
            told = self._env.step(given)
        obs, reward, terminated, truncated, info = told
        self._steps += 1
        truncated = bool(truncated) or self._steps >= self.max_steps
        if terminated or truncated:
            self._steps = self.max_steps
        success = bool(info.get("success", info.get("is_success", False)))
        gain = float(reward) + self._shift
        return Step(self._seen(obs), gain, bool(terminated), truncated, success)

    @property
    def unwrapped(self) -> Any:
        """The environment itself, without any wrapper."""
        return self._env.unwrapped

    def _given(self, action: np.ndarray) -> np.ndarray:
        """``action`` as the environment takes it. A call of numpy that is left out is a hundredth
        of a light environment's step.
        """
        if action.shape != self._flat:
            raise self._unfit(action)
        if self._half is not None and action.dot(action) <= 1.0:  # nothing to clip
            given = self._half * action
        elif all_finite(action):
            given = self._box.from_unit(action)
        else:
            raise self._unfit(action)
        return given if self._flat == self._box.shape else given.reshape(self._box.shape)

    def _unfit(self, action: np.ndarray) -> InvalidData:
        return InvalidData(
            f"{self.name}: action must be {self.action_size} finite numbers, got {action!r}"
        )

    def _seen(self, obs: Any) -> np.ndarray:
        if self._keys:
            return np.concatenate([np.ravel(obs[key]) for key in self._keys]).astype(np.float32)
        # A copy: some environments give one array again and again.
        return obs.astype(_FLOAT32) if type(obs) is np.ndarray else np.array(obs, _FLOAT32)

    def render(self) -> np.ndarray | None:
        """A frame (height, width, 3), uint8; None where this machine cannot draw."""
        if self._env.render_mode != "rgb_array":
            return None
        # MuJoCo without graphics may end the process; no error of it could be caught.
        if "mujoco" in sys.modules and not can_render():
            return None
        try:
            return np.asarray(self._env.render(), np.uint8)
        except Exception:  # a driver that breaks mid-way must not end a training run
            return None

    def close(self) -> None:
        """Closes the environment."""
        self._steps = self.max_steps
        self._free()


def _without_counting(env: Any) -> Any:
    """``env`` without the outermost wrappers that only count steps and calls, as we do ourselves:
    each costs as much as a step of ours."""
    wrappers = gymnasium_alone().wrappers
    while type(env) in (wrappers.TimeLimit, wrappers.OrderEnforcing):
        env = env.env
    return env


def _action_box(name: str, space: Any) -> ActionBox:
    if not isinstance(space, gymnasium_alone().spaces.Box) or space.dtype.kind != "f":
        raise InvalidConfig(f"{name}: actions must be a Box of floats, got {space}")
    return ActionBox.of(space.low, space.high, name)


def _obs_shape(name: str, space: Any, keys: tuple[str, ...]) -> tuple[int, ...]:
    spaces = gymnasium_alone().spaces
    if isinstance(space, spaces.Box) and not keys:
        return tuple(space.shape)
    if not isinstance(space, spaces.Dict):
        what = f"keys={keys} of an observation that is no Dict" if keys else "observations"
        raise InvalidConfig(f"{name}: {what} must be a Box, or a Dict of Boxes, got {space}")
    if not keys:
        raise InvalidConfig(
            f"{name}: an observation has the entries {', '.join(space)}; name those that the "
            f"agent sees, in their order, as in keys={tuple(space)!r}"
        )
    for key in keys:
        if key not in space.spaces:
            raise unknown_name(f"entry of {name}'s observation", key, space.spaces)
        if not isinstance(space[key], spaces.Box):
            raise InvalidConfig(f"{name}: the entry {key!r} must be a Box, got {space[key]}")
    if len(set(keys)) < len(keys):
        raise InvalidConfig(f"{name}: keys must be distinct, got {keys}")
    return (sum(int(np.prod(space[key].shape)) for key in keys),)
