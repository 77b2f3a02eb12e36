"""A single sample, and the best of several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from toys import quadratic, scaled

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap, Integrated
from flowpolicy.refine import BestOfN, OneStep, from_noise

S = (0.1, -0.2)


def test_a_sample_is_one_jump_from_noise_to_the_action(key):
    """X_{0,1}(a0 | s): all four arguments count, and X is not applied from 1 to 0."""

    def net(r, t, a, s):
        return 3.0 * r + 5.0 * t + 2.0 * a + s

    a0 = jax.random.normal(key, (2,))
    sample = from_noise(key, FlowMap(net, 2), jnp.array(S))
    np.testing.assert_allclose(sample, a0 + 5.0 + 2.0 * a0 + jnp.array(S), rtol=1e-5)


def test_one_step_is_that_sample_in_the_box(key):
    """Clipped to [-bound, bound]; the critic is not asked."""

    def deaf(a):
        raise AssertionError(a)

    s, flow = jnp.array(S), scaled(3.0, action=2)
    for k in jax.random.split(key, 20):
        sample = from_noise(k, flow, s)
        np.testing.assert_array_equal(OneStep()(k, flow, deaf, s), jnp.clip(sample, -1, 1))
        half = OneStep(bound=0.5)(k, flow, deaf, s)
        np.testing.assert_array_equal(half, jnp.clip(sample, -0.5, 0.5))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_best_of_n_is_brute_force(key, n):
    """The clipped candidate of highest Q over the same keys, by a Python loop."""
    flow, s = scaled(1.5), jnp.array(S)
    for k in jax.random.split(key, 10):
        loop = [jnp.clip(from_noise(c, flow, s), -1, 1) for c in jax.random.split(k, n)]
        best = max(loop, key=lambda a: float(quadratic(a)))
        np.testing.assert_allclose(BestOfN(n)(k, flow, quadratic, s), best, rtol=1e-6)


def test_candidates_are_ranked_as_they_will_be_executed(key):
    """Q is asked about clipped actions: beyond the box a liar cannot win."""
    seen = BestOfN(32)(key, scaled(5.0), lambda a: jnp.max(jnp.abs(a)), jnp.array(S))
    assert jnp.max(jnp.abs(seen)) == 1.0


def test_a_value_that_is_not_a_number_ranks_last(key):
    """A critic that knows nothing of half the box: the best of the other half, if any is there."""
    flow, s = scaled(1.5), jnp.array(S)

    def blind(a):
        return jnp.where(a[0] > 0, jnp.nan, quadratic(a))

    for k in jax.random.split(key, 10):
        loop = [jnp.clip(from_noise(c, flow, s), -1, 1) for c in jax.random.split(k, 8)]
        known = [a for a in loop if a[0] <= 0]
        best = max(known, key=lambda a: float(quadratic(a)))
        np.testing.assert_allclose(BestOfN(8)(k, flow, blind, s), best, rtol=1e-6)


def test_a_policy_that_is_not_finite_stays_visible(key):
    """Among actions that are all NaN none is found: the guards see it."""
    lost = scaled(jnp.nan)
    assert jnp.isnan(BestOfN(8)(key, lost, quadratic, jnp.array(S))).all()


@pytest.mark.parametrize("n", [2, 8, 32])
def test_the_best_of_n_has_the_mean_of_the_greatest_order_statistic(key, n):
    """On a linear critic: E max of n normals = integral of x d(Phi^n).

    4000 repetitions, 6 standard errors: a false alarm in 2e-9 of seeds.
    """
    slope = jnp.array([0.6, -0.8])  # of length 1, so that Q is a standard normal
    refiner = BestOfN(n, bound=100.0)
    draws = jax.vmap(lambda k: refiner(k, scaled(1.0), lambda a: slope @ a, jnp.zeros(2)))
    values = np.asarray(draws(jax.random.split(key, 4000)) @ slope, np.float64)

    def density(x):
        return x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1)

    expected = integrate.quad(density, -12, 12)[0]
    assert abs(values.mean() - expected) < 6 * values.std(ddof=1) / 4000**0.5


def test_an_integrated_flow_takes_a_flow_map_s_place(key):
    """A refiner asks a flow only for its jumps and its size."""

    def net(r, t, a, s):
        return (s - a) * (0.5 + 0.1 * t)

    s, flow = jnp.array(S), FlowMap(net, 2)
    by_hand = jax.random.normal(key, (2,))
    for i in range(4):
        by_hand = by_hand + 0.25 * net(0.0, 0.25 * i, by_hand, s)
    sample = OneStep(bound=100.0)(key, Integrated(flow, 4), quadratic, s)
    np.testing.assert_allclose(sample, by_hand, rtol=1e-5)


def test_there_is_a_candidate():
    """n = 0 has none."""
    with pytest.raises(InvalidConfig, match="n must be at least 1, got 0"):
        BestOfN(0)
    with pytest.raises(InvalidConfig, match="n must be at most 1048576, got 1000000000"):
        BestOfN(10**9)
