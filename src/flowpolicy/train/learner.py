"""The learning side of a run: stacked agents, their updates, their metrics, their checkpoints."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from flowpolicy.agents.base import Agent
from flowpolicy.data.replay import Ring
from flowpolicy.errors import Diverged
from flowpolicy.train.checkpoint import to_arrays
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.updates import Updater
from flowpolicy.train.watch import Watch
from flowpolicy.types import Metrics, Rows, Spec


class Learner:
    """Agents with a leading seed axis on every leaf, and how many updates they have had."""

    def __init__(
        self,
        config: RunConfig,
        spec: Spec,
        rows: Rows | None,
        *,
        normaliser: Normaliser,
        folder: RunFolder,
        watch: Watch,
        start: Agent | None = None,
        attempt: int = 0,
    ) -> None:
        """Initialises one agent per seed and moves the offline rows to the device.

        ``start`` are agents to begin with in the place of new ones, one per seed. ``attempt`` makes
        every draw of training another one.
        """
        self.config, self.normaliser = config, normaliser
        self._folder, self._watch = folder, watch
        self.updater = Updater(
            offline=rows,
            normaliser=normaliser,
            view=config.agent.view,
            draw=config.draw,
            batch=config.batch,
            seeds=len(config.seeds),
        )
        init = jax.jit(jax.vmap(lambda key: config.agent.init(key, spec)))
        self.agents: Agent = (
            start if start is not None else init(stream_keys(config.seeds, Stream.INIT))
        )
        self.updates, self.online, self.attempt = 0, False, attempt
        self._keys = stream_keys(config.seeds, Stream.UPDATE, attempt)
        self._all = jnp.ones(len(config.seeds), bool)
        self._seen: set[str] = set()
        self._started = time.perf_counter()

    def alone(self, i: int) -> Agent:
        """The agent of the i-th seed, without the seed axis."""
        return jax.tree.map(lambda x: x[i], self.agents)

    def begin_online(self) -> None:
        """Turns the agents into those of the online phase, once."""
        if not self.online:
            begin = jax.jit(jax.vmap(lambda agent, key: agent.begin_online(key)))
            keys = stream_keys(self.config.seeds, Stream.BEGIN_ONLINE, self.attempt)
            self.agents, self.online = begin(self.agents, keys), True

    def update(
        self, rings: Ring | None, count: int, alive: Bool[Array, "seeds"] | None = None
    ) -> Metrics:
        """Dispatches ``count`` updates and returns before they are done; see ``Updater``."""
        with self.first_time(f"{count} {'online' if self.online else 'offline'} updates"):
            self.agents, metrics = self.updater.update(
                self.agents,
                rings,
                self._keys,
                self.updates,
                self._all if alive is None else alive,
                count=count,
            )
        self.updates += count
        return metrics

    @contextlib.contextmanager
    def first_time(self, program: str) -> Iterator[None]:
        """Tells the watch that ``program`` is being compiled, where it runs for the first time."""
        if program in self._seen:
            yield
            return
        self._seen.add(program)
        with self._watch.compiling(program):
            yield

    def log(self, phase: str, step: int, blocks: list[Metrics]) -> None:
        """Writes the mean of some blocks' metrics, one line per seed; the values must be finite.

        Raises ``Diverged`` otherwise, before a checkpoint could keep the broken state.
        """
        means = {k: np.mean([np.asarray(b[k]) for b in blocks], axis=0) for k in blocks[0]}
        for name, value in means.items():
            if not np.isfinite(value).all():
                raise self._diverged(f"{name} is {value.tolist()} ({phase} step {step})")
        clock = round(self.seconds, 3)
        base = {"phase": phase, "step": step, "updates": self.updates, "seconds": clock}
        lines: list[dict[str, Any]] = [
            {"seed": seed, **base, **{name: float(value[i]) for name, value in means.items()}}
            for i, seed in enumerate(self.config.seeds)
        ]
        self._folder.append_metrics(lines)
        for line in lines:
            self._watch.metrics(line)

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{what} after {self.updates} updates: training stopped, and the last good checkpoint "
            f"stays in {self._folder.checkpoints}"
        )

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, without the time in which it stood still."""
        return time.perf_counter() - self._started

    def state(self) -> dict[str, np.ndarray]:
        """Copies of the agents and the normaliser on the host, as a checkpoint has them.

        Raises ``Diverged`` where a leaf is not finite: metrics show that an update later.
        """
        found = jax.tree_util.tree_flatten_with_path(_finite(self.agents))[0]
        for path, finite in found:
            if not finite:
                raise self._diverged(f"{jax.tree_util.keystr(path)} is not finite")
        return to_arrays(Trained(self.agents, self.normaliser))

    def restore(self, agents: Agent, meta: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.agents, self.updates, self.online = agents, meta["updates"], meta["online"]
        self._started = time.perf_counter() - meta["seconds"]


@jax.jit
def _finite(agents: Agent) -> Any:
    """Per leaf, whether every number in it is finite."""

    def finite(leaf: Any) -> Any:
        return jnp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.floating) else True

    return jax.tree.map(finite, agents)
