"""One environment per seed, stepped a chunk at a time."""

import dataclasses
from typing import Any

import jax
import numpy as np

from flowpolicy.envs.base import Step
from flowpolicy.envs.fleet import Fleet
from flowpolicy.errors import InvalidData
from flowpolicy.train.random import Stream, episode_seed
from flowpolicy.types import Observation, Rows


@dataclasses.dataclass(frozen=True)
class Taken:
    """What came of one chunk per seed.

    rows:   padded to (seeds, h); counts: how many of each seed's are real
    ended:  one line per episode that ended, or was lost
    lost:   seeds, from 0, whose environment was lost with its episode
    """

    rows: Rows
    counts: np.ndarray
    ended: list[dict[str, Any]]
    lost: list[int]


class Stepper:
    """One environment per seed, stepped a chunk at a time.

    An episode that ends idles until the next tick, which begins with a new one. ``ticks`` counts
    each seed's own, those of all online phases, so that none draws the noise of another.
    """

    def __init__(
        self, fleet: Fleet, seeds: tuple[int, ...], chunk: int, *, attempt: int = 0
    ) -> None:
        """The fleet's first environments, one per seed; nothing is reset until the first tick."""
        self._fleet, self._seeds, self._chunk, self._attempt = fleet, seeds, chunk, attempt
        size = len(seeds)
        self._began = [attempt] * size  # whose random numbers each episode began with
        self._obs: list[Observation] = [None] * size
        self._over = [True] * size
        self._gain = [0.0] * size
        self._actions: list[list[np.ndarray]] = [[] for _ in seeds]
        self.ticks = np.zeros(size, np.int64)
        self.env_steps = np.zeros(size, np.int64)
        self.episodes = np.zeros(size, np.int64)

    def begin(self) -> np.ndarray:
        """Resets what is over; returns which seeds began an episode, as booleans."""
        fresh = np.asarray(self._over)
        self._reset({int(i): self._attempt for i in np.flatnonzero(fresh)})
        return fresh

    def _reset(self, attempts: dict[int, int]) -> None:
        """Begins the next episode of those named, with the random numbers of an attempt each."""
        numbers = {
            i: episode_seed(self._seeds[i], Stream.EXPLORE, int(self.episodes[i]), attempt)
            for i, attempt in attempts.items()
        }
        for i, obs in (self._fleet.reset(numbers) if numbers else {}).items():
            self._obs[i], self._began[i] = obs, attempts[i]
            self._over[i], self._gain[i], self._actions[i] = False, 0.0, []

    def observations(self) -> Observation:
        """The current ones, stacked over seeds."""
        return jax.tree.map(lambda *xs: np.stack(xs), *self._obs)

    def step(self, chunks: np.ndarray, limit: int) -> Taken:
        """Executes ``chunks`` (seeds, h, action), clipped to [-1, 1], no seed beyond ``limit``
        steps in all."""
        # Environments clip, and the replay must hold what was executed.
        chunks = np.clip(chunks, -1.0, 1.0)
        allowed = np.clip(limit - self.env_steps, 0, self._chunk)
        actions = {int(i): chunks[i, : allowed[i]] for i in np.flatnonzero(allowed)}
        steps: list[list[tuple[Any, ...]]] = [[] for _ in self._seeds]
        ended, lost = [], []
        for i, played in self._fleet.play(actions).items():
            if played is None:
                lost.append(i)
                self._lose(i)
                steps_made = int(self.env_steps[i])
                ended.append({"seed": self._seeds[i], "env_steps": steps_made, "lost": 1.0})
                continue
            steps[i] = [
                self._one(i, action, step) for action, step in zip(actions[i], played, strict=False)
            ]
            if self._over[i]:
                ended.append(self._close(i, steps[i][-1][-1]))
        counts = np.asarray([len(s) for s in steps])
        self.ticks += allowed > 0
        return Taken(self._rows(steps, chunks.shape[-1]), counts, ended, lost)

    def _one(self, i: int, action: np.ndarray, step: Step) -> tuple[Any, ...]:
        before = self._obs[i]
        self._check(i, step)
        self._obs[i] = step.obs
        self._over[i] = step.terminated or step.truncated
        self._gain[i] += step.reward
        self._actions[i].append(action)
        self.env_steps[i] += 1
        return before, action, step.reward, step.terminated, self._over[i], step.obs, step.success

    def interrupt(self) -> list[int]:
        """Ends the episodes that go on, because their environments were used otherwise; whose."""
        going = [i for i, over in enumerate(self._over) if not over]
        for i in going:
            self._lose(i)
        return going

    def _lose(self, i: int) -> None:
        """The episode is over without an end."""
        self._over[i] = True
        self.episodes[i] += 1

    def _check(self, i: int, step: Step) -> None:
        """A value that is not finite would spoil the replay, and the losses much later."""
        for what, leaves in (("reward", [step.reward]), ("observation", jax.tree.leaves(step.obs))):
            if not all(np.isfinite(x).all() for x in leaves):
                name, number = self._fleet.shape().name, len(self._actions[i]) + 1
                raise InvalidData(
                    f"{name}: the {what} after step {number} of "
                    f"episode {int(self.episodes[i])} (seed {self._seeds[i]}) is not finite"
                )

    def _close(self, i: int, success: bool) -> dict[str, Any]:
        line = {
            "seed": self._seeds[i],
            "env_steps": int(self.env_steps[i]),
            "episode": int(self.episodes[i]),
            "episode/return": self._gain[i],
            "episode/length": len(self._actions[i]),
            "episode/success": float(success),
        }
        self.episodes[i] += 1
        return line

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint says of it, and a pytree of the arrays that go with that.

        An environment's state is the episode's number and the actions since: a simulator's own
        state is not all there is to it (controllers read fields that are derived late).
        """
        going = [i for i, over in enumerate(self._over) if not over]
        said = {
            "ticks": self.ticks.tolist(),
            "env_steps": self.env_steps.tolist(),
            "episodes": self.episodes.tolist(),
            "going": {str(i): float(self._gain[i]) for i in going},
            "began": list(self._began),
        }
        arrays = {
            str(i): {"actions": np.asarray(self._actions[i]), "obs": self._obs[i]} for i in going
        }
        return said, arrays

    def restore(
        self, said: dict[str, Any], recorded: dict[str, Any]
    ) -> tuple[list[str], list[int]]:
        """Inverse of ``state``; what did not come back to the bit, as sentences, and of which
        seeds. Their episodes are over. A robot's are, too, and no action of theirs is played again.
        """
        self.ticks = np.asarray(said["ticks"], np.int64)
        self.env_steps = np.asarray(said["env_steps"], np.int64)
        self.episodes = np.asarray(said["episodes"], np.int64)
        if not self._fleet.repeats:
            lost = [int(name) for name in said["going"]]
            for i in lost:
                self._lose(i)
            return [], lost
        troubles, lost = [], []
        for name, gain in said["going"].items():
            i, was = int(name), recorded[name]
            self._reset({i: said["began"][i]})
            self._actions[i] = list(was["actions"])
            for step in self._fleet.play({i: was["actions"]})[i] or ():
                self._obs[i] = step.obs
                self._gain[i] += step.reward
                self._over[i] = step.terminated or step.truncated
            same = jax.tree.map(np.array_equal, self._obs[i], was["obs"])
            if self._over[i] or self._gain[i] != gain or not all(jax.tree.leaves(same)):
                troubles.append(
                    f"{self._fleet.shape().name}: episode {int(self.episodes[i])} of seed "
                    f"{self._seeds[i]}, played again, is another one after "
                    f"{len(self._actions[i])} steps"
                )
                lost.append(i)
                self._lose(i)
        return troubles, lost

    def _rows(self, steps: list[list[tuple[Any, ...]]], action_size: int) -> Rows:
        size = (len(steps), self._chunk)
        template = self._obs[0]

        def blank() -> Observation:
            return jax.tree.map(lambda x: np.zeros((*size, *x.shape), x.dtype), template)

        rows = Rows(
            blank(),
            np.zeros((*size, action_size), np.float32),
            np.zeros(size, np.float32),
            np.zeros(size, bool),
            np.zeros(size, bool),
            blank(),
        )
        for i, taken in enumerate(steps):
            for j, (obs, action, reward, terminated, ended, after, _) in enumerate(taken):
                jax.tree.map(lambda to, x, at=(i, j): to.__setitem__(at, x), rows.obs, obs)
                jax.tree.map(lambda to, x, at=(i, j): to.__setitem__(at, x), rows.next_obs, after)
                rows.action[i, j], rows.reward[i, j] = action, reward
                rows.terminated[i, j], rows.ended[i, j] = terminated, ended
        return rows
