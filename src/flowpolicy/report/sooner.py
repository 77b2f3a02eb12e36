"""How much sooner one method is at a success rate than another: on a task, and over tasks.

Besides fixed rates there is one target a pair: the best success of the second, which is what the
project page's speed-up is measured at. Where the first never gets there, its time is censored.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from flowpolicy.report.progress import PhaseCurve
from flowpolicy.report.results import SEED
from flowpolicy.report.thresholds import Passage, Speedup, first_passage, speedup

Named = tuple[str, Sequence[PhaseCurve]]
"""A method and its learning curves on a task."""


@dataclasses.dataclass(frozen=True)
class Reached:
    """When two methods first reached ``threshold`` on a task, in environment steps online.

    best_of_slow: the threshold is the highest mean success of ``slow`` online
    """

    task: str
    threshold: float
    best_of_slow: bool
    fast: str
    slow: str
    fast_passage: Passage
    slow_passage: Passage
    speedup: Speedup


@dataclasses.dataclass(frozen=True)
class MeanSpeedup:
    """How many times sooner ``fast`` is at the best success of ``slow``, mean over ``tasks``.

    ratio: None unless it is known on every task; a mean over the others would leave out those on
           which ``fast`` did worst
    missing: says of each other task what is known there
    """

    fast: str
    slow: str
    tasks: tuple[str, ...]
    ratio: float | None
    missing: tuple[str, ...]


def online_curves(parts: Sequence[PhaseCurve]) -> dict[int, tuple[list[int], list[float]]]:
    """Each seed's online steps and rates, the last offline rate at step 0."""
    by_phase = {part.phase: part for part in parts}
    if "online" not in by_phase or len(by_phase["online"].steps) < 2:
        return {}
    curves = {}
    for seed, (steps, rates) in by_phase["online"].seeds.items():
        before = by_phase["offline"].seeds.get(seed) if "offline" in by_phase else None
        start = before is not None and len(before[0]) and steps[0] > 0
        curves[seed] = (
            [0] * bool(start) + [int(step) for step in steps],
            ([float(before[1][-1])] if before and start else []) + [float(r) for r in rates],
        )
    return curves


def best(parts: Sequence[PhaseCurve]) -> float:
    """The highest mean success online; 0 where there is none."""
    means = [part.curve.mean for part in parts if part.phase == "online"]
    return max((float(value) for mean in means for value in mean), default=0.0)


def reached(
    task: str, fast: Named, slow: Named, thresholds: Sequence[float]
) -> tuple[Reached, ...]:
    """The times of two methods at each threshold."""
    return tuple(_at(task, fast, slow, threshold, best_of_slow=False) for threshold in thresholds)


def reached_best(task: str, fast: Named, slow: Named) -> tuple[Reached, ...]:
    """The times of two methods at the best success of ``slow``; none where it is 0."""
    target = best(slow[1])
    return (_at(task, fast, slow, target, best_of_slow=True),) if target > 0 else ()


def mean_speedup(
    fast: str, slow: str, tasks: Sequence[str], rows: Mapping[str, Reached]
) -> MeanSpeedup:
    """The mean over ``tasks`` from the rows of ``reached_best`` by task."""
    missing = tuple(note for task in tasks if (note := _unknown(task, slow, rows.get(task))))
    ratios = [row.speedup.ratio for row in rows.values()]
    mean = float(np.mean(ratios)) if ratios and not missing else None
    return MeanSpeedup(fast, slow, tuple(tasks), mean, missing)


def passage(curves: Mapping[int, tuple[list[int], list[float]]], threshold: float) -> Passage:
    """When each seed of ``online_curves`` first reached ``threshold``."""
    steps = tuple(first_passage(s, r, threshold) for s, r in curves.values())
    return Passage(steps, min(s[-1] for s, _ in curves.values()))


def _at(task: str, fast: Named, slow: Named, threshold: float, *, best_of_slow: bool) -> Reached:
    one, two = (passage(online_curves(parts), threshold) for _, parts in (fast, slow))
    ratio = speedup(one, two, np.random.default_rng(SEED))
    return Reached(task, threshold, best_of_slow, fast[0], slow[0], one, two, ratio)


def _unknown(task: str, slow: str, row: Reached | None) -> str:
    """Why a task has no exact ratio; empty where it has one."""
    if row is None:
        return f"{task}: {slow} never solved it online"
    if row.speedup.bound == "=":
        return ""
    times = (_when(row.fast, row.fast_passage), _when(row.slow, row.slow_passage))
    return f"{task}: {', '.join(times)}"


def _when(method: str, passage: Passage) -> str:
    return f"{method} {'at ' if math.isfinite(passage.median) else ''}{passage.text}"
