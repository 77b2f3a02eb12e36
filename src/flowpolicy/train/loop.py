"""The one loop: phases, ticks, evaluations, checkpoints, over a seed axis.

It knows agents by their base, tasks and environments by their protocols, and none by name.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy.data.replay import Ring
from flowpolicy.errors import WorkerFailed
from flowpolicy.train import checkpoint
from flowpolicy.train.clock import Clock
from flowpolicy.train.folder import OWN, RunFolder
from flowpolicy.train.journal import Journal, record_type, to_records
from flowpolicy.train.keeper import Keeper
from flowpolicy.train.online import Explorer, Ticker
from flowpolicy.train.phases import Offline, Online
from flowpolicy.train.prepare import Parts
from flowpolicy.train.sentinel import GoBack
from flowpolicy.train.stepper import Stepper, Taken
from flowpolicy.train.stop import Halted, StopFlag, Stopped, stop_on_signal
from flowpolicy.train.versions import platform
from flowpolicy.types import Metrics

NONE = (-1.0, 0.0)
"""Success and return of no evaluation. Of two with the same success, as where an environment knows
none, the return decides."""


@dataclasses.dataclass
class Position:
    """How far a run is: the phase, its updates or steps, the evaluations within it."""

    phase: int = 0
    done: int = 0
    evaluated: int = 0
    ticks: int = 0


class Loop:
    """The parts of one run, and what is due between two dispatches."""

    def __init__(self, parts: Parts) -> None:
        """At the beginning; ``resume`` goes on from a checkpoint."""
        self.config, self.folder, self.watch = parts.config, parts.folder, parts.watch
        self.learner, self.examiner = parts.learner, parts.examiner
        self.like, self._opened = parts.like, parts.opened
        seeds = self.config.seeds
        self.at, self.best = Position(), NONE
        self._fleet, self._hardware = parts.fleet, parts.hardware
        self.stepper = None
        if parts.fleet is not None and self.config.ring_capacity:
            chunk = self.config.agent.view.chunk
            self.stepper = Stepper(parts.fleet, seeds, chunk, attempt=self.learner.attempt)
        self.rings: Ring | None = None
        self.ticker: Ticker | None = None
        self._explorer: Explorer | None = None
        self.first = 0
        self.memory: Any = None
        self.clock = Clock()
        self.blocks: list[Metrics] = []
        self.cuts: list[list[int]] = [[] for _ in seeds]
        kind = record_type(self.like)
        self.journals = [Journal(self.folder.journal(seed), kind) for seed in seeds]
        self.keeper = Keeper(self.folder, self.journals, keep=self.config.keep)
        self._saved: tuple[Any, Path] | None = None
        self._saved_updates = self._safe_updates = 0

    def go(self) -> RunFolder:
        """From where the run is to its end."""
        with stop_on_signal() as stop:
            self.clock.start()
            try:
                self._phases(stop)
                self.keeper.settle()
                self.folder.write_status(self._finished())
            except WorkerFailed:
                if self._fleet is None or not self._fleet.trouble:
                    raise
                # Nothing was begun that a tick or an evaluation would not begin anew.
                raise (self._stopped(stop) if stop else self._broken(self._fleet.trouble)) from None
            finally:
                self.close()
        return self.folder

    def _phases(self, stop: StopFlag) -> None:
        for index in range(self.at.phase, len(self.config.phases)):
            if index > self.at.phase:
                self.at = Position(index)
                self.ticker, self.clock = None, Clock()
            phase = self.config.phases[index]
            if isinstance(phase, Offline):
                self.offline(phase, stop)
            else:
                self.online(phase, stop)

    def _finished(self) -> dict[str, Any]:
        sentinel = self.learner.sentinel
        frozen = {} if sentinel is None else sentinel.verdicts()
        status = {"state": "finished", "updates": self.learner.updates}
        return status | ({"diverged": frozen} if frozen else {})

    def offline(self, phase: Offline, stop: StopFlag) -> None:
        """Blocks of updates from the data set alone."""
        self.watch.phase("offline", phase.steps, "updates")
        self._due("offline", phase.steps, stop)
        while self.at.done < phase.steps:
            count = min(self.config.block, phase.steps - self.at.done)
            self._secure(count)
            metrics = self.learner.update(None, count)
            self.at.done += count
            self.learner.log("offline", self._step(self.at.done), [metrics])
            self.clock.lap("updates")
            self.watch.advance(self.at.done)
            self._due("offline", phase.steps, stop)
        self._finish("offline", phase.steps, stop)

    def online(self, phase: Online, stop: StopFlag) -> None:
        """Ticks until every seed has made its steps."""
        self.watch.phase("online", phase.env_steps, "steps")
        self.learner.begin_online()
        ticker = self.ticker = self._ticker(phase)
        self._due("online", phase.env_steps, stop)
        while self.at.done < phase.env_steps:
            self._tick(ticker, phase, stop)
        self._finish("online", phase.env_steps, stop)

    def _tick(self, ticker: Ticker, phase: Online, stop: StopFlag) -> None:
        self._secure(math.ceil(ticker.per_tick))
        metrics = ticker(self.at.ticks)
        self.at.ticks += 1
        self.at.done, self.rings = ticker.done, ticker.rings
        if metrics is not None:
            self.blocks.append(metrics)
        # Ticks that made none are not among them.
        full = len(self.blocks) * max(ticker.per_tick, 1.0) >= self.config.block
        if self.blocks and (full or self.at.done >= phase.env_steps):
            jax.block_until_ready(self.blocks)
            self.clock.lap("updates")
            self.learner.log("online", self._step(self.at.done), self.blocks)
            self.blocks = []
        self.watch.advance(self.at.done)
        if self.at.done < phase.env_steps:
            self._due("online", phase.env_steps, stop)

    def _ticker(self, phase: Online) -> Ticker:
        if self.stepper is None:
            raise RuntimeError("an online phase without environments")
        if self.rings is None:
            self.rings = self.learner.updater.ring(self.like, self.config.ring_capacity)
        if self.at.done == 0:
            self.first = int(self.stepper.env_steps.min())
        if self._explorer is None:  # one for all online phases: its program is compiled once
            self._explorer = Explorer.of(self.learner)
        ticker = Ticker(
            phase,
            self.learner,
            self.stepper,
            self.rings,
            chunk=self.config.agent.view.chunk,
            first=self.first,
            clock=self.clock,
            overlap=self._hardware.overlap,
            made=self._keep_rows,
            explorer=self._explorer,
        )
        self._explorer.forget()
        if self.memory is not None:
            self._explorer.memory, self.memory = self.memory, None
        return ticker

    def _keep_rows(self, taken: Taken) -> None:
        if self.learner.sentinel is not None:
            self.learner.sentinel.saw(np.asarray(taken.rows.reward), taken.counts)
        for i, (rows_of, count) in enumerate(zip(self.journals, taken.counts, strict=True)):
            one = jax.tree.map(lambda x, i=i: x[i], taken.rows)
            rows_of.append(to_records(rows_of.kind, one, int(count)))
        for i in taken.lost:
            self.episode_lost(i)
        if taken.ended:
            self.folder.append_metrics({"phase": "online", **line} for line in taken.ended)

    def episode_lost(self, i: int) -> None:
        """The i-th seed's episode ends where its rows do."""
        if self.journals[i].rows:
            self.cuts[i].append(self.journals[i].rows - 1)

    def _interrupted(self) -> None:
        """An evaluation took the only environment: what was collected ends where its rows do."""
        if self.stepper is None or self.rings is None:
            return
        over = self.stepper.interrupt()
        for i in over:
            self.episode_lost(i)
        which = np.isin(np.arange(len(self.config.seeds)), over)
        self.rings = self.learner.updater.cut(self.rings, which)
        if self.ticker is not None:
            self.ticker.rings = self.rings

    def _due(self, kind: str, total: int, stop: StopFlag) -> None:
        """Saves, stops or evaluates, where it is time to.

        Saving comes first: a run that goes on from here finds the evaluation due again.
        """
        self.clock.rest()
        self.keeper.poll()
        if self._fleet is not None and self._fleet.trouble:
            raise WorkerFailed(self._fleet.trouble)
        spacing = self.config.spacing
        due = self.learner.updates // spacing > self._saved_updates // spacing
        if due and not self.learner.flawed:
            self.save()
            self.clock.lap("checkpoint")
        if stop:
            raise self._stopped(stop)
        every = self.config.evaluation.every
        if every and self.at.done // every > self.at.evaluated and self.at.done < total:
            # Ticks pass a multiple by a few steps, not the same in every run; curves need one step.
            self._examine(
                kind, self.at.done // every * every, self.config.evaluation.episodes, stop
            )
            self.at.evaluated = self.at.done // every

    def _secure(self, count: int) -> None:
        """Waits for the checkpoint that is being written, where a kill would cost more updates than
        it may once ``count`` more are made.
        """
        if self.learner.updates + count - self._safe_updates > self.config.checkpoint_every:
            self.keeper.wait()
            self._safe_updates = self._saved_updates
            self.clock.lap("checkpoint")

    def _finish(self, kind: str, total: int, stop: StopFlag) -> None:
        self.clock.rest()
        self.save()
        self.clock.lap("checkpoint")
        self._examine(kind, total, self.config.evaluation.final_episodes, stop)
        shares = {"phase": kind, "step": self._step(total), **self.clock.shares()}
        self.folder.append_metrics([shares])
        self.watch.metrics(shares)

    def _broken(self, what: str) -> WorkerFailed:
        path = self.save(checkpoint.STOP)
        self.keeper.wait()
        return WorkerFailed(f"{what}; checkpoint written to {path}, resume goes on from it")

    def _stopped(self, stop: StopFlag) -> Stopped:
        number = stop.signal or 0
        try:
            path = self.save(checkpoint.STOP)
        except GoBack:  # the run meets it again when it is gone on with
            self.keeper.wait()
            return Stopped(f"stopped by signal {number}, as it was about to go back", number)
        self.keeper.wait()
        return Stopped(f"stopped by signal {number}; checkpoint written to {path}", number)

    def _step(self, within: int) -> int:
        """The step that is written where this phase has made ``within``: those of earlier phases of
        its kind come before them, so that no two moments of a run have one number.
        """
        phase, earlier = self.config.phases[self.at.phase], self.config.phases[: self.at.phase]
        same = [p for p in earlier if type(p) is type(phase)]
        return within + sum(p.steps if isinstance(p, Offline) else p.env_steps for p in same)

    def _examine(self, kind: str, within: int, episodes: int, stop: StopFlag) -> None:
        """An evaluation, if one is due; a state better than those before is kept."""
        if self.examiner is None or not episodes:
            return
        jax.block_until_ready(self.learner.agents)
        try:
            step = self._step(within)
            rows = self.examiner(self.learner, kind, step, episodes, self.watch, stop)
        except Halted:
            raise self._stopped(stop) from None
        if self._fleet is not None and not self._fleet.repeats:
            self._interrupted()
        self.clock.lap("evaluation")
        own = [row for row in rows if row.refiner == OWN]
        success, gain = (float(x) for x in np.mean([(r.success, r.returns) for r in own], axis=0))
        if (success, gain) > self.best:
            self.best = success, gain
            if self.config.keep_best:
                best = self._contents(success=success, returns=gain, resumable=False)
                self.keeper.save_best(self._name(), best)

    def _name(self) -> str:
        return f"step-{self.learner.updates:09d}"

    def save(self, suffix: str = "") -> Path:
        """A checkpoint of the state as it is; returns the one there is where nothing changed."""
        if self._saved is not None and self._saved[0] == self._here():
            return self._saved[1]
        self.learner.look()
        oldest = [max(j.rows - self.config.ring_capacity, 0) for j in self.journals]
        journals = [j.cursor(old) for j, old in zip(self.journals, oldest, strict=True)]
        contents = self._contents(
            position=dataclasses.asdict(self.at),
            first=self.first,
            best=list(self.best),
            cuts=self.cuts,
            journals=journals,
            logs=self.folder.logs(),
            clock=self.clock.state(),
            guard={} if self.learner.sentinel is None else self.learner.sentinel.state(),
            flawed=self.learner.flawed,
        )
        needed = [c[0]["first"] if c else 0 for c in journals]
        path = self.keeper.save(self._name() + suffix, contents, needed)
        self.came_from(path)
        return path

    def _here(self) -> Any:
        return dataclasses.astuple(self.at), self.learner.updates, self.learner.online

    def came_from(self, path: Path) -> None:
        """The state is now that of the checkpoint ``path``."""
        self._saved, self._saved_updates = (self._here(), path), self.learner.updates

    def _contents(self, **more: Any) -> checkpoint.Contents:
        learner, stepper = self.learner, self.stepper
        said, recorded = ({}, {}) if stepper is None else stepper.state()
        loop = {
            "recorded": recorded,
            "memory": () if self.ticker is None else self.ticker.explorer.memory,
            "blocks": {k: np.stack([b[k] for b in self.blocks]) for k in (self.blocks or [{}])[0]},
        }
        meta = {
            "resumable": True,
            "updates": learner.updates,
            "made": learner.made.tolist(),
            "online": learner.online,
            "attempt": learner.attempt,
            "seconds": learner.seconds,
            "env_steps": said.get("env_steps", []),
            "stepper": said,
            "platform": platform() | learner.devices.record,
            **more,
        }
        return checkpoint.Contents(learner.state(), checkpoint.to_arrays(loop), meta)

    def close(self) -> None:
        """Frees environments, files and the lock."""
        try:
            self.keeper.close()
        finally:
            self._opened.close()
