"""What acting costs: NFE and milliseconds a chunk, as ``flowpolicy evaluate`` measured them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from flowpolicy.readers import read_rows
from flowpolicy.report.methods import Cell

COLUMNS = ("refiner", "nfe", "ms_p50", "ms_p99", "calls", "device")


class _Line(NamedTuple):
    """One line of ``costs.csv``, in the order of ``COLUMNS``."""

    refiner: str
    nfe: int
    ms_p50: float
    ms_p99: float
    calls: int
    device: str


class Cost(NamedTuple):
    """The cost of a chunk.

    nfe:            evaluations of the flow; None where it was not measured
    ms_p50, ms_p99: milliseconds from one observation to its chunk, and the device they are of
    step_ms:        wall milliseconds of evaluation an environment step, simulation included
    """

    nfe: int | None
    ms_p50: float | None
    ms_p99: float | None
    device: str
    step_ms: float | None


def cost_of(cell: Cell) -> Cost:
    """What is known of a cell: the last measurement in one of its runs."""
    measured = [c for run in cell.runs if (c := read_costs(run.path).get(cell.refiner))]
    seconds = sum(e.seconds for e in cell.evaluations)
    steps = sum(e.length * e.episodes for e in cell.evaluations)
    step_ms = 1e3 * seconds / steps if steps else None
    if not measured:
        return Cost(None, None, None, "", step_ms)
    return measured[-1]._replace(step_ms=step_ms)


def read_costs(folder: Path) -> Mapping[str, Cost]:
    """``costs.csv`` of a run folder by refiner, the last line of each; empty if there is none."""
    path = folder / "costs.csv"
    if not path.exists():
        return {}
    rows, _ = read_rows(path, _Line, COLUMNS)
    return {row.refiner: Cost(row.nfe, row.ms_p50, row.ms_p99, row.device, None) for _, row in rows}
