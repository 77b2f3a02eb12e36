"""The project page's numbers, with ours beside them where method, task and refiner are the same."""

import dataclasses
from typing import Any, NamedTuple

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError
from flowpolicy.report import page
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.methods import Cell
from flowpolicy.report.sweep import COLUMNS, Sweep, read_sweep
from flowpolicy.report.table import Table
from flowpolicy.train.folder import OWN


def name_of(cell: Cell) -> str:
    """The page's name of a cell's method; empty where it has none."""
    return page.page_name(cell.base, cell.method, cell.refiner) or ""


def page_results(comparison: Comparison) -> Table:
    """Every number of the page's main table, ours beside it where method and task match."""
    ours: dict[tuple[str, str], list[tuple[str, float, float | None]]] = {}
    for r in comparison.table():
        cell = comparison.cell(r.method, r.task)
        key = r.task, name_of(cell) if cell else ""
        ours.setdefault(key, []).append((r.method, r.mean, r.deviation))
    rows = [
        (task, method, printed.mean, printed.std, *mine)
        for (task, method), printed in page.table().items()
        for mine in ours.get((task, method), [(None, None, None)])
    ]
    return Table(("task", "page_method", "page_mean", "page_sd", "method", "mean", "sd"), (*rows,))


def page_speedup(
    comparison: Comparison, fast: str, slow: str, task: str = page.ALL_TASKS
) -> float | None:
    """What the page says of two methods; None where it says nothing, or has no such methods."""
    names = {cell.method: name_of(cell) for cell in comparison.cells}
    return page.speedups().get((names[fast], names[slow], task))


def page_qgbs(comparison: Comparison) -> Table:
    """The page's settings of QGBS; ours where FMQ was evaluated, or swept, with the same one."""
    totals = {row.method: row.iqm for row in comparison.aggregate()}
    cells = {c.method: c for c in comparison.cells if c.method in totals}.values()
    swept = [(s.method, s.run, r) for s in sweeps(comparison) if s.fmq for r in s.sweep.rows]
    rows = []
    for s in page.settings():
        mine: list[tuple[Any, ...]] = [
            (c.method, totals[c.method], None, None)
            for c in cells
            if _is_fmq(c) and s.is_of(_acting(c))
        ]
        mine += [
            (method, None, run, row.success)
            for method, run, row in swept
            if s.is_of(page.refiner_of(row.refiner))
        ]
        rows += [(*s[:4], s.iqm, *found) for found in mine or [(None,) * 4]]
    columns = ("K", "B", "M", "nfe", "page_iqm", "method", "iqm", "sweep", "sweep_success")
    return Table(columns, tuple(rows))


class Swept(NamedTuple):
    """A run's sweep: whose, on which task, and whether the page's ablation is of such a method."""

    method: str
    task: str
    run: str
    fmq: bool
    sweep: Sweep


def sweeps(comparison: Comparison) -> tuple[Swept, ...]:
    """The sweeps of the runs that have one."""
    found: dict[str, Swept] = {}
    # A run is called by the method that acts on its own, where that was evaluated.
    for cell in sorted(comparison.cells, key=lambda cell: cell.refiner != OWN):
        for run in cell.runs:
            sweep = None if str(run.path) in found else read_sweep(run.path)
            if sweep is not None:
                path = str(run.path)
                found[path] = Swept(cell.method, cell.task, path, _is_fmq(cell), sweep)
    return tuple(found.values())


def sweep_table(comparison: Comparison) -> Table:
    """Every row of every sweep; the page's number where it is of such a method."""
    head = ("task", "method", "run", "phase", "step")
    rows = []
    for s in sweeps(comparison):
        for row in s.sweep.rows:
            values = dataclasses.astuple(row if s.fmq else dataclasses.replace(row, page_iqm=None))
            rows.append((s.task, s.method, s.run, s.sweep.phase, s.sweep.step, *values))
    return Table((*head, *COLUMNS), tuple(rows))


def _is_fmq(cell: Cell) -> bool:
    return page.METHODS.get(cell.base.rpartition("/")[2]) == "FMQ"


def _acting(cell: Cell) -> object | None:
    """The refiner of a cell; None where it is not known here."""
    if cell.refiner != OWN:
        return page.refiner_of(cell.refiner)
    agent = cell.runs[0].settings.get("agent")
    try:
        return parts.decode(agent.get("act")) if isinstance(agent, dict) else None
    except FlowPolicyError:
        return None
