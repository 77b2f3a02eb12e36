"""Times to a success rate: what is censored is neither dropped nor filled in."""

import math

import numpy as np
import pytest

from flowpolicy.report.thresholds import Passage, first_passage, speedup

INF = math.inf


def ratio(fast, slow, end=100):
    return speedup(Passage(fast, end), Passage(slow, end), np.random.default_rng(0))


def test_first_passage_is_the_first_step_at_or_above():
    steps, rates = [0, 10, 20, 30], [0.0, 0.5, 0.4, 0.9]
    assert first_passage(steps, rates, 0.5) == 10
    assert first_passage(steps, rates, 0.0) == 0
    assert first_passage(steps, rates, 0.6) == 30
    assert first_passage(steps, rates, 0.95) == INF
    mean = float(np.mean([0.8, 0.8, 0.8]))
    assert mean > 0.8  # by a rounding
    assert first_passage([0, 10], [0.0, 0.8], mean) == 10


def test_the_median_counts_seeds_that_never_got_there():
    passage = Passage((10.0, 20.0, INF), 100)
    assert (passage.reached, passage.median, passage.text) == (2, 20.0, "20")
    # Dropping the censored ones would say 10, filling in the end 55.
    half = Passage((10.0, INF, INF), 100)
    assert (half.reached, half.median, half.text) == (1, INF, "not within 100")
    # Of an even number the lower one: no mean of a step and infinity.
    assert Passage((10.0, INF), 100).median == 10.0


def test_ratio_is_exact_a_bound_or_unknown():
    exact = ratio((10.0,), (30.0,))
    assert (exact.ratio, exact.bound, exact.interval) == (3.0, "=", (3.0, 3.0))
    above = ratio((10.0,), (INF,))
    assert (above.ratio, above.bound, above.interval) == (10.0, ">", (INF, INF))
    below = ratio((INF,), (20.0,))
    assert (below.ratio, below.bound, below.interval) == (0.2, "<", (0.0, 0.0))
    for fast, slow in ((INF, INF), (0.0, 0.0), (0.0, 30.0), (INF, 0.0)):
        unknown = ratio((fast,), (slow,))
        assert unknown.bound == "?"
        assert math.isnan(unknown.ratio)
    assert ratio((INF,), (INF,)).interval == (0.0, INF)


def test_interval_is_the_enumerated_one_and_opens_where_resamples_are_censored():
    """Three seeds each: the median of a resample is 10, 20 or 40 (or never), all are likely."""
    shut = ratio((10.0, 20.0, 40.0), (40.0, 40.0, 40.0))
    assert shut.interval == (1.0, 4.0)
    assert shut.ratio == 2.0
    opened = ratio((10.0, 10.0, 10.0), (20.0, 20.0, INF))
    # Two of three draws are infinite with chance 7/27, far above 2.5 %.
    assert (opened.ratio, opened.bound) == (2.0, "=")
    assert opened.interval == (2.0, INF)


def test_a_passage_without_a_seed_is_refused():
    with pytest.raises(ValueError, match="seed"):
        _ = Passage((), 100).median
