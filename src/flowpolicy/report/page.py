"""The numbers of FMQ's project page, to be printed beside ours, and what its protocol was.

Source: C. Ziakas, A. Russo, A. J. Bose, "Aligning Flow Map Policies with Optimal Q-Guidance",
arXiv:2605.12416, its project page: the table of main results (mean and standard deviation over 5
seeds, 50 episodes), its row of interquartile means with 95 % intervals, the table of QGBS's
settings, and the two speed-ups that its text names. The files ``page_*.csv`` hold them as printed,
with our names of the tasks.
"""

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import numpy as np

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError
from flowpolicy.refine import QGBS, BestOfN
from flowpolicy.train.folder import OWN

METHODS = {"qc": "QC", "mvp": "MVP", "mvp-qgbs": "MVP", "fmq": "FMQ", "fmq-qgbs": "FMQ"}
"""Our last word of a method's name, and the page's name of what it trains."""
COLUMN = QGBS(steps=1, beam=4, branches=4)
"""QGBS in the columns of the main results: the page's optimal setting, whose IQM is theirs."""
ALL_TASKS = "mean of the 12 tasks"
"""In the place of a task in ``speedups``."""
SEEDS, EPISODES = 5, 50
VERSIONS = {"jax": "0.6.0", "mujoco": "3.3.1", "ogbench": "1.1.2"}
"""What the released code asks for."""
TIMING = "mixed"
"""Of that ogbench: data labelled before the action, success in the environment after it."""


class Printed(NamedTuple):
    """Mean and standard deviation of one method on one task."""

    mean: float
    std: float


class Overall(NamedTuple):
    """A method over the page's 12 tasks: the printed IQM and interval, and the plain mean."""

    iqm: float
    low: float
    high: float
    mean: float


class Setting(NamedTuple):
    """A row of QGBS's ablation, on FMQ; K = 0 is best-of-M."""

    steps: int
    branches: int
    beam: int
    nfe: int
    iqm: float

    @property
    def refiner(self) -> QGBS:
        """In our words; what the page does not say of it has its default."""
        return QGBS(self.steps, self.beam, self.branches)

    def is_of(self, refiner: object) -> bool:
        """Whether a refiner is this one, in every value."""
        best = not self.steps and refiner == BestOfN(self.beam)
        return best or refiner == self.refiner


@functools.cache
def table() -> Mapping[tuple[str, str], Printed]:
    """The main results by (task, method)."""
    rows = _read("page_table.csv")
    return {(r["task"], r["method"]): Printed(float(r["mean"]), float(r["std"])) for r in rows}


@functools.cache
def overall() -> Mapping[str, Overall]:
    """The last row of the main results; the plain mean is computed from the rows above it."""
    found = {}
    for row in _read("page_iqm.csv"):
        means = [p.mean for (_, method), p in table().items() if method == row["method"]]
        iqm, low, high = (float(row[name]) for name in ("iqm", "low", "high"))
        found[row["method"]] = Overall(iqm, low, high, float(np.mean(means)))
    return found


@functools.cache
def settings() -> tuple[Setting, ...]:
    """QGBS's ablation, as printed."""
    return tuple(
        Setting(int(r["steps"]), int(r["branches"]), int(r["beam"]), int(r["nfe"]), float(r["iqm"]))
        for r in _read("page_qgbs.csv")
    )


@functools.cache
def speedups() -> Mapping[tuple[str, str, str], float]:
    """How many times sooner a method reaches the best success of another, by (first, second, task).

    Steps of the online phase. Two are printed: on the task where it is largest, and the mean.
    """
    rows = _read("page_speedup.csv")
    return {(r["first"], r["second"], r["task"]): float(r["speedup"]) for r in rows}


def page_name(base: str, method: str, refiner: str = OWN) -> str | None:
    """What the page calls a method: ``FMQ + QGBS`` for base ``mini/fmq``, method ``... + QGBS``.

    refiner: as in ``Cell``; every value of it is the page's, or it is another method

    None where it has no such column. Other refiners, and settings told apart by their values,
    are no column of the page.
    """
    known = METHODS.get(base.rpartition("/")[2])
    if known is None:
        return None
    if refiner == OWN:
        return known if method == base else None
    named = method in (f"{base} + QGBS", f"{base} + {refiner}")
    column = f"{known} + QGBS"
    return column if named and column in overall() and refiner_of(refiner) == COLUMN else None


def refiner_of(text: str) -> object | None:
    """A refiner from its text; None where it is not known here."""
    try:
        return parts.parse(text)
    except FlowPolicyError:
        return None


def _read(name: str) -> list[dict[str, str]]:
    text = resources.files("flowpolicy.report").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
