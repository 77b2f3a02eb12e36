"""Several frames at a time: an environment around another one."""

from collections import deque

import numpy as np

from flowpolicy.envs.base import Env, Step
from flowpolicy.errors import InvalidConfig


class Stacked:
    """The environment ``env``, whose observation is its last ``stack`` frames, newest last.

    At an episode's beginning its first frame stands for those before it, as ``data.frames`` has it.
    """

    def __init__(self, env: Env, stack: int) -> None:
        """Raises ``InvalidConfig`` where ``env`` shows no frames (height, width, channels)."""
        shape = env.obs_shape
        if not isinstance(shape, tuple) or len(shape) != 3 or stack < 1:
            raise InvalidConfig(
                f"only frames (height, width, channels) are stacked, at least 1, got {shape} and "
                f"{stack}"
            )
        self._env, self._frames = env, deque([np.zeros(shape, np.uint8)], stack)
        self.name, self.max_steps, self.action_size = env.name, env.max_steps, env.action_size
        self.obs_shape: tuple[int, ...] = (*shape[:2], stack * shape[2])
        self._stack = stack

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that ``seed`` names."""
        first = self._env.reset(seed)
        self._frames.extend([first] * self._stack)
        return self._seen()

    def step(self, action: np.ndarray) -> Step:
        """Executes one action."""
        step = self._env.step(action)
        self._frames.append(step.obs)
        return step._replace(obs=self._seen())

    def render(self) -> np.ndarray | None:
        """As the environment within draws."""
        return self._env.render()

    def close(self) -> None:
        """Closes the environment within."""
        self._env.close()

    def _seen(self) -> np.ndarray:
        return np.concatenate(list(self._frames), axis=-1)
