"""The online phase: ticks of one policy call, up to h environment steps, h * UTD updates."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.agents.base import Agent, Memory
from flowpolicy.data.replay import Ring
from flowpolicy.envs.base import Env, Step
from flowpolicy.errors import InvalidData
from flowpolicy.train.learner import Learner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import Online
from flowpolicy.train.random import Stream, episode_seed, random_chunk, stream_keys
from flowpolicy.train.updates import over_seeds
from flowpolicy.types import Key, Metrics, Observation, Rows


class Stepper:
    """One environment per seed, stepped a chunk at a time.

    An episode that ends idles until the next tick, which begins with a new one. ``ticks`` counts
    those of all online phases, so that none draws the noise of another.
    """

    def __init__(self, envs: list[Env], seeds: tuple[int, ...], chunk: int) -> None:
        """Nothing is reset until the first tick."""
        self._envs, self._seeds, self._chunk = envs, seeds, chunk
        self._obs: list[Observation] = [None] * len(envs)
        self._over = [True] * len(envs)
        self._gain = [0.0] * len(envs)
        self._length = [0] * len(envs)
        self.ticks = 0
        self.env_steps = np.zeros(len(envs), np.int64)
        self.episodes = np.zeros(len(envs), np.int64)

    def begin(self) -> np.ndarray:
        """Resets what is over; returns which seeds began an episode, as booleans."""
        fresh = np.asarray(self._over)
        for i in np.flatnonzero(fresh):
            seed = episode_seed(self._seeds[i], Stream.EXPLORE, int(self.episodes[i]))
            self._obs[i] = self._envs[i].reset(seed)
            self._over[i], self._gain[i], self._length[i] = False, 0.0, 0
        return fresh

    def observations(self) -> Observation:
        """The current ones, stacked over seeds."""
        return jax.tree.map(lambda *xs: np.stack(xs), *self._obs)

    def step(self, chunks: np.ndarray, limit: int) -> tuple[Rows, np.ndarray, list[dict[str, Any]]]:
        """Executes ``chunks`` (seeds, h, action), no seed beyond ``limit`` steps in all.

        Returns rows padded to (seeds, h), how many of them are real, and one line per episode
        that ended.
        """
        steps = [[] for _ in self._envs]
        ended: list[dict[str, Any]] = []
        for i, chunk in enumerate(chunks):
            allowed = min(self._chunk, limit - int(self.env_steps[i]))
            for action in chunk[: max(allowed, 0)]:
                steps[i].append(self._one(i, action))
                if self._over[i]:
                    ended.append(self._close(i, steps[i][-1][-1]))
                    break
        return self._rows(steps, chunks.shape[-1]), np.asarray([len(s) for s in steps]), ended

    def _one(self, i: int, action: np.ndarray) -> tuple[Any, ...]:
        before = self._obs[i]
        step = self._envs[i].step(action)
        self._check(i, step)
        self._obs[i] = step.obs
        self._over[i] = step.terminated or step.truncated
        self._gain[i] += step.reward
        self._length[i] += 1
        self.env_steps[i] += 1
        return before, action, step.reward, step.terminated, self._over[i], step.obs, step.success

    def _check(self, i: int, step: Step) -> None:
        """A value that is not finite would spoil the replay, and the losses much later."""
        for what, leaves in (("reward", [step.reward]), ("observation", jax.tree.leaves(step.obs))):
            if not all(np.isfinite(x).all() for x in leaves):
                raise InvalidData(
                    f"{self._envs[i].name}: the {what} after step {self._length[i] + 1} of episode "
                    f"{int(self.episodes[i])} (seed {self._seeds[i]}) is not finite"
                )

    def _close(self, i: int, success: bool) -> dict[str, Any]:
        line = {
            "seed": self._seeds[i],
            "env_steps": int(self.env_steps[i]),
            "episode": int(self.episodes[i]),
            "episode/return": self._gain[i],
            "episode/length": self._length[i],
            "episode/success": float(success),
        }
        self.episodes[i] += 1
        return line

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


@dataclasses.dataclass
class Clock:
    """Wall seconds of the online loop by what they went to.

    ``updates`` is the time spent waiting for them; what runs while environments step is not seen.
    """

    environment: float = 0.0
    policy: float = 0.0
    updates: float = 0.0
    total: float = 0.0
    _mark: float = 0.0

    def start(self) -> None:
        """A tick begins."""
        self._mark = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap went to ``name``."""
        now = time.perf_counter()
        setattr(self, name, getattr(self, name) + now - self._mark)
        self.total += now - self._mark
        self._mark = now

    def rest(self) -> None:
        """The time since the last lap went to none of them."""
        now = time.perf_counter()
        self.total += now - self._mark
        self._mark = now

    def shares(self) -> dict[str, float]:
        """Each as a share of the total."""
        total = max(self.total, 1e-9)
        known = {
            "time/environment": self.environment / total,
            "time/policy": self.policy / total,
            "time/updates": self.updates / total,
        }
        rest = max(1.0 - sum(known.values()), 0.0)
        return {**known, "time/rest": rest, "time/seconds": self.total}


class Explorer:
    """The collecting policy over seeds, one environment each, with its memory."""

    def __init__(self, seeds: tuple[int, ...], normaliser: Normaliser, memory: Memory) -> None:
        """``memory`` is that of one agent before an episode."""
        roots = stream_keys(seeds, Stream.EXPLORE)
        self._blank = jax.tree.map(lambda x: jnp.stack([x] * len(seeds)), memory)
        self._memory = self._blank

        def one(agent: Agent, key: Key, obs: Observation, memory: Memory) -> Any:
            return agent.explore(key, normaliser(obs), memory)

        def call(agents: Agent, tick: Any, obs: Observation, memory: Memory) -> Any:
            keys = jax.vmap(lambda root: jax.random.fold_in(root, tick))(roots)
            return over_seeds(one, (0, 0, 0, 0), len(seeds))(agents, keys, obs, memory)

        self._call = jax.jit(call)

    def __call__(self, agents: Agent, tick: int, obs: Observation, fresh: np.ndarray) -> np.ndarray:
        """One chunk per seed, (seeds, D); where ``fresh``, an episode begins."""
        memory = jax.tree.map(
            lambda m, b: jnp.where(fresh.reshape(-1, *[1] * (m.ndim - 1)), b, m),
            self._memory,
            self._blank,
        )
        chunks, self._memory = self._call(agents, jnp.int32(tick), obs, memory)
        return np.asarray(chunks)


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
        report: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """``report`` is given one line per episode that ends."""
        self._phase, self._learner, self._stepper = phase, learner, stepper
        self._chunk, self._report = chunk, report
        self.rings, self.clock = rings, Clock()
        self._first = int(stepper.env_steps.min())
        self._limit = self._first + phase.env_steps
        self._explore = Explorer(
            learner.config.seeds, learner.normaliser, learner.alone(0).memory()
        )

    @property
    def per_tick(self) -> int:
        """Updates of a tick."""
        return self._chunk * self._phase.updates_per_step

    @property
    def done(self) -> int:
        """Environment steps of the slowest seed in this phase."""
        return int(self._stepper.env_steps.min()) - self._first

    def __call__(self) -> Metrics | None:
        """One tick; the metrics of its updates, if it made any."""
        learner, stepper, clock = self._learner, self._stepper, self.clock
        clock.start()
        fresh = stepper.begin()
        clock.lap("environment")
        jax.block_until_ready(learner.agents)
        clock.lap("updates")
        with learner.first_time("the collecting policy"):
            chunks = self._explore(learner.agents, stepper.ticks, stepper.observations(), fresh)
        chunks = self._randomised(chunks)
        clock.lap("policy")
        metrics = self._update()
        clock.lap("updates")
        chunks = chunks.reshape(len(learner.config.seeds), self._chunk, -1)
        rows, counts, ended = stepper.step(chunks, self._limit)
        clock.lap("environment")
        self.rings = learner.updater.insert(self.rings, rows, jnp.asarray(counts, jnp.int32))
        if ended:
            self._report(ended)
        stepper.ticks += 1
        clock.rest()
        return metrics

    def _randomised(self, chunks: np.ndarray) -> np.ndarray:
        """``chunks`` with uniform ones for the seeds that are in their random steps."""
        early = self._stepper.env_steps - self._first < self._phase.random_steps
        if not early.any():
            return chunks
        seeds, tick, size = self._learner.config.seeds, self._stepper.ticks, chunks.shape[-1]
        uniform = np.stack([random_chunk(seed, tick, size) for seed in seeds])
        return np.where(early[:, None], uniform, chunks)

    def _update(self) -> Metrics | None:
        """Seeds below ``start_after``, or that have made all their steps, keep their agent."""
        steps = self._stepper.env_steps
        alive = (steps - self._first >= max(self._phase.start_after, 1)) & (steps < self._limit)
        if not alive.any():
            return None
        return self._learner.update(self.rings, self.per_tick, jnp.asarray(alive))
