"""One step against twenty: the exact field that the benchmark compares with, and its distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import fpmd_gap

X = np.linspace(-2.0, 2.0, 9)
QUANTILES = np.asarray(jax.scipy.stats.norm.ppf((jnp.arange(2000.0) + 0.5) / 2000))


@pytest.mark.parametrize(("away", "width"), [(0.0, 0.2), (0.4, 0.05)])
def test_one_exact_step_gives_the_mean(away, width):
    """Whatever the noise: at time 0 the action is independent of it. Between modes too."""
    np.testing.assert_allclose(fpmd_gap.exact(away, width, 1, X), 0.3, atol=1e-12)


def test_many_exact_steps_give_the_law():
    """A Gaussian's quantiles are those of the noise, scaled; two modes get a half each."""
    np.testing.assert_allclose(fpmd_gap.exact(0.0, 0.2, 2000, X), 0.3 + 0.2 * X, atol=1e-3)
    a = fpmd_gap.exact(0.4, 0.05, 200, QUANTILES)
    assert np.mean(np.abs(a - 0.7) < 0.2) == pytest.approx(0.5, abs=0.01)
    assert np.mean(np.abs(a + 0.1) < 0.2) == pytest.approx(0.5, abs=0.01)


def test_the_gap_shrinks_with_the_policy_s_variance_and_stays_with_two_modes():
    """One exact step is the spread away from the law (here 200 steps of it), nearly."""
    gaps = []
    for width in (0.4, 0.2, 0.1, 0.05):
        one, many = (fpmd_gap.exact(0.0, width, n, QUANTILES) for n in (1, 200))
        gaps.append(fpmd_gap.distance(one, many))
        assert gaps[-1] == pytest.approx(width, rel=0.1)
    assert np.all(np.diff(gaps) < 0)
    one, many = (fpmd_gap.exact(0.4, 0.02, n, QUANTILES) for n in (1, 200))
    assert fpmd_gap.distance(one, many) > 0.35


def test_the_distance_is_of_laws_and_not_of_pairs():
    """Order does not matter; a shift counts as it is."""
    assert fpmd_gap.distance(X, X[::-1]) == 0.0
    assert fpmd_gap.distance(X, X + 0.25) == pytest.approx(0.25)
