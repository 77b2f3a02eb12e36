"""What acting costs: NFE and milliseconds a chunk, as ``flowpolicy evaluate`` measured them."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from flowpolicy.errors import CorruptFile
from flowpolicy.readers import read_rows
from flowpolicy.report.methods import Cell

COLUMNS = ("refiner", "nfe", "ms_p50", "ms_p99", "calls", "device")


class Measured(NamedTuple):
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
    """What is known of a cell: medians over its runs, whatever else a machine did in one of them.

    Where the runs were measured on several devices, over those on the device of the last.
    """
    measured = [c for run in cell.runs if (c := read_costs(run.path).get(cell.refiner))]
    seconds = sum(e.seconds for e in cell.evaluations)
    steps = sum(e.length * e.episodes for e in cell.evaluations)
    step_ms = 1e3 * seconds / steps if steps else None
    if not measured:
        return Cost(None, None, None, "", step_ms)
    last = measured[-1]
    times = [(c.ms_p50, c.ms_p99) for c in measured if c.device == last.device]
    p50, p99 = (median(column) for column in zip(*times, strict=True))
    return Cost(last.nfe, p50, p99, last.device, step_ms)


def read_costs(folder: Path) -> Mapping[str, Measured]:
    """``costs.csv`` of a run folder by refiner, the last line of each; empty if there is none."""
    path = folder / "costs.csv"
    if not path.exists():
        return {}
    rows, _ = read_rows(path, Measured, COLUMNS)
    for where, row in rows:
        for name, value in zip(COLUMNS[1:5], row[1:5], strict=True):
            if value <= 0:
                raise CorruptFile(f"{where}: {name} must be above 0, got {value}")
    return {row.refiner: row for _, row in rows}
