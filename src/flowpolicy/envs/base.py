"""What the library asks of an environment; everything else about it stays behind this line."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowpolicy.types import Observation


class Step(NamedTuple):
    """What one environment step returns.

    terminated: the task is over, the value stops here; truncated: time is up.
    success:    whether the task counts as solved at this step.
    """

    obs: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: bool


@runtime_checkable
class Env(Protocol):
    """One environment. Its random draws depend on the seeds given to ``reset`` alone."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def obs_shape(self) -> Any:
        """Shape of an observation, or a mapping from field to shape."""
        ...

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is truncated."""
        ...

    def reset(self, seed: int) -> Observation:
        """Starts the episode that ``seed`` names and returns its first observation."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Executes one action in [-1, 1]; in the data's units where this is ``OwnData.world``.

        Seconds may pass until the next one: while a program is compiled, a checkpoint begins or the
        policy is updated. An environment that moves by itself keeps its own clock and holds then.
        """
        ...

    def render(self) -> np.ndarray | None:
        """An RGB frame (height, width, 3), uint8, or None where this machine cannot draw."""
        ...

    def close(self) -> None:
        """Frees what the environment holds."""
        ...
