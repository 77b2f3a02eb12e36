"""``Comparison``: methods side by side, as numbers. Frozen; every result is a plain dataclass.

Rates come from a protocol (``scores.final`` or ``scores.last_three``). What is not there is None,
and ``missing`` names it.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from flowpolicy.errors import unknown_name
from flowpolicy.report import contrasts, results, sooner, statistics
from flowpolicy.report.clock import Waiting, waiting
from flowpolicy.report.methods import Cell
from flowpolicy.report.progress import PhaseCurve, phase_curves
from flowpolicy.report.results import SEED, Aggregate, Improvement, Paired, Result
from flowpolicy.report.runfiles import RunFiles
from flowpolicy.report.scores import Protocol, Score, final, missing
from flowpolicy.report.sooner import MeanSpeedup, Reached, online_curves
from flowpolicy.report.thresholds import THRESHOLDS


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs, sorted into methods and tasks."""

    cells: tuple[Cell, ...]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Labels, in the order in which the runs were given."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted({cell.task for cell in self.cells}))

    @cached_property
    def runs(self) -> tuple[RunFiles, ...]:
        """Every run, once."""
        return tuple({run.path: run for cell in self.cells for run in cell.runs}.values())

    def cell(self, method: str, task: str) -> Cell | None:
        """One method on one task, if there is a run of it."""
        return next((c for c in self.cells if (c.method, c.task) == (method, task)), None)

    def only(self, *methods: str) -> "Comparison":
        """The same without other methods; ``UnknownName`` for one that is not there."""
        for method in methods:
            if method not in self.methods:
                raise unknown_name("method of the comparison", method, self.methods)
        return Comparison(tuple(c for m in methods for c in self.cells if c.method == m))

    def missing(self) -> tuple[str, ...]:
        """Sentences that name every evaluation that is not there."""
        empty = [
            f"{method} on {task}: no run"
            for task in self.tasks
            for method in self.methods
            if self.cell(method, task) is None
        ]
        return (*(note for cell in self.cells for note in missing(cell)), *empty)

    def table(self, protocol: Protocol = final) -> tuple[Result, ...]:
        """Success of every method on every task; what has no score is left out (``missing``)."""
        cells = (self.cell(method, task) for task in self.tasks for method in self.methods)
        found = ((cell, protocol(cell)) for cell in cells if cell is not None)
        return tuple(results.result(cell, scores) for cell, scores in found if scores)

    def aggregate(self, protocol: Protocol = final) -> tuple[Aggregate, ...]:
        """Success over the tasks that every method has a score on; empty where there is none.

        In each method, over the seeds that have a score on all of them.
        """
        scores = {m: s for m in self.methods if (s := self._scores(m, protocol))}
        common = [t for t in self.tasks if all(t in by_task for by_task in scores.values())]
        rows = []
        for method, by_task in scores.items() if common else ():
            seeds = sorted(set.intersection(*(set(by_task[task]) for task in common)))
            if seeds:
                rows.append(results.aggregate(method, by_task, common, seeds))
        return tuple(rows)

    def paired(self, protocol: Protocol = final) -> tuple[Paired, ...]:
        """Differences of every two methods: on each task they share, then over those tasks.

        The last needs seeds that both have on all of these tasks.
        """
        rows = []
        for first, second in itertools.combinations(self.methods, 2):
            one, two = self._scores(first, protocol), self._scores(second, protocol)
            common = [task for task in one if task in two and set(one[task]) & set(two[task])]
            spans = [[task] for task in common] + ([common] if len(common) > 1 else [])
            for tasks in spans:
                seeds = set.intersection(*(set(one[t]) & set(two[t]) for t in tasks))
                if seeds:
                    rows.append(results.paired((first, one), (second, two), tasks, sorted(seeds)))
        return tuple(rows)

    def improvement(self, protocol: Protocol = final) -> tuple[Improvement, ...]:
        """Probability of improvement of every two methods over the tasks they share.

        In each method, over the seeds that have a score on all of these.
        """
        rows = []
        for first, second in itertools.combinations(self.methods, 2):
            one, two = self._scores(first, protocol), self._scores(second, protocol)
            tasks = [task for task in one if task in two]
            tables = [results.rectangle(by_task, tasks) for by_task in (one, two) if tasks]
            if not tables or any(table.size == 0 for table in tables):
                continue
            rng = np.random.default_rng(SEED)
            many = max(len(table) for table in tables) > 1
            interval = contrasts.improvement_interval(tables[0], tables[1], rng) if many else None
            value = float(contrasts.improvement(tables[0], tables[1]))
            rows.append(Improvement(first, second, tuple(tasks), value, interval))
        return tuple(rows)

    def profile(
        self, levels: Float[np.ndarray, "levels"], protocol: Protocol = final
    ) -> Mapping[str, Float[np.ndarray, "levels"]]:
        """Of each method in ``aggregate``: the share of runs that score above each level."""
        found = {}
        for row in self.aggregate(protocol):
            scores = self._scores(row.method, protocol)
            found[row.method] = statistics.profile(
                results.rates(scores, row.tasks, row.seeds), levels
            )
        return found

    def curves(self, task: str) -> Mapping[str, tuple[PhaseCurve, ...]]:
        """The learning curves of all methods on a task."""
        cells = [cell for cell in self.cells if cell.task == task and cell.evaluations]
        rng = np.random.default_rng(SEED)
        return {c.method: phase_curves(c.evaluations, c.refiner, rng) for c in cells}

    def speedup(self, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Reached, ...]:
        """How much sooner each method is at each success rate than each other one, per task.

        Only methods with at least two online evaluations have a time; step 0 of the online phase
        is the last offline evaluation. The best success of each is a target for the other, too.
        """
        rows = []
        for task in self.tasks:
            for fast, slow in itertools.combinations(self._online(task).items(), 2):
                rows += sooner.reached(task, fast, slow, thresholds)
                rows += sooner.reached_best(task, fast, slow)
                rows += sooner.reached_best(task, slow, fast)
        return tuple(rows)

    def mean_speedup(self) -> tuple[MeanSpeedup, ...]:
        """How much sooner each method is at the best success of each other one, over their tasks.

        Those on which both have at least two online evaluations, as in ``speedup``.
        """
        online = {task: self._online(task) for task in self.tasks}
        found: dict[tuple[str, str], dict[str, Reached]] = {}
        for row in self.speedup(()):
            found.setdefault((row.fast, row.slow), {})[row.task] = row
        rows = []
        for fast, slow in itertools.permutations(self.methods, 2):
            tasks = [task for task, has in online.items() if fast in has and slow in has]
            if tasks:
                rows.append(sooner.mean_speedup(fast, slow, tasks, found.get((fast, slow), {})))
        return tuple(rows)

    def waiting(self, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Waiting, ...]:
        """Steps and seconds of training until each success rate, by task and method.

        Only methods with at least two online evaluations, as in ``speedup``.
        """
        rows = []
        for task in self.tasks:
            curves = self.curves(task)
            for cell in (c for c in self.cells if c.task == task and c.method in curves):
                rows += waiting(cell, curves[cell.method], thresholds)
        return tuple(rows)

    def __str__(self) -> str:
        """The table of final success as text."""
        lines = []
        for row in self.table():
            low, high = row.interval
            seeds = f"{len(row.seeds)} seed" + "s" * (len(row.seeds) > 1)
            lines.append(
                f"{row.task}  {row.method}: {row.mean:.3f} [{low:.3f}, {high:.3f}], {seeds}"
            )
        return "\n".join([*lines, *(f"missing: {note}" for note in self.missing())])

    def _online(self, task: str) -> dict[str, tuple[PhaseCurve, ...]]:
        return {m: curves for m, curves in self.curves(task).items() if online_curves(curves)}

    def _scores(self, method: str, protocol: Protocol) -> dict[str, Mapping[int, Score]]:
        mine = {cell.task: protocol(cell) for cell in self.cells if cell.method == method}
        return {task: mine[task] for task in sorted(mine) if mine[task]}
