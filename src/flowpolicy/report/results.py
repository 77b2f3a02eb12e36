"""The rows of a comparison: what each number is, and how it is computed from scores."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from flowpolicy.report import contrasts, statistics
from flowpolicy.report.methods import Cell
from flowpolicy.report.scores import Score, column
from flowpolicy.report.statistics import Interval

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
