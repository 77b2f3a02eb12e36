"""Refiners side by side from one checkpoint: what an action costs and what it earns."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowpolicy.readers import read_object, read_rows
from flowpolicy.refine import Refiner
from flowpolicy.report import page
from flowpolicy.train.checkpoint import to_json
from flowpolicy.train.durable import write as write_durably


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """One refiner of a sweep; a line of ``sweep.csv``.

    policy, critic, gradients, depth: evaluations of nets for one chunk, as in ``refine.Cost``
    ms_p50, ms_p99: milliseconds from one observation to its chunk
    episodes:       over all seeds; the same ones for every refiner
    success:        share of solved episodes; low, high: its 95 % interval
    page_iqm:       the page's IQM over its 12 tasks for this setting, None for any other
    """

    refiner: str
    policy: int
    critic: int
    gradients: int
    depth: int
    ms_p50: float
    ms_p99: float
    episodes: int
    success: float
    low: float
    high: float
    page_iqm: float | None


COLUMNS = tuple(field.name for field in dataclasses.fields(SweepRow))


class _Line(NamedTuple):
    """One line of ``sweep.csv``, in the order of ``COLUMNS``."""

    refiner: str
    policy: int
    critic: int
    gradients: int
    depth: int
    ms_p50: float
    ms_p99: float
    episodes: int
    success: float
    low: float
    high: float
    page_iqm: str  # may be empty; what the page says is looked up again


class Sweep(NamedTuple):
    """A sweep as its files tell: the rows, and where in training the checkpoint was.

    phase and step are None where there is no ``sweep.json`` beside the rows.
    """

    rows: tuple[SweepRow, ...]
    phase: str | None
    step: int | None


def page_refiners() -> tuple[Refiner, ...]:
    """The six settings of QGBS on FMQ's page; with K = 0 it is best-of-M."""
    return tuple(setting.refiner for setting in page.settings())


def page_iqm(refiner: Refiner) -> float | None:
    """What the page measured with this setting."""
    return next((row.iqm for row in page.settings() if row.refiner == refiner), None)


def write_sweep(folder: Path, rows: Sequence[SweepRow], protocol: dict[str, Any]) -> None:
    """``sweep.csv`` and ``sweep.json`` in a run's folder, each rewritten as a whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if x is None else x for x in dataclasses.astuple(row)] for row in rows)
    write_durably(folder / "sweep.csv", text.getvalue().encode())
    content = {"protocol": protocol, "rows": [dataclasses.asdict(row) for row in rows]}
    write_durably(folder / "sweep.json", to_json(content))


def read_sweep(folder: Path) -> Sweep | None:
    """The sweep in a run's folder; None where there is none, ``CorruptFile`` names a broken file.

    A line that a kill has cut off is left out.
    """
    path = folder / "sweep.csv"
    if not path.exists():
        return None
    lines, _ = read_rows(path, _Line, COLUMNS)
    rows = tuple(SweepRow(*line[:-1], page_iqm=_printed(line.refiner)) for _, line in lines)
    beside = folder / "sweep.json"
    told = read_object(beside).get("protocol") if beside.exists() else None
    told = told if isinstance(told, dict) else {}
    phase, step = told.get("phase"), told.get("step")
    return Sweep(
        rows, phase if isinstance(phase, str) else None, step if isinstance(step, int) else None
    )


def _printed(text: str) -> float | None:
    refiner = page.refiner_of(text)
    return page_iqm(refiner) if isinstance(refiner, Refiner) else None
