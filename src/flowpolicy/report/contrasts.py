"""Two methods side by side: differences of rates, paired or not, and the chance to be better.

Everything is numpy on the host and a pure function; whatever draws takes its generator.

References: R. G. Newcombe, "Interval estimation for the difference between independent
proportions: comparison of eleven methods", Statistics in Medicine 17 (1998); R. Agarwal,
M. Schwarzer, P. S. Castro, A. Courville, M. G. Bellemare, "Deep reinforcement learning at the edge
of the statistical precipice", NeurIPS 2021.
"""

import math

import numpy as np
from jaxtyping import Float

from flowpolicy.errors import InvalidData
from flowpolicy.report.statistics import (
    Interval,
    mean,
    percentile_interval,
    redrawn,
    stratified_bootstrap,
    wilson,
)


def newcombe(first: tuple[int, int], second: tuple[int, int], *, level: float = 0.95) -> Interval:
    """Interval of a difference of two success rates, each given as (successes, episodes).

    Newcombe's method 10: the distances from each rate to the ends of its Wilson interval, added
    in quadrature. It takes the two for independent, so for methods that play the same episodes,
    whose luck is shared, it is rather too wide than too narrow.
    """
    (k, n), (j, m) = first, second
    one, two = wilson(k, n, level=level), wilson(j, m, level=level)
    p, q = k / n, j / m
    low = p - q - math.hypot(p - one.low, two.high - q)
    high = p - q + math.hypot(one.high - p, q - two.low)
    return Interval(max(-1.0, low), min(1.0, high))


def paired_interval(
    differences: Float[np.ndarray, "runs tasks"],
    first: tuple[int, int],
    second: tuple[int, int],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean of paired differences, for any number of pairs.

    differences:   one a pair of the same seed on the same task
    first, second: all (successes, episodes) of each method together

    The smallest interval that holds the stratified bootstrap over pairs (training luck) and
    Newcombe's interval (evaluation luck). One pair has the second alone: it never is a point.
    """
    seeds = stratified_bootstrap(differences, mean, rng, level=level)
    episodes = newcombe(first, second, level=level)
    # Rates that are no plain share of the episodes (a mean of evaluations) lie at another centre.
    centre = float(np.mean(differences))
    shift = centre - (first[0] / first[1] - second[0] / second[1])
    low, high = max(-1.0, episodes.low + shift), min(1.0, episodes.high + shift)
    return Interval(min(seeds.low, low, centre), max(seeds.high, high, centre))


def improvement(
    first: Float[np.ndarray, "*batch n tasks"], second: Float[np.ndarray, "*batch m tasks"]
) -> Float[np.ndarray, "*batch"]:
    """Probability that a run of ``first`` scores higher than one of ``second``, mean over tasks.

    Agarwal et al. (2021), section 4.3: the share of pairs of runs on the same task in which the
    first is higher, ties counted half (Mann and Whitney's U over its largest value).
    """
    if first.shape[-1] != second.shape[-1] or 0 in (*first.shape, *second.shape):
        raise InvalidData(f"need (runs, the same tasks) twice, got {first.shape}, {second.shape}")
    one, two = first[..., :, None, :], second[..., None, :, :]
    return np.asarray(np.mean((one > two) + 0.5 * (one == two), axis=(-3, -2, -1)))


def improvement_interval(
    first: Float[np.ndarray, "n tasks"],
    second: Float[np.ndarray, "m tasks"],
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of ``improvement``: both methods redrawn, independently, task by task.

    With one run each it is a point that says nothing; a table should then leave it out.
    """
    one = redrawn(first, rng, resamples=resamples)
    two = redrawn(second, rng, resamples=resamples)
    return percentile_interval(improvement(one, two), level=level)
