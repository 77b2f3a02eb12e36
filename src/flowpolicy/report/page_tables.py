"""The project page's numbers, with ours beside them where method, task and refiner are the same."""

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError
from flowpolicy.report import page
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.methods import Cell
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
    """The page's settings of QGBS; ours where FMQ was evaluated with the same one."""
    totals = {row.method: row.iqm for row in comparison.aggregate()}
    cells = {c.method: c for c in comparison.cells if c.method in totals}.values()
    rows = []
    for s in page.settings():
        mine = [(c.method, totals[c.method]) for c in cells if is_fmq(c) and s.is_of(_acting(c))]
        rows += [(*s[:4], s.iqm, *found) for found in mine or [(None, None)]]
    return Table(("K", "B", "M", "nfe", "page_iqm", "method", "iqm"), tuple(rows))


def is_fmq(cell: Cell) -> bool:
    """Whether the page's ablation, which is of FMQ, is of what a cell trains."""
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
