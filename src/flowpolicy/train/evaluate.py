"""Evaluation: many episodes side by side, one policy call per chunk for all of them."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flowpolicy import parts
from flowpolicy.agents.base import Agent, Memory
from flowpolicy.envs.base import Env
from flowpolicy.refine import Refiner
from flowpolicy.train.folder import OWN, EvaluationRow, RunFolder
from flowpolicy.train.learner import Learner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.random import Stream, episode_seed, stream_key
from flowpolicy.train.stop import Halted, StopFlag
from flowpolicy.train.task import Task
from flowpolicy.train.updates import Act, acting
from flowpolicy.train.watch import Watch
from flowpolicy.types import Key, Keys, Observation


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


class Examiner:
    """Evaluates the agents of a run as it goes on and writes the results down.

    Its environments are made at the first evaluation and are not those that collect.
    """

    def __init__(
        self, task: Task, config: RunConfig, normaliser: Normaliser, folder: RunFolder
    ) -> None:
        """Nothing is made yet."""
        self._task, self._config, self._folder = task, config, folder
        self._normaliser = normaliser
        self._evaluators: dict[str, Evaluator] = {}
        self._envs: list[Env] = []

    def __call__(
        self, learner: Learner, phase: str, step: int, episodes: int, watch: Watch, stop: StopFlag
    ) -> list[EvaluationRow]:
        """``episodes`` episodes of every seed and refiner, one row of ``evaluations.csv`` each.

        Raises ``Halted`` once ``stop`` is set; a row is of a whole evaluation.
        """
        if not self._evaluators:
            self._build()
        rows = []
        for i, seed in enumerate(self._config.seeds):
            for label, evaluator in self._evaluators.items():
                played = evaluator(
                    learner.alone(i), seed, episodes, self._config.agent.view.chunk, stop
                )
                row = played.row(seed, phase, step, label)
                self._folder.append_evaluation(row)
                watch.evaluation(row)
                rows.append(row)
        return rows

    def _build(self) -> None:
        wanted = self._config.evaluation
        most = max(wanted.episodes, wanted.final_episodes)
        self._envs = [self._task.env() for _ in range(min(wanted.side_by_side, most))]
        ways = {OWN: own} | {parts.describe(r): refined(r) for r in wanted.refiners}
        self._evaluators = {
            label: Evaluator(way, self._normaliser, self._envs) for label, way in ways.items()
        }

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs:
            env.close()


class Evaluator:
    """Plays episodes of one task with one way of acting; compiled once."""

    def __init__(
        self, act: Callable[[Agent], Act], normaliser: Normaliser, envs: list[Env]
    ) -> None:
        """``envs`` are stepped together."""
        self._call = acting(act, normaliser)
        self._envs = envs

    def __call__(
        self,
        agent: Agent,
        seed: int,
        episodes: int,
        chunk: int,
        stop: StopFlag | None = None,
    ) -> Episodes:
        """Plays episodes 0 .. ``episodes`` - 1 of ``seed``; ``Halted`` once ``stop`` is set.

        Each is a function of (agent, seed, index): neither the number of environments nor the
        other episodes change it.
        """
        started = time.perf_counter()
        table = _Table(self._envs, seed, episodes)
        root = stream_key(seed, Stream.EVALUATE)
        memory = jax.tree.map(lambda x: jnp.stack([x] * len(self._envs)), agent.memory())
        calls: list[float] = []
        while table.open:
            if stop:
                raise Halted
            begun = time.perf_counter()
            chunks, memory = self._call(agent, table.keys(root), table.observations(), memory)
            chunks = np.asarray(chunks)
            calls.append(time.perf_counter() - begun)
            fresh = table.play(chunks.reshape(len(self._envs), chunk, -1))
            memory = _reset(memory, fresh, agent.memory())
        return table.result(np.asarray(calls), time.perf_counter() - started)


def _reset(memory: Memory, fresh: list[int], blank: Memory) -> Memory:
    for slot in fresh:
        memory = jax.tree.map(lambda m, b, i=slot: m.at[i].set(b), memory, blank)
    return memory


class _Table:
    """Which episode each environment plays, and what came of those that ended."""

    def __init__(self, envs: list[Env], seed: int, episodes: int) -> None:
        self._envs, self._seed, self._episodes = envs, seed, episodes
        self._next = 0
        self._index = [-1] * len(envs)
        self._chunk = [0] * len(envs)
        self._obs: list[Any] = [None] * len(envs)
        self._success = np.zeros(episodes, bool)
        self._returns = np.zeros(episodes, np.float64)
        self._lengths = np.zeros(episodes, np.int64)
        for slot in range(len(envs)):
            self._begin(slot)

    @property
    def open(self) -> bool:
        """Whether an episode is still being played."""
        return any(i >= 0 for i in self._index)

    def keys(self, root: Key) -> Keys:
        """One key per environment, a function of its episode and chunk alone."""
        index = jnp.asarray([max(i, 0) for i in self._index])
        chunk = jnp.asarray(self._chunk)
        return _fold(root, index, chunk)

    def observations(self) -> Observation:
        """The current ones, stacked; those of idle environments repeat another's."""
        some = next(o for o in self._obs if o is not None)
        filled = [some if o is None else o for o in self._obs]
        return jax.tree.map(lambda *xs: np.stack(xs), *filled)

    def play(self, chunks: np.ndarray) -> list[int]:
        """Executes one chunk in every open environment; returns those that began an episode."""
        fresh = []
        for slot, chunk in enumerate(chunks):
            if self._index[slot] >= 0 and self._play_one(slot, chunk):
                self._begin(slot)
                fresh.append(slot)
        return fresh

    def _play_one(self, slot: int, chunk: np.ndarray) -> bool:
        index = self._index[slot]
        self._chunk[slot] += 1
        for action in chunk:
            step = self._envs[slot].step(action)
            self._obs[slot] = step.obs
            self._returns[index] += step.reward
            self._lengths[index] += 1
            if step.terminated or step.truncated:
                self._success[index] = step.success
                return True
        return False

    def _begin(self, slot: int) -> None:
        self._chunk[slot] = 0
        if self._next >= self._episodes:
            self._index[slot] = -1
            return
        self._index[slot] = self._next
        self._next += 1
        seed = episode_seed(self._seed, Stream.EVALUATE, self._index[slot])
        self._obs[slot] = self._envs[slot].reset(seed)

    def result(self, calls: np.ndarray, seconds: float) -> Episodes:
        """The episodes, once all are over."""
        return Episodes(self._success, self._returns, self._lengths, calls, seconds)


@jax.jit
def _fold(root: Key, index: Array, chunk: Array) -> Keys:
    return jax.vmap(lambda i, c: jax.random.fold_in(jax.random.fold_in(root, i), c))(index, chunk)
