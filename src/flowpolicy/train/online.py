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
    each seed's own, those of all online phases, so that none draws the noise of another.
    """

    def __init__(
        self, envs: list[Env], seeds: tuple[int, ...], chunk: int, *, attempt: int = 0
    ) -> None:
        """Nothing is reset until the first tick."""
        self._envs, self._seeds, self._chunk, self._attempt = envs, seeds, chunk, attempt
        self._began = [attempt] * len(envs)  # whose random numbers each episode began with
        self._obs: list[Observation] = [None] * len(envs)
        self._over = [True] * len(envs)
        self._gain = [0.0] * len(envs)
        self._actions: list[list[np.ndarray]] = [[] for _ in envs]
        self.ticks = np.zeros(len(envs), np.int64)
        self.env_steps = np.zeros(len(envs), np.int64)
        self.episodes = np.zeros(len(envs), np.int64)

    def begin(self) -> np.ndarray:
        """Resets what is over; returns which seeds began an episode, as booleans."""
        fresh = np.asarray(self._over)
        for i in np.flatnonzero(fresh):
            self._reset(int(i), self._attempt)
        return fresh

    def _reset(self, i: int, attempt: int) -> None:
        number, self._began[i] = int(self.episodes[i]), attempt
        seed = episode_seed(self._seeds[i], Stream.EXPLORE, number, attempt)
        self._obs[i] = self._envs[i].reset(seed)
        self._over[i], self._gain[i], self._actions[i] = False, 0.0, []

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
        counts = np.asarray([len(s) for s in steps])
        self.ticks += counts > 0
        return self._rows(steps, chunks.shape[-1]), counts, ended

    def _one(self, i: int, action: np.ndarray) -> tuple[Any, ...]:
        before = self._obs[i]
        step = self._envs[i].step(action)
        self._check(i, step)
        self._obs[i] = step.obs
        self._over[i] = step.terminated or step.truncated
        self._gain[i] += step.reward
        self._actions[i].append(action)
        self.env_steps[i] += 1
        return before, action, step.reward, step.terminated, self._over[i], step.obs, step.success

    def _check(self, i: int, step: Step) -> None:
        """A value that is not finite would spoil the replay, and the losses much later."""
        for what, leaves in (("reward", [step.reward]), ("observation", jax.tree.leaves(step.obs))):
            if not all(np.isfinite(x).all() for x in leaves):
                raise InvalidData(
                    f"{self._envs[i].name}: the {what} after step {len(self._actions[i]) + 1} of "
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
        seeds. Their episodes are over.
        """
        self.ticks = np.asarray(said["ticks"], np.int64)
        self.env_steps = np.asarray(said["env_steps"], np.int64)
        self.episodes = np.asarray(said["episodes"], np.int64)
        troubles, lost = [], []
        for name, gain in said["going"].items():
            i, was = int(name), recorded[name]
            self._reset(i, said["began"][i])
            for action in was["actions"]:
                step = self._envs[i].step(action)
                self._obs[i] = step.obs
                self._gain[i] += step.reward
                self._actions[i].append(action)
                self._over[i] = step.terminated or step.truncated
            same = jax.tree.map(np.array_equal, self._obs[i], was["obs"])
            if self._over[i] or self._gain[i] != gain or not all(jax.tree.leaves(same)):
                troubles.append(
                    f"{self._envs[i].name}: episode {int(self.episodes[i])} of seed "
                    f"{self._seeds[i]}, played again, is another one after "
                    f"{len(self._actions[i])} steps"
                )
                lost.append(i)
                self._over[i] = True
                self.episodes[i] += 1
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

    def state(self) -> dict[str, float]:
        """The seconds so far."""
        return {name: getattr(self, name) for name in ("environment", "policy", "updates", "total")}

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from ``state``; an empty one is the beginning."""
        for name, seconds in state.items():
            setattr(self, name, seconds)

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
        report: Callable[[list[dict[str, Any]]], None],
        made: Callable[[Rows, np.ndarray], None],
    ) -> None:
        """``first`` counts the steps of earlier phases. ``report`` is given one line per episode
        that ends, ``made`` the rows of a tick and how many of each seed's are real.
        """
        self._phase, self._learner, self._stepper = phase, learner, stepper
        self._chunk, self._report, self._made = chunk, report, made
        self.rings, self.clock = rings, Clock()
        self.first = first
        self._limit = self.first + phase.env_steps
        self.explorer = Explorer(
            learner.config.seeds,
            learner.normaliser,
            learner.alone(0).memory(),
            attempt=learner.attempt,
        )

    @property
    def per_tick(self) -> int:
        """Updates of a tick."""
        return self._chunk * self._phase.updates_per_step

    @property
    def done(self) -> int:
        """Environment steps of the slowest seed in this phase."""
        return int(self._stepper.env_steps.min()) - self.first

    def __call__(self) -> Metrics | None:
        """One tick; the metrics of its updates, if it made any."""
        learner, stepper, clock = self._learner, self._stepper, self.clock
        clock.start()
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
        metrics = self._update()
        clock.lap("updates")
        chunks = chunks.reshape(len(learner.config.seeds), self._chunk, -1)
        rows, counts, ended = stepper.step(chunks, self._limit)
        clock.lap("environment")
        self.rings = learner.updater.insert(self.rings, rows, jnp.asarray(counts, jnp.int32))
        self._made(rows, counts)
        if ended:
            self._report(ended)
        clock.rest()
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

    def _update(self) -> Metrics | None:
        """Seeds below ``start_after``, or that have made all their steps, keep their agent."""
        steps = self._stepper.env_steps
        alive = (steps - self.first >= max(self._phase.start_after, 1)) & (steps < self._limit)
        if not alive.any():
            return None
        return self._learner.update(self.rings, self.per_tick, alive)
