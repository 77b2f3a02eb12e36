"""OGBench's single-task environments as ``Env``: an episode is a function of its reset seed and
of the actions, also where several environments take turns."""

import re
import weakref
from typing import Any

import numpy as np

from flowpolicy.boxes import all_finite
from flowpolicy.envs.base import Step
from flowpolicy.envs.drawing import can_render
from flowpolicy.errors import InvalidConfig, InvalidData, unknown_name
from flowpolicy.randomness import GlobalNumpy, seed_for
from flowpolicy.simulators import gymnasium_with_ogbench

__all__ = ["gripper_path", "make_env", "seed_for", "task_names"]

_DATA_WORDS = r"-(play|noisy|navigate|stitch|explore|path)(-100m)?(?=-)"
_SHORT = re.compile(r"(?P<environment>[a-z0-9-]+?)-singletask(-(?P<task>task\d+))?-v0")


def make_env(
    task: str,
    *,
    success_timing: str = "pre",
    sparse: bool = False,
    render_size: tuple[int, int] = (200, 200),
) -> "OgbenchEnv":
    """The environment of ``task``: a short name (``cube-single-task1``) or OGBench's own id.

    success_timing: whether reward, success and termination of a step are those of the state
        before the action ("pre", OGBench from 1.2.0 on, as in its datasets) or after it ("post",
        1.1.2, under which the papers' numbers were made).
    sparse: the reward of a step is -1 until the whole task is done, however much of it is.
    render_size: height and width of rendered frames; of visual tasks they are 64 and 64.

    Observations are float32 vectors, those of visual tasks frames (64, 64, 3) of bytes. Raises
    ``UnknownName`` with the nearest names, ``InvalidConfig`` for a visual task where this machine
    cannot draw.
    """
    if success_timing not in ("pre", "post"):
        raise InvalidConfig(f"success_timing must be 'pre' or 'post', got {success_timing!r}")
    identifiers = _identifiers()
    name = short_name(task)
    if name not in identifiers:
        raise unknown_name("task", task, identifiers)
    if name.startswith("visual-") and not can_render():
        raise InvalidConfig(
            f"{task} is seen in frames, and this machine cannot draw: install EGL or OSMesa "
            "(libegl1 and libgl1-mesa-dri, or libosmesa6) and set MUJOCO_GL to egl or osmesa"
        )
    return OgbenchEnv(name, identifiers[name], success_timing, render_size, sparse=sparse)


def task_names() -> list[str]:
    """Short names of all tasks that ``make_env`` knows; imports ogbench, a second or two."""
    return sorted(_identifiers())


def short_name(task: str) -> str:
    """``cube-single-task1`` for all of OGBench's ways to write it, whatever the data."""
    plain = re.sub(_DATA_WORDS, "", task)
    found = _SHORT.fullmatch(plain)
    if found is None:
        return plain
    return f"{found['environment']}-{found['task'] or 'default'}"


def gripper_path(task: str, observations: np.ndarray) -> np.ndarray | None:
    """Positions (T, 3) of the gripper in metres along ``observations`` (T, d) of an arm task.

    None where the task has no arm. Entries 12 to 14 of an observation of the arm's tasks are ten
    times the position of the gripper's pinch point relative to (0.425, 0, 0).
    """
    if re.match("cube|scene|puzzle", task) is None:
        return None
    return np.asarray(observations)[:, 12:15] / 10.0 + np.array([0.425, 0.0, 0.0])


class OgbenchEnv:
    """One OGBench environment; see ``Env``. Made by ``make_env``."""

    def __init__(
        self,
        name: str,
        identifier: str,
        success_timing: str,
        render_size: tuple[int, int],
        *,
        sparse: bool,
    ) -> None:
        gymnasium = gymnasium_with_ogbench()
        spec = gymnasium.spec(identifier)
        creator = gymnasium.envs.registration.load_env_creator(spec.entry_point)
        self._dtype = np.uint8 if name.startswith("visual-") else np.float32
        options: dict[str, Any] = {"success_timing": success_timing}
        if self._dtype == np.float32:  # the frames of a visual task are its observations
            options.update(height=render_size[0], width=render_size[1])
        with GlobalNumpy(0).active():
            if isinstance(creator, type):
                creator = _with_kept_actions(creator)
            self._env = creator(**{**spec.kwargs, **options})
            self._env.reset(seed=0)
            self.obs_shape: tuple[int, ...] = self._env.observation_space.shape
        self.name = name
        self.success_timing = success_timing
        self.sparse = sparse
        self.action_size = int(self._env.action_space.shape[0])
        self.max_steps = int(spec.max_episode_steps)
        self._steps = self.max_steps
        self._stream = GlobalNumpy(0)
        # Around all other steps, which do not draw, exchanging generators costs up to a fifth.
        self._guard_steps = getattr(self._env, "_teleport_info", None) is not None
        # Left to interpreter shutdown, a renderer prints a traceback.
        self._free = weakref.finalize(self, _free_renderers, self._env)

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that ``seed`` (not negative) names; its first observation (d,)."""
        if seed < 0:
            raise InvalidConfig(f"seed must not be negative, got {seed}")
        self._stream = GlobalNumpy(seed)
        self._steps = 0
        # During a reset OGBench takes a few random actions from this space's own generator.
        self._env.action_space.seed(seed)
        with self._stream.active():
            obs, _ = self._env.reset(seed=seed)
        return np.asarray(obs, self._dtype)

    def step(self, action: np.ndarray) -> Step:
        """Executes ``action`` (action_size,), clipped to [-1, 1].

        Raises ``InvalidData`` for a wrong shape or a value that is not finite, ``RuntimeError``
        where the episode is over or was never started.
        """
        if self._steps >= self.max_steps:
            raise RuntimeError(f"{self.name}: no episode is running; reset it first")
        action = np.asarray(action, np.float64)
        if action.shape != (self.action_size,) or not all_finite(action):
            raise InvalidData(
                f"{self.name}: action must be {self.action_size} finite numbers, got {action!r}"
            )
        given = np.minimum(np.maximum(action, -1.0), 1.0)
        if self._guard_steps:
            with self._stream.active():
                obs, reward, terminated, _, info = self._env.step(given)
        else:
            obs, reward, terminated, _, info = self._env.step(given)
        self._steps += 1
        truncated = self._steps >= self.max_steps
        if terminated:
            self._steps = self.max_steps
        return Step(
            np.asarray(obs, self._dtype),
            -float(reward != 0) if self.sparse else float(reward),
            bool(terminated),
            truncated,
            bool(info["success"]),
        )

    def render(self) -> np.ndarray | None:
        """A frame (height, width, 3), uint8; None where this machine cannot draw."""
        if not can_render():
            return None
        try:
            return np.asarray(self._env.render(), np.uint8)
        except Exception:  # a driver that breaks mid-way must not end a training run
            return None

    def close(self) -> None:
        """Frees the renderer."""
        self._free()


def _with_kept_actions(base: Any) -> Any:
    """The arm environment ``base`` with one action space, which can be seeded.

    OGBench makes a new one at every access, so the random actions of its resets come from the
    operating system. And nobody reads the step's measurements here.
    """
    from gymnasium.spaces import Box

    class Kept(base):
        action_space = property(lambda self: self.actions)

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.actions = Box(-1.0, 1.0, (5,), np.float32)
            base.__init__(self, *args, **kwargs)

        def get_step_info(self) -> dict[str, Any]:
            return {}

    return Kept


def _identifiers() -> dict[str, str]:
    """Gymnasium ids by short name."""
    registry = gymnasium_with_ogbench().registry
    return {
        short_name(identifier): identifier
        for identifier in registry
        if _SHORT.fullmatch(identifier)
    }


def _free_renderers(env: Any) -> None:
    for name in ("_renderer", "custom_renderer"):
        renderer = vars(env).get(name)
        if renderer is not None:
            renderer.close()
            setattr(env, name, None)
