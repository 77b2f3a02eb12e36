"""How sure a success rate is: Wilson and bootstrap intervals, the interquartile mean, curves.

Everything is numpy on the host and a pure function; whatever draws takes its generator.

References: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
JASA 22 (1927); R. Agarwal, M. Schwarzer, P. S. Castro, A. Courville, M. G. Bellemare, "Deep
reinforcement learning at the edge of the statistical precipice", NeurIPS 2021.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flowpolicy.errors import InvalidConfig, InvalidData

Statistic = Callable[[Float[np.ndarray, "*batch runs tasks"]], Float[np.ndarray, "*batch"]]


class Interval(NamedTuple):
    """The two ends of a confidence interval, ``low <= high``."""

    low: float
    high: float


class Curve(NamedTuple):
    """A mean over seeds with its band, one entry a step."""

    mean: Float[np.ndarray, "steps"]
    low: Float[np.ndarray, "steps"]
    high: Float[np.ndarray, "steps"]


def wilson(successes: int, episodes: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate: all p with |k/n - p| <= z sqrt(p (1 - p) / n).

    ``level`` in (0, 1) is the two-sided confidence. ``InvalidData`` unless
    0 <= ``successes`` <= ``episodes`` and ``episodes`` >= 1.
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise InvalidData(f"need 0 <= successes <= episodes >= 1, got {successes} of {episodes}")
    z = NormalDist().inv_cdf(0.5 + _checked(level) / 2)
    rate, spread = successes / episodes, z * z / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    # At 0 and n the end is exactly 0 or 1; rounding must not push it past the rate itself.
    return Interval(max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def mean(scores: Float[np.ndarray, "*batch runs tasks"]) -> Float[np.ndarray, "*batch"]:
    """Mean over runs and tasks."""
    return np.asarray(np.mean(scores, axis=(-2, -1)))


def iqm(scores: Float[np.ndarray, "*batch runs tasks"]) -> Float[np.ndarray, "*batch"]:
    """Interquartile mean: the mean of the middle half of all runs x tasks scores together.

    Agarwal et al. (2021), section 4.3. As in their ``rliable``, floor(n / 4) scores are dropped
    at each end, so fewer than four scores give the plain mean.
    """
    flat = np.sort(np.reshape(scores, (*np.shape(scores)[:-2], -1)), axis=-1)
    count = flat.shape[-1]
    cut = count // 4
    return np.asarray(np.mean(flat[..., cut : count - cut], axis=-1))


def stratified_bootstrap(
    scores: Float[np.ndarray, "runs tasks"],
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of ``statistic``: runs redrawn with replacement, task by task.

    Agarwal et al. (2021), section 4.1: the tasks are the strata and stay as they are, only runs
    (seeds) are redrawn, independently in each task. With one run the interval is a point. With
    few runs it is too narrow (three normal runs: 0.72 where 0.95 is asked); see
    ``success_interval``. ``InvalidData`` on an empty table or values that are not finite.
    """
    return percentile_interval(statistic(redrawn(scores, rng, resamples=resamples)), level=level)


def redrawn(
    scores: Float[np.ndarray, "runs tasks"], rng: np.random.Generator, *, resamples: int = 2000
) -> Float[np.ndarray, "resamples runs tasks"]:
    """The tables of a stratified bootstrap: in each task, runs drawn with replacement.

    ``InvalidData`` on an empty table or values that are not finite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.size == 0 or not np.isfinite(scores).all():
        raise InvalidData(f"scores must be finite, (runs, tasks), not empty; got {scores.shape}")
    if resamples < 1:
        raise InvalidConfig(f"resamples must be at least 1, got {resamples}")
    runs, tasks = scores.shape
    drawn = rng.integers(runs, size=(resamples, runs, tasks))
    return scores[drawn, np.arange(tasks)]


def percentile_interval(values: Float[np.ndarray, "resamples"], *, level: float = 0.95) -> Interval:
    """The middle ``level`` of what a bootstrap gave."""
    tail = (1 - _checked(level)) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def deviation(values: Float[np.ndarray, "n"]) -> float | None:
    """The sample standard deviation (divisor n - 1); ``None`` for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def profile(
    scores: Float[np.ndarray, "*batch runs tasks"], levels: Float[np.ndarray, "levels"]
) -> Float[np.ndarray, "*batch levels"]:
    """Performance profile: the share of all runs x tasks scores above each of ``levels``.

    Agarwal et al. (2021), section 4.2, the run-score distribution.
    """
    above = np.asarray(scores)[..., None] > levels
    return np.asarray(np.mean(above, axis=(-3, -2)))


def success_interval(
    successes: Int[np.ndarray, "seeds"],
    episodes: Int[np.ndarray, "seeds"],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean success rate over seeds of one task, for any number of seeds.

    The smallest interval that holds both the bootstrap over seeds (training luck) and Wilson's
    interval of all episodes together (evaluation luck). For one seed that is Wilson's interval;
    for seeds that all score 1 it does not shrink to a point, as the bootstrap alone would.
    """
    successes, episodes = np.asarray(successes), np.asarray(episodes)
    if successes.shape != episodes.shape or successes.ndim != 1 or len(successes) == 0:
        raise InvalidData(f"one count a seed, got {successes.shape} and {episodes.shape}")
    pooled = wilson(int(successes.sum()), int(episodes.sum()), level=level)
    rates = (successes / episodes)[:, None]
    seeds = stratified_bootstrap(rates, mean, rng, level=level)
    return Interval(min(pooled.low, seeds.low), max(pooled.high, seeds.high))


def mean_curve(
    successes: Int[np.ndarray, "seeds steps"],
    episodes: Int[np.ndarray, "seeds steps"],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
) -> Curve:
    """Mean success over seeds at each step, with ``success_interval`` as its band."""
    successes, episodes = np.asarray(successes), np.asarray(episodes)
    if successes.ndim != 2 or successes.shape != episodes.shape:
        raise InvalidData(f"need (seeds, steps) twice, got {successes.shape}, {episodes.shape}")
    bands = [
        success_interval(k, n, rng, level=level)
        for k, n in zip(successes.T, episodes.T, strict=True)
    ]
    low, high = np.reshape(bands, (-1, 2)).T
    return Curve(np.mean(successes / episodes, axis=0), low, high)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise InvalidConfig(f"level must lie in (0, 1), got {level}")
    return level
