"""Two methods side by side, against closed forms, enumeration, and rliable's own numbers."""

import itertools
import math

import numpy as np
import pytest

from flowpolicy.errors import InvalidData
from flowpolicy.report import contrasts, statistics

A = np.array([[0.9, 0.4, 0.1], [0.8, 0.5, 0.0], [1.0, 0.5, 0.3], [0.7, 0.9, 0.2], [0.6, 0.4, 0.1]])
B = np.array([[0.7, 0.4, 0.2], [0.8, 0.2, 0.0], [0.9, 0.6, 0.1], [0.5, 0.5, 0.1], [0.6, 0.3, 0.4]])
LEVELS = np.array([0.0, 0.25, 0.5, 0.75])


def test_point_estimates_are_those_of_rliable():
    """Recorded from rliable 1.0.8 on the tables A and B.

    It is no development dependency, because every release of it needs a build from source on this
    project's Pythons (its wheel asks for arch 5.3.0, which has none past Python 3.10). These were
    computed once with its wheel, arch 8.0 beside it.
    """
    assert float(statistics.iqm(A)) == pytest.approx(0.4888888888888888)
    assert float(statistics.iqm(B)) == pytest.approx(0.41111111111111115)
    assert float(statistics.mean(A)) == pytest.approx(0.49333333333333335)
    assert float(contrasts.improvement(A, B)) == pytest.approx(0.6133333333333334)
    assert float(contrasts.improvement(A, B[:3])) == pytest.approx(0.5888888888888889)
    profile = [0.93333333, 0.73333333, 0.4, 0.26666667]
    assert statistics.profile(A, LEVELS) == pytest.approx(profile)


@pytest.mark.parametrize(
    ("statistic", "table", "theirs"),
    [
        (statistics.iqm, A, (0.42222222, 0.6)),
        (statistics.iqm, B, (0.32222222, 0.5)),
        (statistics.mean, A, (0.42666667, 0.57333333)),
        (statistics.mean, B, (0.34666667, 0.49333333)),
    ],
)
def test_stratified_intervals_are_those_of_rliable(statistic, table, theirs):
    """Recorded from rliable 1.0.8 (see above), 20 000 resamples each.

    The statistics lie on a lattice 1/150 (mean) or finer apart, so both ends may be one cell off;
    the seed is fixed, so this does not fail by chance.
    """
    rng = np.random.default_rng(0)
    ours = statistics.stratified_bootstrap(table, statistic, rng, resamples=20_000)
    assert ours == pytest.approx(theirs, abs=0.0075)


def test_improvement_interval_is_that_of_rliable():
    ours = contrasts.improvement_interval(A, B, np.random.default_rng(0), resamples=20_000)
    assert ours == pytest.approx((0.40666667, 0.8), abs=0.014)  # one cell is 1/150


def test_improvement_counts_pairs():
    first, second = np.array([[1.0], [0.5]]), np.array([[0.5], [0.0], [0.75]])
    # 1.0 beats all three; 0.5 ties, beats, loses.
    assert float(contrasts.improvement(first, second)) == pytest.approx((3 + 0.5 + 1) / 6)
    one, two = (float(contrasts.improvement(a, b)) for a, b in ((A, B), (B, A)))
    assert one + two == pytest.approx(1.0)
    with pytest.raises((InvalidData, TypeError)):
        contrasts.improvement(A, B[:, :2])
    with pytest.raises(InvalidData, match="tasks"):
        contrasts.improvement(A[:0], B)


def test_newcombe_against_his_own_examples():
    """Table II of the paper, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    assert contrasts.newcombe((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert contrasts.newcombe((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    low, high = contrasts.newcombe((20, 20), (0, 20))
    assert 0 < low < high == 1.0


def test_newcombe_covers_a_known_difference_on_average():
    """Exact binomial sums over a grid of pairs of rates, 20 episodes each: no sampling."""
    n = 20
    ends = {(k, j): contrasts.newcombe((k, n), (j, n)) for k in range(n + 1) for j in range(n + 1)}
    rates = np.linspace(0.05, 0.95, 10)
    chances = {
        p: [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in rates
    }
    covered = [
        sum(
            chances[p][k] * chances[q][j]
            for (k, j), (low, high) in ends.items()
            if low <= p - q <= high
        )
        for p, q in itertools.product(rates, repeat=2)
    ]
    assert np.mean(covered) == pytest.approx(0.955, abs=0.01)
    assert min(covered) > 0.9


def test_paired_interval_sees_what_pairing_removes():
    """Seeds far apart, differences all alike: the pairs agree though the methods overlap."""
    first, second = np.array([[0.9], [0.5], [0.1]]), np.array([[0.8], [0.4], [0.0]])
    rng = np.random.default_rng(0)
    many = contrasts.paired_interval(first - second, (1500, 3000), (1200, 3000), rng)
    assert many == pytest.approx(contrasts.newcombe((1500, 3000), (1200, 3000)))
    assert many.low > 0
    # Few episodes say less, and one pair is no point.
    few = contrasts.paired_interval(first[:1] - second[:1], (9, 10), (8, 10), rng)
    assert few.low < 0 < 0.1 < few.high
    # Pairs that disagree are wider than the episodes alone would say.
    apart = np.array([[0.9], [-0.7]])
    wide = contrasts.paired_interval(apart, (1500, 3000), (1200, 3000), rng)
    assert wide == pytest.approx((-0.7, 0.9))


def test_paired_interval_covers_a_true_difference():
    """8 seeds x 2 tasks, 20 episodes each; rates vary by seed, the same for both methods.

    400 trials at a true coverage of at least 0.95 have a standard error of at most 0.011; the
    bound lies more than five below, so a false alarm comes less than once in a million.
    """
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        rate = rng.uniform(0.2, 0.7, size=(8, 2))
        one, two = (rng.binomial(20, r) for r in (rate + 0.2, rate))
        counts = [(int(k.sum()), 20 * k.size) for k in (one, two)]
        low, high = contrasts.paired_interval((one - two) / 20, *counts, rng)
        hits += low <= 0.2 <= high
    assert hits / 400 >= 0.89
