"""The online phase: ticks of one policy call, up to h environment steps, h * UTD updates."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy import parts
from flowpolicy.agents.base import Agent, Memory
from flowpolicy.data.replay import Ring
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets.product import exactly
from flowpolicy.train.clock import Clock
from flowpolicy.train.learner import Learner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import Online, RunConfig
from flowpolicy.train.random import Stream, random_chunk, stream_keys
from flowpolicy.train.stepper import Stepper, Taken
from flowpolicy.train.updates import over_seeds
from flowpolicy.types import Key, Metrics, Observation, Spec


def check_random_steps(config: RunConfig, spec: Spec) -> None:
    """``InvalidConfig`` where random steps would come before an agent that remembers."""
    steps = max((p.random_steps for p in config.phases if isinstance(p, Online)), default=0)
    if not steps:
        return
    memory = jax.eval_shape(lambda key: config.agent.init(key, spec).memory(), jax.random.key(0))
    if jax.tree.leaves(memory):
        raise InvalidConfig(
            f"online.random_steps must be 0 for {parts.name_of(config.agent)}, got {steps}: it "
            "remembers what it did, and random actions would be executed in the place of its own"
        )


class Explorer:
    """The collecting policy over seeds, one environment each, with its memory."""

    def __init__(
        self,
        seeds: tuple[int, ...],
        normaliser: Normaliser,
        memory: Memory,
        *,
        attempt: int = 0,
    ) -> None:
        """``memory`` is that of one agent before an episode."""
        roots = stream_keys(seeds, Stream.EXPLORE, attempt)
        self._blank = jax.tree.map(lambda x: jnp.stack([x] * len(seeds)), memory)
        self.memory = self._blank

        @exactly
        def one(agent: Agent, key: Key, obs: Observation, memory: Memory) -> Any:
            return agent.explore(key, normaliser(obs), memory)

        def call(agents: Agent, ticks: Any, obs: Observation, memory: Memory) -> Any:
            keys = jax.vmap(jax.random.fold_in)(roots, ticks)
            return over_seeds(one, (0, 0, 0, 0), len(seeds))(agents, keys, obs, memory)

        self._call = jax.jit(call)

    def __call__(
        self, agents: Agent, ticks: np.ndarray, obs: Observation, fresh: np.ndarray
    ) -> np.ndarray:
        """One chunk per seed, (seeds, D), the seed's ``ticks``-th; where ``fresh``, an episode
        begins.
        """
        memory = jax.tree.map(
            lambda m, b: jnp.where(fresh.reshape(-1, *[1] * (m.ndim - 1)), b, m),
            self.memory,
            self._blank,
        )
        chunks, self.memory = self._call(agents, jnp.asarray(ticks, jnp.int32), obs, memory)
        return np.asarray(chunks)

    @classmethod
    def of(cls, learner: Learner) -> "Explorer":
        """That of a run's seeds, before any episode."""
        memory = learner.alone(0).memory()
        config = learner.config
        return cls(config.seeds, learner.normaliser, memory, attempt=learner.attempt)

    def forget(self) -> None:
        """The memory is that before an episode."""
        self.memory = self._blank


class Ticker:
    """Makes ticks. A tick's updates use rows up to the end of the tick before it, and the next
    tick acts after them: environments may step while the device computes, and the result is the
    same as if they waited.
    """

    def __init__(
        self,
        phase: Online,
        learner: Learner,
        stepper: Stepper,
        rings: Ring,
        *,
        chunk: int,
        first: int,
        clock: Clock,
        overlap: bool,
        made: Callable[[Taken], None],
        explorer: Explorer,
    ) -> None:
        """``first`` counts the steps of earlier phases. ``made`` is given what came of a tick's
        actions. With ``overlap`` environments step while the device computes.
        """
        self._phase, self._learner, self._stepper = phase, learner, stepper
        self._chunk, self._made, self._overlap = chunk, made, overlap
        self.rings, self._clock = rings, clock
        self.first = first
        self._limit = self.first + phase.env_steps
        self.explorer = explorer

    @property
    def per_tick(self) -> float:
        """Updates of a tick, on average."""
        return float(self._chunk * self._phase.updates_per_step)

    @property
    def done(self) -> int:
        """Environment steps of the slowest seed in this phase."""
        return int(self._stepper.env_steps.min()) - self.first

    def __call__(self, tick: int) -> Metrics | None:
        """The phase's ``tick``-th, from 0; the metrics of its updates, if it made any."""
        learner, stepper, clock = self._learner, self._stepper, self._clock
        fresh = stepper.begin()
        clock.lap("environment")
        jax.block_until_ready(learner.agents)
        learner.look()
        clock.lap("updates")
        with learner.first_time("the collecting policy"):
            chunks = self.explorer(learner.agents, stepper.ticks, stepper.observations(), fresh)
        if learner.sentinel is not None:
            chunks = learner.sentinel.checked(chunks, learner.trained)
        chunks = self._randomised(chunks)
        clock.lap("policy")
        metrics = self._update(tick)
        if not self._overlap:
            jax.block_until_ready(learner.agents)
        clock.lap("updates")
        chunks = chunks.reshape(len(learner.config.seeds), self._chunk, -1)
        taken = stepper.step(chunks, self._limit)
        clock.lap("environment")
        self.rings = learner.updater.insert(self.rings, taken.rows, taken.counts)
        if taken.lost:
            over = np.isin(np.arange(len(taken.counts)), taken.lost)
            self.rings = learner.updater.cut(self.rings, over)
        self._made(taken)
        return metrics

    def _randomised(self, chunks: np.ndarray) -> np.ndarray:
        """``chunks`` with uniform ones for the seeds that are in their random steps."""
        early = self._stepper.env_steps - self.first < self._phase.random_steps
        if not early.any():
            return chunks
        size, attempt = chunks.shape[-1], self._learner.attempt
        numbered = zip(self._learner.config.seeds, self._stepper.ticks, strict=True)
        uniform = np.stack([random_chunk(seed, int(k), size, attempt) for seed, k in numbered])
        return np.where(early[:, None], uniform, chunks)

    def _update(self, tick: int) -> Metrics | None:
        """Seeds below ``start_after``, or that have made all their steps, keep their agent."""
        steps = self._stepper.env_steps
        alive = (steps - self.first >= max(self._phase.start_after, 1)) & (steps < self._limit)
        # By the phase's own ticks, of which seeds that are alive have made all: those of earlier
        # phases were as many as each seed's episodes asked for.
        count = math.floor((tick + 1) * self.per_tick) - math.floor(tick * self.per_tick)
        if not alive.any() or not count:
            return None
        return self._learner.update(self.rings, count, alive)
