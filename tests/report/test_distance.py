"""The energy distance against closed forms, and the noise it states."""

import numpy as np
import pytest

from flowpolicy.errors import InvalidData
from flowpolicy.report.distance import energy_distance, noise_of


def _by_hand(x, y):
    def mean(a, b, same):
        pairs = [
            np.linalg.norm(p - q)
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (same and i == j)
        ]
        return np.mean(pairs)

    return 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)


def test_it_is_its_definition():
    """Pair by pair in a Python loop, sets of different sizes, more points than a block."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(9, 3)) + 0.5
    assert energy_distance(x, y) == pytest.approx(_by_hand(x, y), abs=1e-6)
    x, y = rng.normal(size=(1100, 1)), rng.normal(size=(600, 1))
    table = lambda a, b: np.abs(a - b.T)  # noqa: E731
    expected = 2 * table(x, y).mean() - table(x, x).sum() / (1100 * 1099)
    assert energy_distance(x, y) == pytest.approx(expected - table(y, y).sum() / (600 * 599), 1e-6)


@pytest.mark.slow
def test_two_shifted_normals_are_as_far_as_calculus_says():
    """In one dimension 2 E|x - y| - 2 E|x - x'|, x - y ~ N(d, 2): folded normals.

    20 000 points each; the estimate's standard deviation is below 0.01, the bound 5 of them: a
    false alarm in 6e-7 of seeds.
    """
    from scipy import stats

    rng, d = np.random.default_rng(1), 1.5
    x, y = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 1)) + d
    folded = stats.foldnorm(d / 2**0.5, scale=2**0.5).mean()
    assert abs(energy_distance(x, y) - 2 * (folded - 2 / np.pi**0.5)) < 0.05


def test_the_noise_covers_two_samples_of_one_law():
    """Without bias: over 40 fresh pairs the mean is 0 within 4 standard errors (a false alarm in
    6e-5 of seeds), and their scatter is what ``noise_of`` says, within a factor of 2."""
    rng = np.random.default_rng(2)
    fresh = [energy_distance(*rng.normal(size=(2, 100, 2))) for _ in range(40)]
    assert abs(np.mean(fresh)) < 4 * np.std(fresh, ddof=1) / 40**0.5
    noise = noise_of(rng.normal(size=(4000, 2)), 100, rng, repeats=40)
    assert 0.5 < noise.std / np.std(fresh, ddof=1) < 2
    assert abs(noise.mean) < 4 * noise.std / 40**0.5


def test_too_few_points_are_refused():
    """The message shows the shapes."""
    with pytest.raises(InvalidData, match=r"\(1, 2\)"):
        energy_distance(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(InvalidData, match="need 20, got 10"):
        noise_of(np.zeros((10, 2)), 10, np.random.default_rng(0))
