"""An environment whose actions have units of their own, as one whose actions are in [-1, 1]."""

import dataclasses
from typing import Any

import numpy as np

from flowpolicy.deploy.units import ActionUnits
from flowpolicy.envs.base import Env, Step
from flowpolicy.errors import InvalidConfig
from flowpolicy.types import Observation


@dataclasses.dataclass(frozen=True)
class InUnits:
    """``inner``, which takes actions in the robot's units; everything else about it is as it is."""

    inner: Env
    units: ActionUnits

    def __post_init__(self) -> None:
        """Checks that they fit."""
        if len(self.units.shift) != self.inner.action_size:
            raise InvalidConfig(
                f"{self.inner.name} has actions of size {self.inner.action_size}, the data of "
                f"{len(self.units.shift)}"
            )

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.inner.name

    @property
    def obs_shape(self) -> Any:
        """Shape of an observation, or a mapping from field to shape."""
        return self.inner.obs_shape

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        return self.inner.action_size

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is truncated."""
        return self.inner.max_steps

    def reset(self, seed: int) -> Observation:
        """Starts the episode that ``seed`` names and returns its first observation."""
        return self.inner.reset(seed)

    def step(self, action: np.ndarray) -> Step:
        """Executes one action in [-1, 1], in the robot's units."""
        return self.inner.step(self.units.to_robot(action))

    def render(self) -> np.ndarray | None:
        """An RGB frame, or None where this machine cannot draw."""
        return self.inner.render()

    def close(self) -> None:
        """Frees what the environment holds."""
        self.inner.close()
