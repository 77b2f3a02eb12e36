"""Laws of times: their support, their distributions, and how the curriculum anneals.

Distributions are compared by Kolmogorov and Smirnov's test at level 1e-6: what a fixed seed
would fail by accident once in a million.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Curriculum,
    DiagonalShare,
    Dyadic,
    LogitNormal,
    Midpoint,
    OnDiagonal,
    Triangle,
)

N, LEVEL = 20_000, 1e-6
LAWS = [
    OnDiagonal(),
    Triangle(),
    LogitNormal(),
    DiagonalShare(),
    Curriculum(),
    Midpoint(LogitNormal()),
    Dyadic(),
]


def _draw(law, progress=1.0, seed=0):
    keys = jax.random.split(jax.random.key(seed), N)
    times = jax.vmap(lambda k: law(k, jnp.asarray(progress)))(keys)
    return (np.asarray(x, np.float64) for x in times)


def _follows(sample, cdf):
    return stats.kstest(sample, cdf).pvalue > LEVEL


def _uniform_between(r, w, t):
    apart = t - r > 1e-3  # below that, rounding in float32 shows
    return _follows(((w - r) / (t - r))[apart], "uniform")


@pytest.mark.parametrize("progress", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_times_are_ordered_in_the_unit_interval(law, progress):
    """0 <= r <= w <= t <= 1, up to one rounding of float32 in w."""
    r, w, t = _draw(law, progress)
    assert r.min() >= 0.0
    assert t.max() <= 1.0
    assert np.all(r <= w)
    assert np.all(w <= t + 2.0**-24)


@pytest.mark.parametrize("law", LAWS[:-1], ids=lambda law: type(law).__name__)
def test_the_key_decides(law):
    """Same keys, same times; other keys, other times."""
    (r, _, t), (r2, _, t2), (r3, _, t3) = _draw(law), _draw(law), _draw(law, seed=1)
    assert np.array_equal(r, r2)
    assert np.array_equal(t, t2)
    assert not np.any((r == r3) & (t == t3))


def test_flow_matching_is_uniform_on_the_diagonal():
    """r = w = t ~ U[0, 1)."""
    r, w, t = _draw(OnDiagonal())
    assert np.array_equal(r, t)
    assert np.array_equal(w, t)
    assert _follows(t, "uniform")


def test_the_triangle_is_a_sorted_pair():
    """P(r < x) = 1 - (1 - x)^2, P(t < x) = x^2, t - r like r, and w uniform between."""
    r, w, t = _draw(Triangle())
    assert _follows(r, lambda x: 1 - (1 - x) ** 2)
    assert _follows(t, lambda x: x**2)
    assert _follows(t - r, lambda x: 1 - (1 - x) ** 2)
    assert _uniform_between(r, w, t)


def test_the_logit_normal_is_a_sorted_pair_of_sigmoids():
    """With Phi the normal law of the logit: P(t < x) = Phi^2 and P(r < x) = 1 - (1 - Phi)^2."""
    r, w, t = _draw(LogitNormal(mean=0.4, std=0.7))

    def phi(x):
        return stats.norm.cdf(np.log(x / (1 - x)), 0.4, 0.7)

    assert _follows(t, lambda x: phi(x) ** 2)
    assert _follows(r, lambda x: 1 - (1 - phi(x)) ** 2)
    assert _uniform_between(r, w, t)


def test_mean_flows_default_leans_to_the_action():
    """MeanFlow's mean -0.4 with the action at 0 is +0.4 with the action at 1: median 0.6, whose
    share below it is told within 6 standard errors (2e-9)."""
    r, _, t = _draw(LogitNormal())
    both = np.concatenate([r, t])
    # r and t are two draws in order, so that together they are 2 N independent ones.
    assert abs(np.mean(both < 1 / (1 + np.exp(-0.4))) - 0.5) < 6 * 0.5 / (2 * N) ** 0.5


def test_the_diagonal_share():
    """With its probability r = w = t, with the law's r; else the law itself. The share is told
    within 6 standard errors of a binomial (2e-9)."""
    r, w, t = _draw(DiagonalShare(Triangle(), share=0.3))
    on = r == t
    assert abs(on.mean() - 0.3) < 6 * (0.3 * 0.7 / N) ** 0.5
    assert np.array_equal(w[on], r[on])
    for part in (on, ~on):
        assert _follows(r[part], lambda x: 1 - (1 - x) ** 2)
    assert _follows(t[~on], lambda x: x**2)


def test_mean_flows_diagonal_is_the_noisier_end():
    """MeanFlow's code in its own direction, data at 0: t the larger of two sigmoid(N(-0.4, 1)), and
    r = t on the diagonal. Turned round, 1 - t is the law of our diagonal; its mean is 0.465. That
    of 15 000 draws is held to 6.4 of its standard errors (false alarm 2e-10).
    """
    r, _, t = _draw(DiagonalShare(LogitNormal(), share=0.75))
    theirs = 1 / (1 + np.exp(0.4 - np.random.default_rng(0).normal(size=(N, 2))))
    on = r == t
    assert stats.ks_2samp(r[on], 1 - theirs.max(axis=1)).pvalue > LEVEL
    assert r[on].mean() == pytest.approx(0.466, abs=0.01)


def test_the_share_has_end_points():
    """0 is the law, 1 is the diagonal."""
    r, _, t = _draw(DiagonalShare(share=0.0))
    assert np.all(r < t)
    r, w, t = _draw(DiagonalShare(share=1.0))
    assert np.array_equal(r, t)
    assert np.array_equal(w, t)


def test_the_curriculum_begins_on_the_diagonal_and_ends_on_the_triangle():
    """p = 0 until ``start``: r = t, the middle of two uniforms; p = 1 from ``end``."""
    law = Curriculum(start=0.2, end=0.6)
    for progress in (0.0, 0.2):
        r, w, t = _draw(law, progress)
        assert np.array_equal(r, t)
        assert np.array_equal(w, t)
        assert _follows(t, lambda x: np.where(x < 0.5, 2 * x**2, 1 - 2 * (1 - x) ** 2))
    for progress in (0.6, 1.0):
        r, w, t = _draw(law, progress)
        assert _follows(r, lambda x: 1 - (1 - x) ** 2)
        assert _follows(t, lambda x: x**2)
        assert _uniform_between(r, w, t)


def test_the_curriculum_opens_linearly_about_a_fixed_middle():
    """The same keys give the same middle, and a length in proportion to p."""
    law = Curriculum(start=0.2, end=0.6)
    full_r, _, full_t = _draw(law, 1.0)
    for progress, p in ((0.3, 0.25), (0.4, 0.5), (0.5, 0.75)):
        r, _, t = _draw(law, progress)
        np.testing.assert_allclose(r + t, full_r + full_t, atol=1e-6)
        np.testing.assert_allclose(t - r, p * (full_t - full_r), atol=1e-6)


def test_the_default_curriculum_is_the_released_one():
    """5 000 and 50 000 of a million updates."""
    assert Curriculum() == Curriculum(start=5_000 / 1_000_000, end=50_000 / 1_000_000)


def test_the_midpoint_is_in_the_middle():
    """w = (r + t) / 2, and (r, t) the law's."""
    r, w, t = _draw(Midpoint(Triangle()))
    np.testing.assert_allclose(w, (r + t) / 2, atol=1e-7)
    law_r, _, law_t = _draw(Triangle())
    assert np.array_equal(r, law_r)
    assert np.array_equal(t, law_t)


def test_dyadic_jumps_lie_on_the_grid_of_their_length():
    """t - r = 2^-k, r a multiple of it, w in the middle: exactly, in binary."""
    r, w, t = _draw(Dyadic(levels=4))
    length = t - r
    assert set(length) == {1.0, 0.5, 0.25, 0.125}
    assert np.all((r / length) % 1 == 0)
    assert np.array_equal(w, r + length / 2)


def test_dyadic_levels_and_cells_are_uniform():
    """Each k as often as the others, and each cell within it; chi-square at level 1e-6."""
    r, _, t = _draw(Dyadic(levels=4))
    k = np.round(-np.log2(t - r)).astype(int)
    assert stats.chisquare(np.bincount(k, minlength=4)).pvalue > LEVEL
    for level in range(1, 4):
        cells = (r[k == level] * 2**level).astype(int)
        assert stats.chisquare(np.bincount(cells, minlength=2**level)).pvalue > LEVEL


@pytest.mark.parametrize(
    ("law", "fields", "message"),
    [
        (DiagonalShare, {"share": 1.1}, "share must be in"),
        (Curriculum, {"start": 0.5, "end": 0.5}, "start < end"),
        (Curriculum, {"end": 1.5}, "end <= 1"),
        (Dyadic, {"levels": 0}, "levels must be at least 1"),
    ],
)
def test_laws_refuse_what_makes_no_sense(law, fields, message):
    """The message names the field, the value and what is allowed."""
    with pytest.raises(InvalidConfig, match=message):
        law(**fields)
