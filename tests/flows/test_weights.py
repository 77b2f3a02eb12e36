"""Weights of samples: mirror descent on Gaussians in closed form, effective samples, overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    FlowMap,
    Moments,
    Path,
    ScaledWeights,
    StandardisedWeights,
    Times,
    diagonal,
    effective_share,
    equal_weights,
    masked_mean_square,
    released_weights,
)
from flowpolicy.flows.weights import weight_metrics

NO_CLIP = 1e9
M, S = np.array([0.4, -0.3]), np.array([[0.5, 0.2], [0.2, 0.3]])
G, H = np.array([-0.2, 0.6]), np.array([[2.0, -0.7], [-0.7, 1.0]])
NOISE = jnp.asarray(0.3)


def _nodes(order=40):
    """Points and probabilities of a rule for N(0, 1) that is exact for polynomials."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    return x, w / w.sum()


def _values(a, g, h):
    return -0.5 * np.einsum("ni,ij,nj->n", a - g, h, a - g)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("weigh", [StandardisedWeights(0.7, NO_CLIP), ScaledWeights(0.7)])
def test_mirror_descent_on_a_gaussian(x64, weigh, steps):
    """N(m, S) under exp(Q / lambda), ``steps`` times: precision S^-1 + steps H / lambda, and its
    mean; lambda is the temperature times the values' running spread."""
    x, p = _nodes()
    z = np.stack(np.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
    p = np.outer(p, p).ravel()
    a = M + z @ np.linalg.cholesky(S).T
    moments = Moments(jnp.asarray(-1.3), jnp.asarray(2.5))
    for _ in range(steps):
        p = p * np.asarray(weigh(jnp.asarray(_values(a, G, H)), moments, NOISE))
        p = p / p.sum()
    mean = p @ a
    cov = np.einsum("n,ni,nj->ij", p, a - mean, a - mean)
    tilt = steps * H / (0.7 * 2.5)
    precision = np.linalg.inv(S) + tilt
    np.testing.assert_allclose(np.linalg.inv(cov), precision, rtol=1e-5)
    expected = np.linalg.solve(precision, np.linalg.solve(S, M) + tilt @ G)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.8])
def test_weighted_flow_matching_learns_the_tilted_law(x64, t):
    """The loss on samples of N(m, s^2), weighted, is stationary at the closed-form velocity of the
    tilted Gaussian, and not at that of N(m, s^2) itself."""
    m, s, g, h, temperature = 0.4, 0.8, 1.5, 2.0, 0.9
    x, p = _nodes()
    a, noise = (v.ravel() for v in np.meshgrid(m + s * x, x, indexing="ij"))
    share = jnp.asarray(np.outer(p, p).ravel())
    moments = Moments(jnp.asarray(0.2), jnp.asarray(1.7))
    q = jnp.asarray(-0.5 * h * (a - g) ** 2)
    weights = StandardisedWeights(temperature, NO_CLIP)(q, moments, NOISE)

    def loss(line):
        flow = FlowMap(lambda r, t, a, s: line[0] * a + line[1], 1)
        times = Times(*[jnp.asarray(t)] * 3)

        def one(noise, a, weight):
            path = Path(noise[None], a[None], jnp.zeros(1))
            return masked_mean_square(diagonal(flow, flow, times, path), weight[None])

        return jnp.sum(share * jax.vmap(one)(jnp.asarray(noise), jnp.asarray(a), weights))

    def velocity(mean, variance):
        slope = (t * variance - (1 - t)) / (t**2 * variance + (1 - t) ** 2)
        return jnp.array([slope, mean - slope * t * mean])

    precision = 1 / s**2 + h / (temperature * 1.7)
    mean = (m / s**2 + h * g / (temperature * 1.7)) / precision
    np.testing.assert_allclose(jax.grad(loss)(velocity(mean, 1 / precision)), 0.0, atol=1e-7)
    assert np.abs(jax.grad(loss)(velocity(m, s**2))).max() > 1e-2


def test_the_released_formula_is_constant_where_values_are_large():
    """exp(clip(q - mean / std, -3, 3) 0.1 / noise): every q above 3 + mean / std has the same."""
    moments = Moments(jnp.asarray(40.0), jnp.asarray(8.0))
    weights = released_weights(jnp.array([9.0, 40.0, 300.0]), moments, NOISE)
    np.testing.assert_allclose(weights, np.exp(3.0 / 3.0), rtol=1e-6)
    low = released_weights(jnp.array([4.0, 5.0, 6.5, 1.0]), moments, NOISE)
    np.testing.assert_allclose(low, np.exp(np.array([-1.0, 0.0, 1.5, -3.0]) / 3.0), rtol=1e-6)
    standardised = StandardisedWeights()(jnp.array([9.0, 40.0, 300.0]), moments, NOISE)
    expected = np.exp(np.array([-3.0, 0.0, 3.0]) - 3.0)
    np.testing.assert_allclose(standardised, expected, rtol=1e-6)
    np.testing.assert_array_equal(equal_weights(jnp.arange(3.0), moments, NOISE), 1.0)


def test_the_effective_share_by_hand():
    """1, 1 / n, (1 + x)^2 / (2 (1 + x^2)), also where squares would overflow; exp(-c^2) for
    weights exp(c a) of a ~ N(0, 1), here of 20 000 quantiles, whose tails lack a little."""
    assert effective_share(jnp.full(5, 1e-30)) == pytest.approx(1.0)
    assert effective_share(jnp.array([0.0, 1e30, 0.0, 0.0])) == pytest.approx(0.25)
    assert effective_share(jnp.array([2e30, 1e30])) == pytest.approx(9 / 10)
    uniform = (jnp.arange(20_000.0) + 0.5) / 20_000
    weights = jnp.exp(0.8 * jax.scipy.stats.norm.ppf(uniform))
    assert effective_share(weights) == pytest.approx(np.exp(-0.64), rel=0.01)


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [1e-45, 0.0, 1e-45]])
def test_weights_that_all_underflow_are_no_fault(weights):
    """No sample counts: a share of 0, and nothing overflowed; one that does is not hidden by it."""
    for share in (effective_share, jax.jit(effective_share)):
        assert float(share(jnp.array(weights))) == 0.0
        assert np.isnan(share(jnp.array([*weights, np.nan])))
        assert np.isnan(share(jnp.array([*weights, np.inf])))
    metrics = weight_metrics(jnp.array(weights))
    for name in ("mean", "effective_share", "overflow"):
        assert float(metrics[f"weights/{name}"]) == pytest.approx(0.0, abs=1e-40)


def test_a_clip_that_makes_weights_the_same_is_told():
    """Three values of four lie beyond 3 spreads: nothing tells them apart, which an effective share
    near 1 does not say. Without the clip one has the largest weight."""
    moments = Moments(jnp.asarray(10.0), jnp.asarray(1.0))
    q = jnp.array([50.0, 51.0, 60.0, 12.0])
    for weigh, share in ((StandardisedWeights(), 0.75), (StandardisedWeights(1.0, 1e9), 0.25)):
        metrics = weight_metrics(weigh(q, moments, NOISE))
        assert metrics["weights/largest_share"] == share
    assert weight_metrics(equal_weights(q, moments, NOISE))["weights/largest_share"] == 1.0


def test_weights_that_overflow_are_reported_and_not_hidden():
    """A share in the metrics; the effective share is not a number, which the guards stop at."""
    moments = Moments(jnp.zeros(()), jnp.ones(()))
    q = jnp.array([1.0, 2.0, 100.0, 3.0])
    metrics = weight_metrics(ScaledWeights()(q, moments, NOISE))
    assert metrics["weights/overflow"] == 0.25
    assert not np.isfinite(metrics["weights/effective_share"])
    kept = weight_metrics(StandardisedWeights()(q, moments, NOISE))
    assert kept["weights/overflow"] == 0.0
    assert all(np.isfinite(value) for value in kept.values())


def test_running_moments():
    """Averages of batches' means and spreads; a share of 1 forgets what was; no spread gives 0."""
    q = jnp.array([1.0, 3.0])
    first = Moments.create().after(q, 1.0)
    assert (float(first.mean), float(first.std)) == (2.0, 1.0)
    then = first.after(jnp.array([6.0, 6.0]), 0.25)
    assert (float(then.mean), float(then.std)) == (3.0, 0.75)
    flat = Moments.create().after(jnp.full(3, 5.0), 1.0)
    np.testing.assert_array_equal(flat.standardise(jnp.full(3, 5.0)), 0.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-9, np.inf, np.nan])
@pytest.mark.parametrize("kind", [StandardisedWeights, ScaledWeights])
def test_a_temperature_that_divides_by_nothing_is_refused(kind, temperature):
    """With the released runs' range."""
    with pytest.raises(InvalidConfig, match=rf"temperature.*0\.5 to 5.*got {temperature}"):
        kind(temperature=temperature)


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan])
def test_a_clip_of_nothing_is_refused(clip):
    """All weights would be the same; the code's value is told. An infinite one clips nothing."""
    with pytest.raises(InvalidConfig, match=rf"clip must be above 0 .*has 3.*got {clip}.*equal"):
        StandardisedWeights(clip=clip)
    q, moments = jnp.array([0.0, 50.0]), Moments(jnp.zeros(()), jnp.ones(()))
    expected = [np.exp(-50.0), 1.0]
    np.testing.assert_allclose(StandardisedWeights(clip=np.inf)(q, moments, NOISE), expected, 1e-4)
