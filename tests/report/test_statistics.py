"""Statistics against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest

from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.report import statistics

Z95 = 1.959963984540054


def solve_wilson(successes, episodes, side):
    """The end of Wilson's interval by bisection of its defining inequality."""
    rate = successes / episodes
    inside, outside = rate, 0.0 if side == "low" else 1.0

    def holds(p):
        return abs(rate - p) <= Z95 * math.sqrt(p * (1 - p) / episodes)

    if holds(outside):
        return outside
    for _ in range(200):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


@pytest.mark.parametrize(
    ("successes", "episodes"), [(1, 20), (7, 20), (20, 20), (0, 50), (37, 50), (1, 1)]
)
def test_wilson_solves_its_defining_inequality(successes, episodes):
    low, high = statistics.wilson(successes, episodes)
    # At p = 0 or 1 bisection starts on the boundary, where the inequality holds trivially.
    if successes > 0:
        assert low == pytest.approx(solve_wilson(successes, episodes, "low"), abs=1e-12)
    else:
        assert low == 0.0
        assert high == pytest.approx(Z95**2 / (episodes + Z95**2), abs=1e-12)
    if 0 < successes < episodes:
        assert high == pytest.approx(solve_wilson(successes, episodes, "high"), abs=1e-12)
    if successes == episodes:
        assert high == 1.0
        assert low == pytest.approx(episodes / (episodes + Z95**2), abs=1e-12)


def test_wilson_covers_a_known_rate_on_average():
    episodes = 50
    covered = []
    for rate in np.linspace(0.02, 0.98, 97):
        total = 0.0
        for k in range(episodes + 1):
            low, high = statistics.wilson(k, episodes)
            chance = math.comb(episodes, k) * rate**k * (1 - rate) ** (episodes - k)
            total += chance * (low <= rate <= high)
        covered.append(total)
    # Exact binomial sums, no sampling: Wilson's mean coverage is close to nominal.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.85


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(successes, episodes):
    with pytest.raises(InvalidData, match=str(successes)):
        statistics.wilson(successes, episodes)
    with pytest.raises(InvalidConfig, match="level"):
        statistics.wilson(1, 2, level=1.0)


def test_iqm_of_known_numbers():
    scores = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [90.0, 700.0]])
    assert statistics.iqm(scores) == pytest.approx((2 + 3 + 4 + 5) / 4)
    # Outliers in the outer quarters do not matter at all.
    scores[0, 0] = -1e9
    assert statistics.iqm(scores) == pytest.approx(3.5)
    assert statistics.iqm(np.array([[1.0], [2.0], [6.0]])) == pytest.approx(3.0)


def test_iqm_equals_sort_and_slice_on_a_batch():
    scores = np.random.default_rng(0).normal(size=(7, 5, 3))
    expected = [np.mean(sorted(s.ravel())[3:12]) for s in scores]
    assert statistics.iqm(scores) == pytest.approx(expected)


def test_bootstrap_equals_the_enumerated_distribution():
    """Two runs, two tasks: 16 equally likely tables; the interval's ends are their extremes."""
    scores = np.array([[0.0, 10.0], [1.0, 14.0]])
    tables = [
        np.mean([scores[a, 0], scores[b, 0], scores[c, 1], scores[d, 1]])
        for a, b, c, d in itertools.product(range(2), repeat=4)
    ]
    interval = statistics.stratified_bootstrap(
        scores, statistics.mean, np.random.default_rng(0), level=0.999
    )
    assert interval == (min(tables), max(tables))
    # Strata stay: a mean over tasks can never leave [5, 7.5], as mixing tasks would.
    assert interval == (5.0, 7.5)


def test_bootstrap_degenerate_and_reproducible():
    one = statistics.stratified_bootstrap(
        np.array([[0.3, 0.5]]), statistics.iqm, np.random.default_rng(0)
    )
    assert one == pytest.approx((0.4, 0.4))
    scores = np.random.default_rng(1).normal(size=(5, 2))
    first, second = (
        statistics.stratified_bootstrap(scores, statistics.mean, np.random.default_rng(7))
        for _ in range(2)
    )
    assert first == second
    with pytest.raises(InvalidData, match="finite"):
        statistics.stratified_bootstrap(
            np.array([[np.nan]]), statistics.mean, np.random.default_rng(0)
        )


def test_bootstrap_coverage():
    """20 normal runs: the percentile interval of the mean covers 0.92 to 0.95 of the time.

    400 trials at a true coverage of 0.93 have a standard error of 0.013; six of them on either
    side give a false alarm once in 1e9.
    """
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = statistics.stratified_bootstrap(
            rng.normal(size=(20, 1)), statistics.mean, rng, resamples=400
        )
        hits += low <= 0 <= high
    assert hits / 400 == pytest.approx(0.93, abs=6 * 0.013)


def test_success_interval_is_wilson_for_one_seed_and_never_a_point():
    rng = np.random.default_rng(0)
    one = statistics.success_interval(np.array([7]), np.array([20]), rng)
    assert one == statistics.wilson(7, 20)
    perfect = statistics.success_interval(np.array([20, 20, 20]), np.array([20, 20, 20]), rng)
    assert perfect == statistics.wilson(60, 60)
    # Seeds that disagree: wider than the episodes alone would say.
    split = statistics.success_interval(np.array([0, 50, 50]), np.array([50, 50, 50]), rng)
    assert split.low < statistics.wilson(100, 150).low
    assert split.high > statistics.wilson(100, 150).high


def test_mean_curve_shapes_and_band():
    successes = np.array([[0, 10, 20], [2, 12, 18]])
    episodes = np.full((2, 3), 20)
    curve = statistics.mean_curve(successes, episodes, np.random.default_rng(0))
    assert curve.mean == pytest.approx([0.05, 0.55, 0.95])
    assert (curve.low <= curve.mean).all()
    assert (curve.mean <= curve.high).all()
    single = statistics.mean_curve(successes[:1], episodes[:1], np.random.default_rng(0))
    assert [single.low[1], single.high[1]] == pytest.approx(statistics.wilson(10, 20))
    empty = statistics.mean_curve(
        np.zeros((1, 0), int), np.zeros((1, 0), int), np.random.default_rng(0)
    )
    assert empty.mean.shape == empty.low.shape == (0,)
    # A TypeError where jaxtyping checks the annotations before the function does.
    with pytest.raises((InvalidData, TypeError)):
        statistics.mean_curve(successes, episodes[:1], np.random.default_rng(0))
