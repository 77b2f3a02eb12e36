"""The learning side of a run: stacked agents, their updates, their metrics, their checkpoints."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.agents.base import Agent
from flowpolicy.data.replay import Ring
from flowpolicy.data.shards import Shards
from flowpolicy.errors import Diverged
from flowpolicy.train.checkpoint import to_arrays
from flowpolicy.train.devices import Devices
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.sentinel import Sentinel, check_rewards
from flowpolicy.train.updates import Report, Updater
from flowpolicy.train.watch import Watch
from flowpolicy.types import Metrics, Rows, Spec


class Learner:
    """Agents with a leading seed axis on every leaf, and how many updates they have had.

    updates: those dispatched; made: of each seed, its own, fewer where it stood still meanwhile
    """

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
        devices: Devices,
        on_host: bool = False,
        shards: Shards | None = None,
    ) -> None:
        """Initialises one agent per seed and moves the offline rows to the device.

        With ``on_host`` the rows stay where they are.
        ``start`` are agents to begin with in the place of new ones, one per seed. ``attempt`` makes
        every draw of training another one. Of ``shards`` the rows are the first file's.
        """
        self.config, self.normaliser, self._shards = config, normaliser, shards
        self._folder, self._watch = folder, watch
        self.updater = Updater(
            offline=rows,
            normaliser=normaliser,
            view=config.agent.view,
            draw=config.draw,
            batch=config.batch,
            seeds=len(config.seeds),
            guard=config.guard,
            precision=config.precision,
            devices=devices,
            on_host=on_host,
            augment=config.augment,
        )
        self.devices = devices
        self._pending: list[tuple[np.ndarray, Report]] = []
        self.sentinel: Sentinel | None = None
        if config.guard is not None:
            self.sentinel = Sentinel(
                config, config.guard, rows, folder=folder, watch=watch, attempt=attempt
            )
        init = jax.jit(jax.vmap(lambda key: config.agent.init(key, spec)))
        self.agents: Agent = devices.by_seed(
            start if start is not None else init(stream_keys(config.seeds, Stream.INIT))
        )
        self.updates, self.online, self.attempt = 0, False, attempt
        self.made = np.zeros(len(config.seeds), np.int64)
        self._keys = stream_keys(config.seeds, Stream.UPDATE, attempt)
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

    def update(self, rings: Ring | None, count: int, alive: np.ndarray | None = None) -> Metrics:
        """Dispatches ``count`` updates and returns before they are done; see ``Updater``.

        A seed that diverged is not alive, whatever ``alive`` (seeds,) says. An update's random
        numbers go by the seed's own count, so that they are those of the seed trained alone.
        """
        self._turn()
        alive = np.ones(len(self.made), bool) if alive is None else alive
        if self.sentinel is not None and self.sentinel.frozen:
            alive = alive & self.sentinel.alive
        with self.first_time(f"{count} {'online' if self.online else 'offline'} updates"):
            self.agents, block = self.updater.update(
                self.agents,
                rings,
                self._keys,
                self.made,
                alive,
                count=count,
                bounds=None if self.sentinel is None else self.sentinel.bounds(),
            )
        if block.report is not None:
            self._pending.append((self.made, block.report))
        self.made = self.made + count * alive
        self.updates += count
        return block.metrics

    def _turn(self) -> None:
        """The rows are those of the file that the next update belongs to, where there are many."""
        if self._shards is None:
            return
        rows = self._shards.rows(self.updates).rows
        if self.updater.replace(rows):
            check_rewards(self.config, rows)
            if self.sentinel is not None:
                self.sentinel.saw_offline(rows)

    def close(self) -> None:
        """Ends the threads that read rows, if there are any."""
        self.updater.close()
        if self._shards is not None:
            self._shards.close()

    def look(self) -> None:
        """Waits for the updates and reads what the guards say of those not yet looked at.

        Raises ``GoBack`` and ``Diverged``, see ``Sentinel``.
        """
        pending, self._pending = self._pending, []
        for first, report in pending:
            if self.sentinel is not None:
                self.sentinel.read(first, report, self.trained, online=self.online)

    @property
    def trained(self) -> Trained:
        """What a checkpoint holds of it."""
        return Trained(self.agents, self.normaliser)

    @property
    def flawed(self) -> bool:
        """Whether the newest update was bad: no state to keep."""
        return self.sentinel is not None and self.sentinel.flawed

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
        """Writes the mean of some blocks' metrics over their good updates, one line per seed.

        The values must be finite; raises ``Diverged`` otherwise, before a checkpoint could keep the
        broken state, and what ``look`` raises.
        """
        self.look()
        means = [self._means(i, blocks) for i in range(len(self.config.seeds))]
        for seed, line in zip(self.config.seeds, means, strict=True):
            for name, value in line.items():
                if not np.isfinite(value):
                    where = f"{phase} step {step}, seed {seed}"
                    raise self._diverged(f"{name} is {value} ({where})")
        clock = round(self.seconds, 3)
        lines: list[dict[str, Any]] = [
            {"seed": seed, "phase": phase, "step": step, "updates": made, "seconds": clock, **own}
            for seed, made, own in zip(self.config.seeds, self.made.tolist(), means, strict=True)
        ]
        self._folder.append_metrics(lines)
        for line in lines:
            self._watch.metrics(line)

    def _means(self, i: int, blocks: list[Metrics]) -> dict[str, float]:
        """One seed's metrics over the good updates of some blocks, and what the guards counted."""
        sentinel = self.sentinel
        guard = {} if sentinel is None else sentinel.line(i)
        good = np.asarray([b["guard/good"][i] if guard else 1.0 for b in blocks])
        if not good.any() or (sentinel is not None and i in sentinel.frozen):
            return guard
        names = [name for name in blocks[0] if name != "guard/good"]
        means = {k: float(np.average([b[k][i] for b in blocks], weights=good)) for k in names}
        return means | guard

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
        self.agents = self.devices.by_seed(agents)
        self.updates, self.online = meta["updates"], meta["online"]
        self.made = np.asarray(meta["made"], np.int64)
        self._started = time.perf_counter() - meta["seconds"]


@jax.jit
def _finite(agents: Agent) -> Any:
    """Per leaf, whether every number in it is finite."""

    def finite(leaf: Any) -> Any:
        return jnp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.floating) else True

    return jax.tree.map(finite, agents)
