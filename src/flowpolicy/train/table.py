"""Which episode every environment of an evaluation plays, and what came of those that ended."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from jaxtyping import Key as KeyArray

from flowpolicy.envs.fleet import Fleet
from flowpolicy.errors import WorkerFailed
from flowpolicy.train.folder import EvaluationRow
from flowpolicy.train.random import Stream, episode_seed
from flowpolicy.types import Keys, Observation


@dataclasses.dataclass(frozen=True)
class Episodes:
    """What happened in the episodes of one evaluation, in the order of their index.

    success: whether the last step counted as solved; returns: undiscounted; lengths: steps.
    policy_seconds: wall time of every policy call, one call per chunk of all environments.
    """

    success: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    policy_seconds: np.ndarray
    seconds: float

    def row(self, seed: int, phase: str, step: int, refiner: str) -> EvaluationRow:
        """The line of ``evaluations.csv``."""
        return EvaluationRow(
            seed=seed,
            phase=phase,
            step=step,
            refiner=refiner,
            episodes=len(self.success),
            success=float(self.success.mean()),
            returns=float(self.returns.mean()),
            length=float(self.lengths.mean()),
            seconds=round(self.seconds, 3),
        )


class Table:
    """Episodes 0 .. ``episodes`` - 1 of every seed, on environments of a fleet."""

    def __init__(
        self, fleet: Fleet, numbers: Sequence[int], seeds: Sequence[int], episodes: int
    ) -> None:
        """``numbers`` of environments, as many for every seed, seed by seed."""
        self._fleet, self._numbers, self._seeds = fleet, list(numbers), list(seeds)
        self._per = len(self._numbers) // len(self._seeds)
        self._episodes = episodes
        self._next = [0] * len(self._seeds)
        size = len(self._numbers)
        self._index = np.full(size, -1)
        self._chunk = np.zeros(size, np.int64)
        self._obs: list[Any] = [None] * size
        self._success = np.zeros((len(self._seeds), episodes), bool)
        self._returns = np.zeros((len(self._seeds), episodes), np.float64)
        self._lengths = np.zeros((len(self._seeds), episodes), np.int64)
        self._begin(range(size))

    @property
    def shape(self) -> tuple[int, int]:
        """(seeds, environments of each)."""
        return len(self._seeds), self._per

    @property
    def open(self) -> bool:
        """Whether an episode is still being played."""
        return bool((self._index >= 0).any())

    def keys(self, roots: Keys) -> KeyArray[Array, "seeds envs"]:
        """One key per environment, a function of its seed, episode and chunk alone."""
        index = np.maximum(self._index, 0).reshape(self.shape)
        return _fold(roots, jnp.asarray(index), jnp.asarray(self._chunk.reshape(self.shape)))

    def observations(self) -> Observation:
        """The current ones, (seeds, environments, ...); idle environments repeat another's."""
        some = next(o for o in self._obs if o is not None)
        filled = [some if o is None else o for o in self._obs]
        return jax.tree.map(lambda *xs: np.stack(xs).reshape(*self.shape, *xs[0].shape), *filled)

    def play(self, chunks: np.ndarray) -> np.ndarray:
        """Executes one chunk (seeds, environments, h, action), clipped to [-1, 1] as collecting
        does, in every open environment; returns where an episode began, as booleans.
        """
        flat = np.clip(chunks, -1.0, 1.0).reshape(len(self._numbers), *chunks.shape[2:])
        going = {self._numbers[slot]: int(slot) for slot in np.flatnonzero(self._index >= 0)}
        over, lost = [], []
        for number, steps in self._fleet.play({n: flat[s] for n, s in going.items()}).items():
            slot = going[number]
            if steps is None:
                lost.append(slot)
                continue
            at = slot // self._per, self._index[slot]
            self._chunk[slot] += 1
            self._obs[slot] = steps[-1].obs
            self._returns[at] += sum(step.reward for step in steps)
            self._lengths[at] += len(steps)
            if steps[-1].terminated or steps[-1].truncated:
                self._success[at] = steps[-1].success
                over.append(slot)
        if self._fleet.trouble:
            raise WorkerFailed(self._fleet.trouble)
        self._begin(over)
        self._again(lost)
        return np.isin(np.arange(len(self._numbers)), [*over, *lost]).reshape(self.shape)

    def _begin(self, slots: Sequence[int]) -> None:
        """The next episodes of the slots' seeds, where there are any left."""
        for slot in slots:
            seed = slot // self._per
            self._index[slot] = self._next[seed] if self._next[seed] < self._episodes else -1
            self._next[seed] += 1
        self._again([slot for slot in slots if self._index[slot] >= 0])

    def _again(self, slots: Sequence[int]) -> None:
        """The slots' episodes from their beginning."""
        seeds = {}
        for slot in slots:
            seed, index = slot // self._per, int(self._index[slot])
            self._chunk[slot] = 0
            self._returns[seed, index], self._lengths[seed, index] = 0.0, 0
            seeds[slot] = episode_seed(self._seeds[seed], Stream.EVALUATE, index)
        found = self._fleet.reset({self._numbers[slot]: seed for slot, seed in seeds.items()})
        for slot in slots:
            self._obs[slot] = found[self._numbers[slot]]

    def results(self, calls: np.ndarray, seconds: float) -> list[Episodes]:
        """Each seed's episodes, once all are over; the seconds are shared out evenly."""
        share = seconds / len(self._seeds)
        columns = zip(self._success, self._returns, self._lengths, strict=True)
        return [Episodes(*column, calls, share) for column in columns]


@jax.jit
def _fold(roots: Keys, index: Array, chunk: Array) -> KeyArray[Array, "seeds envs"]:
    def one(root: Any, i: Array, c: Array) -> Any:
        return jax.random.fold_in(jax.random.fold_in(root, i), c)

    return jax.vmap(jax.vmap(one, in_axes=(None, 0, 0)))(roots, index, chunk)
