"""Evaluation: many episodes side by side, one policy call per chunk for all of them."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from flowpolicy import parts
from flowpolicy.agents.base import Agent, Memory
from flowpolicy.envs.fleet import Fleet
from flowpolicy.errors import InvalidData
from flowpolicy.refine import Refiner
from flowpolicy.train.folder import OWN, EvaluationRow, RunFolder
from flowpolicy.train.learner import Learner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import Evaluation, RunConfig
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.stop import Halted, StopFlag
from flowpolicy.train.table import Episodes, Table
from flowpolicy.train.task import Normalises, Task
from flowpolicy.train.updates import Act, acting
from flowpolicy.train.watch import Watch
from flowpolicy.types import Key, Observation


def refined(refiner: Refiner) -> Callable[[Agent], Act]:
    """Acting with ``refiner`` in the place of the agent's own."""

    def choose(agent: Agent) -> Act:
        def act(key: Key, obs: Observation, memory: Memory) -> tuple[Float[Array, "d"], Memory]:
            action = refiner(key, agent.flow(), lambda a: agent.value(obs, a), obs)
            return action, memory

        return act

    return choose


def own(agent: Agent) -> Act:
    """Acting as the agent does."""
    return agent.act


def slots(wanted: Evaluation, seeds: int) -> int:
    """Environments that evaluations take: ``side_by_side`` in all, as many for every seed."""
    most = max(wanted.episodes, wanted.final_episodes)
    return seeds * min(max(wanted.side_by_side // seeds, 1), most)


def scored(row: EvaluationRow, task: Task) -> EvaluationRow:
    """``row`` with the normalised score of its return, where ``task`` has reference returns."""
    if not isinstance(task, Normalises):
        return row
    try:
        score = task.normalised(row.returns, row.length)
    except InvalidData:  # as not every set of a kind has them
        return row
    return dataclasses.replace(row, score=round(score, 4))


class Examiner:
    """Evaluates the agents of a run as it goes on and writes the results down.

    Its environments are those of the fleet that come after the ones that collect, or the only one.
    """

    def __init__(
        self, fleet: Fleet, config: RunConfig, normaliser: Normaliser, folder: RunFolder
    ) -> None:
        """Nothing is played yet."""
        self._config, self._folder = config, folder
        seeds, wanted = len(config.seeds), config.evaluation
        ways = {OWN: own} | {parts.describe(r): refined(r) for r in wanted.refiners}
        numbers = range(seeds, seeds + (slots(wanted, seeds) if fleet.repeats else 1))
        self._evaluators = {
            label: Evaluator(way, normaliser, fleet, numbers) for label, way in ways.items()
        }

    def __call__(
        self, learner: Learner, phase: str, step: int, episodes: int, watch: Watch, stop: StopFlag
    ) -> list[EvaluationRow]:
        """``episodes`` episodes of every seed and refiner, one row of ``evaluations.csv`` each.

        Raises ``Halted`` once ``stop`` is set; a row is of a whole evaluation. Rows are written
        when all are there: an evaluation that is stopped is played again from its beginning.
        ``watch`` is told where actions of a refiner were not finite and 0 was executed for them.
        """
        seeds, chunk = self._config.seeds, self._config.agent.view.chunk
        rows = []

        def checked(chunks: np.ndarray) -> np.ndarray:
            if learner.sentinel is None:
                return chunks
            flat = chunks.reshape(len(seeds), -1)
            return learner.sentinel.finite(flat, learner.trained).reshape(chunks.shape)

        for label, evaluator in self._evaluators.items():
            # A refiner that is only looked at says nothing of the training, which goes on.
            lost = _Lost(len(seeds))
            look = checked if label == OWN else lost
            played = evaluator(learner.agents, seeds, episodes, chunk, stop, look)
            for i, told in lost.told().items():
                if learner.sentinel is None or learner.sentinel.alive[i]:
                    watch.say(f"evaluation by {label}, seed {seeds[i]}, step {step}: {told}")
            for seed, own_ones in zip(seeds, played, strict=True):
                rows.append(scored(own_ones.row(seed, phase, step, label), self._config.task))
        for row in rows:
            self._folder.append_evaluation(row)
            watch.evaluation(row)
        return rows


class Evaluator:
    """Plays episodes of one task with one way of acting, those of several seeds side by side."""

    def __init__(
        self,
        act: Callable[[Agent], Act],
        normaliser: Normaliser,
        fleet: Fleet,
        numbers: Sequence[int],
    ) -> None:
        """``numbers`` are the environments of ``fleet`` that are stepped together."""
        self._act, self._normaliser = act, normaliser
        self._fleet, self._numbers = fleet, numbers
        self._calls: dict[int, Callable[..., Any]] = {}

    def __call__(
        self,
        agents: Agent,
        seeds: Sequence[int],
        episodes: int,
        chunk: int,
        stop: StopFlag | None = None,
        checked: Callable[[np.ndarray], np.ndarray] = lambda chunks: chunks,
    ) -> list[Episodes]:
        """Plays episodes 0 .. ``episodes`` - 1 of each of ``seeds`` with its own of the stacked
        ``agents``; ``Halted`` once ``stop`` is set. ``checked`` sees actions (seeds,
        environments, h * action) before they are executed, and says what is.

        Each is a function of (agent, seed, index): neither the number of environments nor the
        other episodes change it.
        """
        started = time.perf_counter()
        size = len(seeds)
        table = Table(self._fleet, self._numbers[: max(len(self._numbers) // size, 1) * size],
                      seeds, episodes)  # fmt: skip
        if size not in self._calls:
            self._calls[size] = acting(self._act, self._normaliser, size)
        roots = stream_keys(tuple(seeds), Stream.EVALUATE)
        blank = jax.tree.map(lambda x: x[0], agents).memory()
        blank = jax.tree.map(lambda x: jnp.broadcast_to(x, (*table.shape, *x.shape)), blank)
        memory, calls = blank, []
        while table.open:
            if stop:
                raise Halted
            begun = time.perf_counter()
            obs, keys = table.observations(), table.keys(roots)
            chunks, memory = self._calls[size](agents, keys, obs, memory)
            chunks = checked(np.asarray(chunks))
            calls.append(time.perf_counter() - begun)
            fresh = table.play(chunks.reshape(*table.shape, chunk, -1))
            memory = _reset(memory, blank, fresh)
        return table.results(np.asarray(calls), time.perf_counter() - started)


class _Lost:
    """0 in the place of what is not finite; ``calls`` are those of each seed with some of it."""

    def __init__(self, seeds: int) -> None:
        self.calls, self._all = np.zeros(seeds, np.int64), 0

    def __call__(self, chunks: np.ndarray) -> np.ndarray:
        finite = np.isfinite(chunks)
        self.calls += ~finite.reshape(len(self.calls), -1).all(axis=1)
        self._all += 1
        return np.where(finite, chunks, np.float32(0.0))

    def told(self) -> dict[int, str]:
        """What there is to say, by the number of the seed; nothing where all was finite."""
        return {
            int(i): f"in {self.calls[i]} of {self._all} calls actions were not finite, and 0 was "
            "executed in their place; its row is no measure of the refiner"
            for i in np.flatnonzero(self.calls)
        }


@jax.jit
def _reset(memory: Memory, blank: Memory, fresh: Bool[Array, "seeds envs"]) -> Memory:
    def one(m: Array, b: Array) -> Array:
        return jnp.where(fresh.reshape(*fresh.shape, *[1] * (m.ndim - 2)), b, m)

    return jax.tree.map(one, memory, blank)
