"""The one loop: phases, ticks, evaluations, checkpoints, over a seed axis.

It knows agents by their base, tasks and environments by their protocols, and none by name.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.replay import Ring
from flowpolicy.envs.base import Env
from flowpolicy.errors import InvalidConfig
from flowpolicy.train.evaluate import Examiner
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.learner import Learner
from flowpolicy.train.online import Stepper, Ticker
from flowpolicy.train.phases import Offline, Online, RunConfig
from flowpolicy.train.stop import Halted, StopFlag, Stopped, stop_on_signal
from flowpolicy.train.task import Task
from flowpolicy.train.watch import Silent, Watch
from flowpolicy.types import Rows, Spec


def run(
    config: RunConfig,
    task: Task,
    dataset: Dataset | None,
    out: Path,
    *,
    record: dict[str, Any] | None = None,
    watch: Watch | None = None,
    start: Trained | None = None,
) -> RunFolder:
    """Trains ``config.agent`` through ``config.phases`` and leaves a run folder at ``out``.

    ``record`` is added to ``config.json``. ``start`` is what training begins with in the place of
    new agents and of a normaliser fitted to the rows; its agents must be of this configuration.
    Raises ``Diverged`` where a metric stops being finite and ``Stopped`` on Ctrl-C or SIGTERM; the
    last checkpoint stays in both cases.
    """
    loop = _prepare(config, task, dataset, RunFolder(out), record or {}, watch or Silent(), start)
    with stop_on_signal() as stop:
        try:
            for index, phase in enumerate(config.phases):
                if isinstance(phase, Offline):
                    loop.offline(index, phase, stop)
                else:
                    loop.online(index, phase, stop)
        finally:
            loop.close()
    return loop.folder


def _prepare(
    config: RunConfig,
    task: Task,
    dataset: Dataset | None,
    folder: RunFolder,
    record: dict[str, Any],
    watch: Watch,
    start: Trained | None,
) -> "_Loop":
    """Checks that the parts fit each other, writes ``config.json``, builds the learner."""
    if dataset is None and config.offline_updates:
        raise InvalidConfig(f"an offline phase needs data, and task {task.name!r} gives none")
    online = any(isinstance(phase, Online) for phase in config.phases)
    rows = None if dataset is None else dataset.rows
    with contextlib.ExitStack() as opened:
        envs = []
        for _ in config.seeds if online else ():
            envs.append(task.env())
            opened.callback(envs[-1].close)
        spec = _spec(dataset, envs, config.offline_updates)
        normaliser = config.normaliser.fit(rows) if start is None else start.normaliser
        told = {"task": task.name, "data": None if dataset is None else dataset.info}
        folder.create(config, spec, told | record)
        learner = Learner(
            config,
            spec,
            rows,
            normaliser=normaliser,
            folder=folder,
            watch=watch,
            start=None if start is None else start.agents,
        )
        examiner = Examiner(task, config, normaliser, folder) if task.playable else None
        opened.pop_all()  # the loop closes them from here on
    return _Loop(config, folder, watch, learner, examiner, envs, rows or _blank_rows(spec))


def _spec(dataset: Dataset | None, envs: list[Env], updates: int) -> Spec:
    sides = [
        (side.obs_shape, side.action_size) for side in (dataset, *envs[:1]) if side is not None
    ]
    if len(sides) == 2 and sides[0] != sides[1]:
        raise InvalidConfig(
            "data and environment differ in (observation shape, action size): "
            f"{sides[0]} and {sides[1]}"
        )
    if not sides:
        raise InvalidConfig("a run needs data, an environment, or both")
    return Spec(sides[0][0], sides[0][1], updates)


def _blank_rows(spec: Spec) -> Rows:
    shape = spec.obs
    obs = (
        {k: jnp.zeros((1, *v)) for k, v in shape.items()}
        if isinstance(shape, dict)
        else jnp.zeros((1, *shape))
    )
    no = jnp.zeros(1, bool)
    return Rows(obs, jnp.zeros((1, spec.action)), jnp.zeros(1), no, no, obs)


def _stopped(stop: StopFlag, path: Path) -> Stopped:
    number = stop.signal or 0
    return Stopped(f"stopped by signal {number}; checkpoint written to {path}", number)


@dataclasses.dataclass
class _Loop:
    """The parts of one run, and what is due between two dispatches."""

    config: RunConfig
    folder: RunFolder
    watch: Watch
    learner: Learner
    examiner: Examiner | None
    envs: list[Env]
    like: Rows
    stepper: Stepper | None = None
    rings: Ring | None = None

    def offline(self, index: int, phase: Offline, stop: StopFlag) -> None:
        """Blocks of updates from the data set alone."""
        self.watch.phase("offline", phase.steps, "updates")
        done = 0
        while done < phase.steps:
            before = done
            count = min(self.config.block, phase.steps - done)
            metrics = self.learner.update(None, count)
            done += count
            self.learner.log("offline", done, [metrics])
            self.watch.advance(done)
            self._due("offline", index, before, done, phase.steps, stop)
        self._finish("offline", index, phase.steps, stop)

    def online(self, index: int, phase: Online, stop: StopFlag) -> None:
        """Ticks until every seed has made its steps."""
        self.watch.phase("online", phase.env_steps, "steps")
        self.learner.begin_online()
        ticker = self._ticker(phase)
        blocks = []
        while ticker.done < phase.env_steps:
            before = ticker.done
            metrics = ticker()
            done = ticker.done
            self.rings = ticker.rings
            if metrics is not None:
                blocks.append(metrics)
            if blocks and (
                len(blocks) * ticker.per_tick >= self.config.block or done >= phase.env_steps
            ):
                jax.block_until_ready(blocks)
                ticker.clock.lap("updates")
                self.learner.log("online", done, blocks)
                blocks = []
            self.watch.advance(done)
            ticker.clock.rest()
            self._due("online", index, before, done, phase.env_steps, stop)
        shares = {"phase": "online", "step": phase.env_steps, **ticker.clock.shares()}
        self.folder.append_metrics([shares])
        self.watch.metrics(shares)
        self._finish("online", index, phase.env_steps, stop)

    def _ticker(self, phase: Online) -> Ticker:
        config, chunk = self.config, self.config.agent.view.chunk
        if self.stepper is None:
            self.stepper = Stepper(self.envs, config.seeds, chunk)
        if self.rings is None:
            self.rings = self.learner.updater.ring(self.like, config.ring_capacity)
        return Ticker(
            phase,
            self.learner,
            self.stepper,
            self.rings,
            chunk=chunk,
            report=lambda lines: self.folder.append_metrics(
                {"phase": "online", **line} for line in lines
            ),
        )

    def _due(
        self, kind: str, index: int, before: int, done: int, total: int, stop: StopFlag
    ) -> None:
        """Stops, evaluates or saves, where it is time to."""
        if stop:
            raise _stopped(stop, self._save(index, done))
        every = self.config.evaluation.every
        if every and before // every < done // every and done < total:
            # Ticks pass a multiple by a few steps, not the same in every run; curves need one step.
            step, episodes = done // every * every, self.config.evaluation.episodes
            if not self._examine(kind, step, episodes, stop):
                raise _stopped(stop, self._save(index, done))
        if self.learner.updates - self.learner.saved >= self.config.checkpoint_every:
            self._save(index, done)

    def _finish(self, kind: str, index: int, total: int, stop: StopFlag) -> None:
        path = self._save(index + 1, 0)
        if not self._examine(kind, total, self.config.evaluation.final_episodes, stop):
            raise _stopped(stop, path)

    def _examine(self, kind: str, step: int, episodes: int, stop: StopFlag) -> bool:
        """Whether the evaluation, if one is due, was played to its end."""
        if self.examiner is None or not episodes:
            return True
        jax.block_until_ready(self.learner.agents)
        try:
            self.examiner(self.learner, kind, step, episodes, self.watch, stop)
        except Halted:
            return False
        return True

    def _save(self, index: int, done: int) -> Path:
        """A checkpoint that says in which phase, and how far in it, the run is."""
        stepper = self.stepper
        steps = [] if stepper is None else stepper.env_steps.tolist()
        episodes = [] if stepper is None else stepper.episodes.tolist()
        where = {"phase": index, "done": done, "env_steps": steps, "episodes": episodes}
        return self.learner.save(where)

    def close(self) -> None:
        """Frees the environments."""
        for env in self.envs:
            env.close()
        if self.examiner is not None:
            self.examiner.close()
