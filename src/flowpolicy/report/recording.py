"""Played episodes step by step, and what they returned: Monte-Carlo values for the critic."""

import dataclasses
from typing import Any

import numpy as np

from flowpolicy.data.dataset import Dataset
from flowpolicy.envs.base import Env, Step
from flowpolicy.errors import InvalidData
from flowpolicy.train.task import Task
from flowpolicy.types import Observation


@dataclasses.dataclass
class Episode:
    """One episode as it goes on; ``obs`` are those before each step."""

    last: Observation
    obs: list[Observation] = dataclasses.field(default_factory=list)
    actions: list[np.ndarray] = dataclasses.field(default_factory=list)
    rewards: list[float] = dataclasses.field(default_factory=list)
    terminated: bool = False


class Recorded:
    """An environment whose episodes are added to a list, whoever steps it."""

    def __init__(self, env: Env, episodes: list[Episode]) -> None:
        """``episodes`` may be shared by several environments."""
        self._env, self._episodes = env, episodes
        self._episode: Episode | None = None

    @property
    def name(self) -> str:
        """That of the environment."""
        return self._env.name

    @property
    def obs_shape(self) -> Any:
        """That of the environment."""
        return self._env.obs_shape

    @property
    def action_size(self) -> int:
        """That of the environment."""
        return self._env.action_size

    @property
    def max_steps(self) -> int:
        """That of the environment."""
        return self._env.max_steps

    def reset(self, seed: int) -> Observation:
        """Begins an episode."""
        self._episode = Episode(self._env.reset(seed))
        self._episodes.append(self._episode)
        return self._episode.last

    def step(self, action: np.ndarray) -> Step:
        """Executes and records one action."""
        if self._episode is None:
            raise InvalidData("an environment must be reset before its first step")
        step, episode = self._env.step(action), self._episode
        episode.obs.append(episode.last)
        episode.actions.append(np.array(action, np.float32))
        episode.rewards.append(float(step.reward))
        episode.terminated, episode.last = bool(step.terminated), step.obs
        return step

    def render(self) -> np.ndarray | None:
        """That of the environment."""
        return self._env.render()

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()


@dataclasses.dataclass(frozen=True)
class RecordedTask:
    """A task whose environments record their episodes into one list."""

    task: Task
    episodes: list[Episode]

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.name

    @property
    def playable(self) -> bool:
        """That of the task."""
        return self.task.playable

    def dataset(self) -> Dataset | None:
        """That of the task."""
        return self.task.dataset()

    def env(self) -> Env:
        """A new environment, recorded."""
        return Recorded(self.task.env(), self.episodes)


def chunk_returns(
    episode: Episode, chunk: int, discount: float, least: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the discounted return from the start of every whole chunk of an episode.

    Where the episode terminated both are the return itself. Where time ran out, what would have
    come after n further steps is worth between discount^n least / (1 - discount) and the same
    with ``most``, the bounds of a reward. Shapes (chunks,); infinite for discount 1.
    """
    rewards, n = np.asarray(episode.rewards, np.float64), len(episode.rewards)
    low = high = 0.0
    if not episode.terminated:
        # With rewards of one sign one end is 0, and 0 / (1 - discount) is 0 for every discount.
        endless = np.inf if discount >= 1 else 1 / (1 - discount)
        low, high = (0.0 if r == 0 else r * endless for r in (least, most))
    tails = np.empty((n + 1, 2))
    tails[n] = low, high
    for i in range(n - 1, -1, -1):
        tails[i] = rewards[i] + discount * tails[i + 1]
    starts = np.arange(0, n - chunk + 1, chunk)
    return tails[starts, 0], tails[starts, 1]
