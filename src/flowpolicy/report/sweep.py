"""Refiners side by side from one checkpoint: what an action costs and what it earns."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
