"""RoboMimic's tasks as ``Env``: robosuite's environments with low-dimensional observations.

An environment is built from what a data file says of the one it was recorded in (``env_args``), or
from RoboMimic's usual settings. An episode is a function of its reset seed and its actions: scenes
whose objects have drawn sizes are built anew at every reset, the others only put back.

Follows RoboMimic and QC's reading of it: the observation is the end effector's position and
orientation, the fingers' positions and the object's state, in this order; a step is worth -1, and 0
where the task is solved, which ends the episode.
"""

import copy
import json
import re
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flowpolicy.envs.base import Step
from flowpolicy.envs.drawing import can_render
from flowpolicy.errors import InvalidConfig, InvalidData, unknown_name
from flowpolicy.randomness import GlobalNumpy
from flowpolicy.simulators import PINS, robosuite_alone


class World(NamedTuple):
    """A task's environment in robosuite.

    arms:      robots
    max_steps: of an episode, as in QC's code (its paper prints 500 for Square)
    drawn:     whether the sizes of its objects are drawn, so that every reset builds the scene
    """

    name: str
    arms: int
    max_steps: int
    drawn: bool


WORLDS = {
    "lift": World("Lift", 1, 300, drawn=True),
    "can": World("PickPlaceCan", 1, 300, drawn=False),
    "square": World("NutAssemblySquare", 1, 400, drawn=False),
    "transport": World("TwoArmTransport", 2, 800, drawn=True),
    "tool_hang": World("ToolHang", 1, 1000, drawn=False),
}

CONTROL_FREQUENCY = 20
"""Actions a second of RoboMimic's files."""

_PHYSICS = {
    "control_freq", "controller_configs", "env_configuration", "gripper_types",
    "initialization_noise", "lite_physics", "reward_scale", "robots", "table_full_size",
    "table_friction", "table_offset",
}  # fmt: skip
_OURS = re.compile("camera_.*|render.*|has_.*|use_.*|reward_shaping|ignore_done|hard_reset|horizon")
"""What a file may say of drawing and of time, which is decided here."""


def fields_of(task: str) -> tuple[str, ...]:
    """The observations that are read of ``task``, as the files call them, in their order."""
    arms = [f"robot{i}_" for i in range(_world(task).arms)]
    own = [arm + name for arm in arms for name in ("eef_pos", "eef_quat", "gripper_qpos")]
    return (*own, "object")


def usual_env_args(task: str) -> dict[str, Any]:
    """RoboMimic's settings, as its files hold them: Panda arms, OSC_POSE of differences, 20 Hz."""
    world = _world(task)
    arm = {
        "type": "OSC_POSE",
        "input_max": 1,
        "input_min": -1,
        "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
        "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
        "kp": 150,
        "damping_ratio": 1,
        "impedance_mode": "fixed",
        "kp_limits": [0, 300],
        "damping_ratio_limits": [0, 10],
        "position_limits": None,
        "orientation_limits": None,
        "uncouple_pos_ori": True,
        "input_type": "delta",
        "input_ref_frame": "world",
        "interpolation": None,
        "ramp_ratio": 0.2,
        "gripper": {"type": "GRIP"},
    }
    controllers = [
        copy.deepcopy({"type": "BASIC", "body_parts": {"right": arm}}) for _ in range(world.arms)
    ]
    kwargs: dict[str, Any] = {
        "robots": ["Panda"] * world.arms,
        "controller_configs": controllers if world.arms > 1 else controllers[0],
        "control_freq": CONTROL_FREQUENCY,
    }
    if world.arms > 1:
        kwargs["env_configuration"] = "opposed"
    return {
        "env_name": world.name,
        "env_version": PINS["robosuite"],
        "type": 1,
        "env_kwargs": kwargs,
    }


def make_robomimic(
    task: str,
    env_args: Mapping[str, Any] | None = None,
    *,
    render_size: tuple[int, int] = (200, 200),
) -> "RoboMimicEnv":
    """The environment of ``task``: lift, can, square, transport or tool_hang.

    env_args:    what a data file says, see ``usual_env_args``, which is meant where it is None
    render_size: height and width of frames

    Raises ``UnknownName`` with the nearest names, ``InvalidData`` where ``env_args`` are of another
    task, of a robosuite before 1.5, or name what is not known here, ``MissingExtra`` where
    robosuite is not installed, ``InvalidConfig`` where it is another version, or cannot make it.
    """
    world = _world(task)
    kwargs = _physics(task, usual_env_args(task) if env_args is None else env_args)
    robosuite = robosuite_alone()
    settings = {
        **copy.deepcopy(kwargs),  # robosuite puts its simulation into it
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
        "ignore_done": True,
        "reward_shaping": False,
        "hard_reset": world.drawn,
    }
    try:
        with GlobalNumpy(0).active():
            env = robosuite.make(world.name, **settings)
            return RoboMimicEnv(env, task, render_size)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidConfig(
            f"{task}: robosuite cannot make {world.name} with {json.dumps(kwargs)[:300]}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _world(task: str) -> World:
    if task not in WORLDS:
        raise unknown_name("RoboMimic task", task, WORLDS)
    return WORLDS[task]


def _physics(task: str, env_args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the environment that decide what it computes."""
    world = _world(task)
    name, version = env_args.get("env_name"), str(env_args.get("env_version", "before 1.5"))
    if name != world.name:
        raise InvalidData(f"env_args.env_name must be {world.name!r} for {task}, got {name!r}")
    if not version.startswith("1.5"):
        raise InvalidData(
            f"env_args.env_version must be 1.5, as in low_dim_v15.hdf5, got {version}: older "
            "environments observe in another order; such files train offline (own_data)"
        )
    given = env_args.get("env_kwargs")
    if not isinstance(given, Mapping):
        raise InvalidData(f"env_args.env_kwargs must be a mapping, got {given!r}")
    for key in given:
        if key not in _PHYSICS and not _OURS.fullmatch(key):
            raise unknown_name("entry of env_args.env_kwargs", key, _PHYSICS)
    controllers = given.get("controller_configs")
    # A text would be the path of a file that robosuite opens.
    if not isinstance(controllers, Mapping | list):
        raise InvalidData(
            "env_args.env_kwargs.controller_configs must be a mapping or a list of them, got "
            f"{controllers!r}"
        )
    return {key: value for key, value in given.items() if key in _PHYSICS}


class RoboMimicEnv:
    """One environment of robosuite; see ``Env``. Made by ``make_robomimic``.

    fields: size of each observation, in the order in which they make the vector
    """

    def __init__(self, env: Any, task: str, render_size: tuple[int, int]) -> None:
        """Takes over ``env``, within whose numpy generator this is called."""
        self.name = f"robomimic-{task}"
        self._env, self._render_size = env, render_size
        seen = env.reset()
        self._keys = [_ROBOSUITES.get(field, field) for field in fields_of(task)]
        self.fields = {
            field: int(np.size(seen[key]))
            for field, key in zip(fields_of(task), self._keys, strict=True)
        }
        self.obs_shape: tuple[int, ...] = (sum(self.fields.values()),)
        self.action_size = int(env.action_dim)
        self.max_steps = WORLDS[task].max_steps
        self._steps = self.max_steps
        self._stream = GlobalNumpy(0)
        self._renderer: Any = None
        self._free = weakref.finalize(self, env.close)

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that ``seed`` (not negative) names; its first observation (d,)."""
        if seed < 0:
            raise InvalidConfig(f"seed must not be negative, got {seed}")
        self._stream = GlobalNumpy(seed)
        with self._stream.active():
            seen = self._env.reset()
        self._steps = 0
        return self._vector(seen)

    def step(self, action: np.ndarray) -> Step:
        """Executes ``action`` (action_size,), clipped to [-1, 1].

        Raises ``InvalidData`` for a wrong shape or a value that is not finite, ``RuntimeError``
        where the episode is over or was never started.
        """
        if self._steps >= self.max_steps:
            raise RuntimeError(f"{self.name}: no episode is running; reset it first")
        action = np.asarray(action, np.float64)
        if action.shape != (self.action_size,) or not np.isfinite(action).all():
            raise InvalidData(
                f"{self.name}: action must be {self.action_size} finite numbers, got {action!r}"
            )
        with self._stream.active():
            seen, reward, _, _ = self._env.step(np.clip(action, -1.0, 1.0))
        self._steps += 1
        success, truncated = reward > 0, self._steps >= self.max_steps
        if success:
            self._steps = self.max_steps
        return Step(
            self._vector(seen), float(reward) - 1.0, bool(success), truncated, bool(success)
        )

    def by_field(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        """Observations (..., d) as the fields that they are made of."""
        cuts = np.cumsum(list(self.fields.values()))[:-1]
        return dict(zip(self.fields, np.split(obs, cuts, axis=-1), strict=True))

    def state(self) -> np.ndarray:
        """The simulator's state, time, positions and velocities (n,), as RoboMimic keeps it."""
        return np.array(self._env.sim.get_state().flatten())

    def render(self) -> np.ndarray | None:
        """A frame (height, width, 3), uint8; None where this machine cannot draw."""
        if not can_render():
            return None
        try:
            return self._draw()
        except Exception:  # a driver that breaks mid-way must not end a training run
            return None

    def close(self) -> None:
        """Frees the renderer and the simulation."""
        self._steps = self.max_steps
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._free()

    def _vector(self, seen: Mapping[str, Any]) -> np.ndarray:
        return np.concatenate([np.ravel(seen[key]) for key in self._keys]).astype(np.float32)

    def _draw(self) -> np.ndarray:
        import mujoco

        model, data = self._env.sim.model._model, self._env.sim.data._data
        if self._renderer is None or self._renderer.model is not model:
            if self._renderer is not None:
                self._renderer.close()
            self._renderer = mujoco.Renderer(model, *self._render_size)
        visual = mujoco.MjvOption()  # pyright: ignore[reportAttributeAccessIssue]
        visual.geomgroup[0] = 0  # shapes that only collide
        self._renderer.update_scene(data, _CAMERA, visual)
        return np.asarray(self._renderer.render(), np.uint8)


_ROBOSUITES = {"object": "object-state"}
_CAMERA = "frontview"
