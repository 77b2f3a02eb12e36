"""Every table of a comparison, once: the page shows it and a CSV file of the same name holds it."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowpolicy.report import page
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.confounders import confounders
from flowpolicy.report.costs import cost_of
from flowpolicy.report.methods import Cell
from flowpolicy.report.modes import Modes
from flowpolicy.report.page_tables import (
    name_of,
    page_qgbs,
    page_results,
    page_speedup,
    sweep_table,
)
from flowpolicy.report.scores import Protocol, final, last_three
from flowpolicy.report.table import Table, ends
from flowpolicy.report.thresholds import Passage
from flowpolicy.report.unlike import Settings, departures

PROTOCOLS: Mapping[str, Protocol] = {"final step": final, "mean of the last three": last_three}
LEVELS = np.linspace(0.0, 1.0, 41)


def tables(
    comparison: Comparison, papers: Mapping[tuple[str, str], Settings]
) -> Mapping[str, Table]:
    """All tables by name. ``papers``: see ``unlike.departures``."""
    made: dict[str, Callable[[], Table]] = {
        "confounders": lambda: confounders(comparison.cells),
        "success": lambda: _success(comparison),
        "overall": lambda: _overall(comparison),
        "paired": lambda: _paired(comparison),
        "improvement": lambda: _improvement(comparison),
        "waiting": lambda: _waiting(comparison),
        "speedup": lambda: _speedup(comparison),
        "mean_speedup": lambda: _mean_speedup(comparison),
        "cost": lambda: _cost(comparison),
        "page": lambda: page_results(comparison),
        "page_qgbs": lambda: page_qgbs(comparison),
        "sweep": lambda: sweep_table(comparison),
        "departures": lambda: Table(
            ("method", "what", "here", "paper"), departures(comparison.cells, papers)
        ),
        "curves": lambda: _curves(comparison),
        "profile": lambda: _profile(comparison),
    }
    return {name: make() for name, make in made.items()}


def modes_table(modes: Sequence[Modes]) -> Table:
    """Modes kept before and after the online phase, mean over seeds."""
    columns = ("task", "method", "seeds", "stated", "before_online", "after_online")
    rows = []
    for m in sorted(modes, key=lambda m: m.task):
        found = [None if kept is None else float(np.mean(kept)) for kept in (m.before, m.after)]
        rows.append((m.task, m.method, len(m.before or m.after or ()), m.stated, *found))
    return Table(columns, tuple(rows))


def _success(comparison: Comparison) -> Table:
    columns = (
        "protocol", "task", "method", "seeds", "episodes", "mean", "sd", "low", "high", "iqm",
        "iqm_low", "iqm_high", "page_mean", "page_sd",
    )  # fmt: skip
    rows = []
    for name, protocol in PROTOCOLS.items():
        for r in comparison.table(protocol):
            cell = comparison.cell(r.method, r.task)
            printed = page.table().get((r.task, name_of(cell))) if cell else None
            theirs = (printed.mean, printed.std) if printed else (None, None)
            head = (name, r.task, r.method, len(r.seeds), r.episodes, r.mean, r.deviation)
            rows.append((*head, *r.interval, r.iqm, *ends(r.iqm_interval), *theirs))
    return Table(columns, tuple(rows))


def _overall(comparison: Comparison) -> Table:
    columns = (
        "protocol", "method", "tasks", "seeds", "iqm", "iqm_low", "iqm_high", "mean", "mean_low",
        "mean_high", "page_iqm", "page_low", "page_high", "page_mean",
    )  # fmt: skip
    names = {cell.method: name_of(cell) for cell in comparison.cells}
    rows = []
    for name, protocol in PROTOCOLS.items():
        for r in comparison.aggregate(protocol):
            theirs = page.overall().get(names[r.method], (None,) * 4)
            head = (name, r.method, r.tasks, len(r.seeds), r.iqm, *ends(r.iqm_interval))
            rows.append((*head, r.mean, *ends(r.mean_interval), *theirs))
    return Table(columns, tuple(rows))


def _paired(comparison: Comparison) -> Table:
    columns = (
        "protocol", "first", "second", "tasks", "pairs", "first_minus_second", "low", "high",
        "same_episodes",
    )  # fmt: skip
    rows = [
        (name, r.first, r.second, r.tasks, r.pairs, r.difference, *r.interval,
         "yes" if r.same_episodes else "no")
        for name, protocol in PROTOCOLS.items()
        for r in comparison.paired(protocol)
    ]  # fmt: skip
    return Table(columns, tuple(rows))


def _improvement(comparison: Comparison) -> Table:
    columns = ("protocol", "first", "second", "tasks", "first_is_higher", "low", "high")
    rows = [
        (name, r.first, r.second, r.tasks, r.probability, *ends(r.interval))
        for name, protocol in PROTOCOLS.items()
        for r in comparison.improvement(protocol)
    ]
    return Table(columns, tuple(rows))


def _waiting(comparison: Comparison) -> Table:
    columns = (
        "task", "success", "method", "reached", "steps", "seconds", "seconds_offline",
        "seeds_side_by_side",
    )  # fmt: skip
    rows = [
        (r.task, r.threshold, r.method, f"{r.steps.reached} of {len(r.steps.steps)}",
         _when(r.steps), r.seconds and _when(r.seconds), r.offline, r.together)
        for r in sorted(comparison.waiting(), key=lambda r: (r.task, r.threshold))
    ]  # fmt: skip
    return Table(columns, tuple(rows))


def _when(passage: Passage) -> int | str:
    median = passage.median
    return round(median) if math.isfinite(median) else passage.text


def _speedup(comparison: Comparison) -> Table:
    columns = (
        "task", "success", "target", "first", "first_reached", "first_steps", "second",
        "second_reached", "second_steps", "first_sooner_by", "low", "high", "page_sooner_by",
    )  # fmt: skip
    rows = []
    for r in comparison.speedup():
        one, two, ratio = r.fast_passage, r.slow_passage, r.speedup
        sooner = {"=": f"{ratio.ratio:.2f}", "?": "unknown"}.get(
            ratio.bound, f"{ratio.bound} {ratio.ratio:.2f}"
        )
        low, high = ("none" if end == math.inf else f"{end:.2f}" for end in ratio.interval)
        theirs = page_speedup(comparison, r.fast, r.slow, r.task) if r.best_of_slow else None
        rows.append(
            (r.task, r.threshold, "best of second" if r.best_of_slow else "fixed",
             r.fast, f"{one.reached} of {len(one.steps)}", one.text,
             r.slow, f"{two.reached} of {len(two.steps)}", two.text, sooner, low, high, theirs)
        )  # fmt: skip
    return Table(columns, tuple(rows))


def _mean_speedup(comparison: Comparison) -> Table:
    columns = ("first", "second", "tasks", "first_sooner_by", "missing", "page_sooner_by")
    rows = [
        (r.fast, r.slow, r.tasks, r.ratio, r.missing or None,
         page_speedup(comparison, r.fast, r.slow))
        for r in comparison.mean_speedup()
    ]  # fmt: skip
    return Table(columns, tuple(rows))


def _cost(comparison: Comparison) -> Table:
    columns = (
        "task", "method", "nfe", "ms_p50", "ms_p99", "device", "evaluation_ms_per_step",
        "training_seconds", "success",
    )  # fmt: skip
    rates = {(r.task, r.method): r.mean for r in comparison.table()}
    rows = []
    for cell in _sorted(comparison):
        cost = cost_of(cell)
        seconds = [run.seconds for run in cell.runs]
        total = None if None in seconds else sum(s for s in seconds if s is not None)
        measured = (cost.nfe, cost.ms_p50, cost.ms_p99, cost.device or None, cost.step_ms)
        rate = rates.get((cell.task, cell.method))
        rows.append((cell.task, cell.method, *measured, total, rate))
    return Table(columns, tuple(rows))


def _curves(comparison: Comparison) -> Table:
    columns = ("task", "method", "phase", "step", "mean", "low", "high", "seeds")
    rows = [
        (task, method, part.phase, int(step), float(mean), float(low), float(high), len(part.seeds))
        for task in comparison.tasks
        for method, parts in comparison.curves(task).items()
        for part in parts
        for step, mean, low, high in zip(part.steps, *part.curve, strict=True)
    ]
    return Table(columns, tuple(rows))


def _profile(comparison: Comparison) -> Table:
    rows = [
        (method, float(level), float(share))
        for method, shares in comparison.profile(LEVELS).items()
        for level, share in zip(LEVELS, shares, strict=True)
    ]
    return Table(("method", "success", "share_of_runs_above"), tuple(rows))


def _sorted(comparison: Comparison) -> Sequence[Cell]:
    cells = (comparison.cell(m, t) for t in comparison.tasks for m in comparison.methods)
    return [cell for cell in cells if cell is not None]
