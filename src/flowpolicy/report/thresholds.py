"""How soon a success rate is reached, and how much sooner than by another method.

A seed that never reaches a threshold is *censored*: all that is known is that it takes longer than
it was trained. It is neither dropped nor given the last step; its time is infinite, the median over
seeds is taken with it, and a ratio that rests on such a median is a bound and says so.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from flowpolicy.errors import InvalidData
from flowpolicy.report.statistics import Interval

THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Passage:
    """When the seeds of one method first reached a success rate on one task.

    steps:  environment steps (or seconds) of each seed, infinite where it never did
    end:    the last step at which all of them were evaluated
    """

    steps: tuple[float, ...]
    end: int | float

    @property
    def reached(self) -> int:
        """Seeds that got there."""
        return sum(math.isfinite(step) for step in self.steps)

    @property
    def median(self) -> float:
        """The lower median over seeds; infinite where fewer than half of them got there."""
        return float(_median(np.asarray(self.steps, float)))

    @property
    def text(self) -> str:
        """The median in words."""
        if math.isfinite(self.median):
            return f"{self.median:,.0f}"
        return f"not within {self.end:,.0f}"


@dataclasses.dataclass(frozen=True)
class Speedup:
    """``slow``'s median time over ``fast``'s, and what is known of it.

    bound:    "=", ">" (``slow`` never got there: at least so much), "<" (``fast`` never did: at
              most so much), or "?" (neither did, or both were there before the first step)
    ratio:    the speed-up or its bound; NaN where it is unknown
    interval: percentile bootstrap over seeds; infinite ends where resamples are censored
    """

    ratio: float
    bound: str
    interval: Interval


def first_passage(steps: Sequence[int], rates: Sequence[float], threshold: float) -> float:
    """The first of increasing ``steps`` whose rate is at least ``threshold``; else infinity."""
    # A threshold that is a mean of equal rates may be a rounding above them.
    for step, rate in zip(steps, rates, strict=True):
        if rate >= threshold - _ROUNDING:
            return float(step)
    return math.inf


def speedup(
    fast: Passage, slow: Passage, rng: np.random.Generator, *, resamples: int = 2000
) -> Speedup:
    """How many times sooner ``fast`` is at the threshold than ``slow``, by medians over seeds."""
    ratio, bound = _ratio(fast, slow)
    one = _medians(fast.steps, rng, resamples)
    two = _medians(slow.steps, rng, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = two / one
    # Neither got there, or both were there at once: such a resample could mean any ratio.
    low = np.quantile(np.where(np.isnan(ratios), 0.0, ratios), 0.025, method="lower")
    high = np.quantile(np.where(np.isnan(ratios), math.inf, ratios), 0.975, method="higher")
    return Speedup(ratio, bound, Interval(float(low), float(high)))


def _ratio(fast: Passage, slow: Passage) -> tuple[float, str]:
    one, two = fast.median, slow.median
    if math.isfinite(one) and math.isfinite(two):
        return (two / one, "=") if one > 0 else (math.nan, "?")
    if math.isfinite(one) and one > 0:
        return slow.end / one, ">"
    if math.isfinite(two) and two > 0 and fast.end > 0:
        return two / fast.end, "<"
    return math.nan, "?"


def _median(steps: Float[np.ndarray, "*batch seeds"]) -> Float[np.ndarray, "*batch"]:
    """The lower median, which is one of the values: a mean of two would mix in an infinity."""
    if steps.shape[-1] == 0:
        raise InvalidData("a median needs at least one seed")
    return np.asarray(np.sort(steps, axis=-1)[..., (steps.shape[-1] - 1) // 2])


def _medians(
    steps: Sequence[float], rng: np.random.Generator, resamples: int
) -> Float[np.ndarray, "resamples"]:
    values = np.asarray(steps, float)
    return _median(values[rng.integers(len(values), size=(resamples, len(values)))])
