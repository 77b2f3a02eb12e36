"""The numbers of FMQ's project page, to be printed beside ours, and what its protocol was.

Source: C. Ziakas, A. Russo, A. J. Bose, "Aligning Flow Map Policies with Optimal Q-Guidance",
arXiv:2605.12416, its project page: the table of main results (mean and standard deviation over 5
seeds, 50 episodes), its row of interquartile means with 95 % intervals, and the table of QGBS's
settings. The files ``page_*.csv`` hold them as printed.
"""

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import numpy as np

METHODS = {"qc": "QC", "mvp": "MVP", "fmq": "FMQ"}
"""Our last word of a method's name, and the page's name."""
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
    """A row of QGBS's ablation; K = 0 is best-of-M."""

    steps: int
    branches: int
    beam: int
    nfe: int
    iqm: float


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


def page_name(base: str, method: str) -> str | None:
    """What the page calls a method: ``FMQ + QGBS`` for base ``mini/fmq``, method ``... + QGBS``.

    None where it has no such column. Other refiners, and settings told apart by their values,
    are no column of the page.
    """
    known = METHODS.get(base.rpartition("/")[2])
    if known is None:
        return None
    names = {base: known, f"{base} + QGBS": f"{known} + QGBS"}
    name = names.get(method)
    return name if name in overall() else None


def _read(name: str) -> list[dict[str, str]]:
    text = resources.files("flowpolicy.report").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
