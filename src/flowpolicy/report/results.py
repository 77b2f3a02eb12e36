"""The rows of a comparison: what each number is, and how it is computed from scores."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from flowpolicy.report import contrasts, statistics
from flowpolicy.report.methods import Cell
from flowpolicy.report.progress import PhaseCurve
from flowpolicy.report.scores import Score, column
from flowpolicy.report.statistics import Interval
from flowpolicy.report.thresholds import Passage, Speedup, first_passage, speedup

SEED = 0  # the same runs give the same intervals
ByTask = Mapping[str, Mapping[int, Score]]
"""The scores of one method: task, then seed."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Success of one method on one task.

    deviation: sample standard deviation over seeds; None with one seed
    interval:  95 % interval of the mean; the wider of a bootstrap over seeds and Wilson's interval
    iqm:       interquartile mean over seeds, its interval by bootstrap over seeds; None with one
    """

    task: str
    method: str
    seeds: tuple[int, ...]
    episodes: int
    mean: float
    deviation: float | None
    interval: Interval
    iqm: float
    iqm_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """Success of one method over tasks, each with the same ``seeds``.

    mean and iqm are over all runs x tasks; their intervals by stratified bootstrap, None with one
    seed, where it would be a point.
    """

    method: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    mean: float
    mean_interval: Interval | None
    iqm: float
    iqm_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Paired:
    """Mean of ``first`` minus ``second`` over pairs of the same seed on the same task.

    A seed's evaluation episodes are the same for every method. ``same_episodes`` is False where the
    two played different numbers of them.
    """

    first: str
    second: str
    tasks: tuple[str, ...]
    pairs: int
    difference: float
    interval: Interval
    same_episodes: bool


@dataclasses.dataclass(frozen=True)
class Improvement:
    """Probability that a run of ``first`` beats one of ``second`` on the same task."""

    first: str
    second: str
    tasks: tuple[str, ...]
    probability: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Reached:
    """When two methods first reached ``threshold`` on a task, in environment steps online.

    ``common_peak`` says that the threshold is the highest mean success that both reached, the
    target of the project page's speed-up.
    """

    task: str
    threshold: float
    common_peak: bool
    fast: str
    slow: str
    fast_passage: Passage
    slow_passage: Passage
    speedup: Speedup


def result(cell: Cell, scores: Mapping[int, Score]) -> Result:
    """The result of one cell, from its score of each seed."""
    rates = np.asarray(column(scores, lambda score: score.rate), float)
    episodes = np.asarray(column(scores, lambda score: score.episodes), int)
    successes = np.asarray(column(scores, lambda score: score.successes), int)
    mean, table = float(rates.mean()), rates[:, None]
    wide = statistics.success_interval(successes, episodes, np.random.default_rng(SEED))
    seeds = bootstrap(table, statistics.mean) or Interval(mean, mean)
    return Result(
        task=cell.task,
        method=cell.method,
        seeds=tuple(sorted(scores)),
        episodes=int(episodes.sum()),
        mean=mean,
        deviation=statistics.deviation(rates),
        interval=Interval(min(wide.low, seeds.low), max(wide.high, seeds.high)),
        iqm=float(statistics.iqm(table)),
        iqm_interval=bootstrap(table, statistics.iqm),
    )


def aggregate(
    method: str, by_task: ByTask, tasks: Sequence[str], seeds: Sequence[int]
) -> Aggregate:
    """One method over ``tasks``, on all of which every one of ``seeds`` has a score."""
    table = rates(by_task, tasks, seeds)
    return Aggregate(
        method=method,
        tasks=tuple(tasks),
        seeds=tuple(seeds),
        mean=float(statistics.mean(table)),
        mean_interval=bootstrap(table, statistics.mean),
        iqm=float(statistics.iqm(table)),
        iqm_interval=bootstrap(table, statistics.iqm),
    )


def bootstrap(table: np.ndarray, statistic: statistics.Statistic) -> Interval | None:
    """The stratified bootstrap's interval; None with one seed, where it would be a point."""
    if len(table) < 2:
        return None
    return statistics.stratified_bootstrap(table, statistic, np.random.default_rng(SEED))


def rates(
    by_task: ByTask, tasks: Sequence[str], seeds: Sequence[int]
) -> Float[np.ndarray, "seeds tasks"]:
    """The rates as a table; every seed must have a score on every task."""
    values = [[by_task[task][seed].rate for task in tasks] for seed in seeds]
    return np.reshape(np.asarray(values, float), (len(seeds), len(tasks)))


def rectangle(by_task: ByTask, tasks: Sequence[str]) -> Float[np.ndarray, "seeds tasks"]:
    """The rates of the seeds that have a score on all of ``tasks``; empty where none has."""
    seeds = sorted(set.intersection(*(set(by_task[task]) for task in tasks)))
    return rates(by_task, tasks, seeds)


def paired(
    first: tuple[str, ByTask],
    second: tuple[str, ByTask],
    tasks: Sequence[str],
    seeds: Sequence[int],
) -> Paired:
    """The paired difference of two methods, each a name and its scores."""
    (name, one), (other, two) = first, second
    differences = rates(one, tasks, seeds) - rates(two, tasks, seeds)
    pairs = [(one[t][s], two[t][s]) for t in tasks for s in seeds]
    counts = [
        (sum(p[i].successes for p in pairs), sum(p[i].episodes for p in pairs)) for i in (0, 1)
    ]
    interval = contrasts.paired_interval(
        differences, counts[0], counts[1], np.random.default_rng(SEED)
    )
    return Paired(
        first=name,
        second=other,
        tasks=tuple(tasks),
        pairs=differences.size,
        difference=float(differences.mean()),
        interval=interval,
        same_episodes=all(a.episodes == b.episodes for a, b in pairs),
    )


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


def common_peak(first: Sequence[PhaseCurve], second: Sequence[PhaseCurve]) -> float:
    """The highest online mean of the method whose highest is lower."""
    return min(
        float(max(part.curve.mean, default=0.0))
        for parts in (first, second)
        for part in parts
        if part.phase == "online"
    )


def reached(
    task: str,
    fast: tuple[str, Sequence[PhaseCurve]],
    slow: tuple[str, Sequence[PhaseCurve]],
    thresholds: Sequence[float],
) -> tuple[Reached, ...]:
    """The times of two methods at each threshold and at their common peak, if it is above 0."""
    curves = [online_curves(parts) for _, parts in (fast, slow)]
    peak = common_peak(fast[1], slow[1])
    rows = []
    for threshold, is_peak in [
        *((t, False) for t in thresholds),
        *([(peak, True)] if peak else []),
    ]:
        one, two = (passage(curve, threshold) for curve in curves)
        ratio = speedup(one, two, np.random.default_rng(SEED))
        rows.append(Reached(task, threshold, is_peak, fast[0], slow[0], one, two, ratio))
    return tuple(rows)


def passage(curves: Mapping[int, tuple[list[int], list[float]]], threshold: float) -> Passage:
    """When each seed of ``online_curves`` first reached ``threshold``."""
    steps = tuple(first_passage(s, r, threshold) for s, r in curves.values())
    return Passage(steps, min(s[-1] for s, _ in curves.values()))
