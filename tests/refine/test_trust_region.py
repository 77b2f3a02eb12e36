"""Theorem 3.2: the displacement is the optimum of linearised Q in a ball, and so is its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import quadratic, scaled

from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import BestOfN, OneStep, TrustRegion, displace, normalised_gradient

ETA = 0.3
SLOPE = (0.2, -1.5, 0.7, 0.05, -0.3)
S = (0.1, -0.2)


def _linear(a):
    return jnp.array(SLOPE) @ a


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("q", "size"), [(_linear, 5), (quadratic, 2)])
def test_the_displacement_satisfies_the_kkt_conditions(q, size, seed):
    """|d| = eta, and grad Q = lambda d with the multiplier lambda = |grad Q| / eta > 0.

    In float32, with kappa = 1e-8 beside a gradient of order 1: five digits.
    """
    a = jax.random.normal(jax.random.key(seed), (size,))
    g, d = np.asarray(jax.grad(q)(a)), np.asarray(displace(q, a, ETA) - a)
    multiplier = np.linalg.norm(g) / ETA
    assert np.linalg.norm(d) == pytest.approx(ETA, rel=1e-5)
    np.testing.assert_allclose(g, multiplier * d, atol=2e-5)


def test_no_feasible_displacement_is_better():
    """10 000 random points of the ball, most of them on its rim, gain less on a linear critic."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(10_000, 5))
    radius = ETA * np.minimum(1.0, rng.uniform(0, 2, size=(10_000, 1)))
    feasible = radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    a = jnp.array([0.4, -0.1, 0.0, 0.9, -0.6])
    gain = float(_linear(displace(_linear, a, ETA)) - _linear(a))
    best_of_all = (feasible @ np.asarray(SLOPE)).max()
    assert gain == pytest.approx(ETA * np.linalg.norm(SLOPE), rel=1e-5)
    assert 0.8 * gain < best_of_all < gain


def test_a_radius_of_0_is_the_action_itself():
    """And the displacement is continuous there: |d| = eta."""
    a = jnp.array([0.5, 0.5])
    assert jnp.array_equal(displace(quadratic, a, 0.0), a)
    for eta in (1e-2, 1e-4):
        length = jnp.linalg.norm(displace(quadratic, a, eta) - a)
        assert length == pytest.approx(eta, rel=1e-2)


def test_a_flat_critic_leaves_the_action_and_its_gradients_finite():
    """At a zero gradient the direction is 0, not 0 / 0, nor is its derivative."""
    a = jnp.array([0.1, -0.2])

    def flat(a):
        return 0.0 * jnp.sum(a)

    assert jnp.array_equal(normalised_gradient(flat, a), jnp.zeros(2))
    assert jnp.array_equal(displace(flat, a, ETA), a)
    top = jnp.array([0.3, -0.4])  # the gradient of the quadratic vanishes, its curvature does not
    assert jnp.array_equal(displace(quadratic, top, ETA), top)
    for q, point in ((flat, a), (quadratic, top), (quadratic, a)):
        for eta in (0.0, ETA):
            jacobian = jax.jacobian(lambda x, q=q, eta=eta: displace(q, x, eta))(point)
            assert np.all(np.isfinite(jacobian))


def test_kappa_bounds_the_step_where_the_gradient_fades():
    """g / (|g| + kappa): half the length where |g| = kappa."""

    def faint(a):
        return 1e-3 * a[0]

    direction = normalised_gradient(faint, jnp.zeros(2), kappa=1e-3)
    np.testing.assert_allclose(direction, [0.5, 0.0], rtol=1e-6)


def test_the_direction_ignores_the_critic_s_scale():
    """Q and 1000 Q displace alike: eta is in units of the action."""
    a = jnp.array([0.5, 0.5])
    scaled_up = displace(lambda x: 1000.0 * quadratic(x), a, ETA)
    np.testing.assert_allclose(displace(quadratic, a, ETA), scaled_up, rtol=1e-6)


@pytest.mark.parametrize("start", [OneStep(), BestOfN(4)])
def test_the_refiner_displaces_what_it_drew(key, start):
    """Same key: the start's action, moved by eta uphill."""
    flow, s = scaled(0.1), jnp.array(S)
    drawn = start(key, flow, quadratic, s)
    refined = TrustRegion(ETA, start)(key, flow, quadratic, s)
    np.testing.assert_allclose(refined, displace(quadratic, drawn, ETA), rtol=1e-6)
    assert jnp.linalg.norm(refined - drawn) == pytest.approx(ETA, rel=1e-5)


def test_the_box_comes_last(key):
    """A displaced action is clipped, however far it was pushed."""
    refined = TrustRegion(10.0)(key, scaled(), lambda a: a[0] - 2.0 * a[1], jnp.array(S))
    np.testing.assert_array_equal(refined, [1.0, -1.0])


@pytest.mark.parametrize("eta", [-0.1, np.inf, np.nan])
def test_a_radius_that_is_none_is_refused(eta):
    """A negative one would walk downhill; with the others every action is a corner, or NaN."""
    message = rf"trust_region\.eta must be at least 0 and finite.*got {eta}"
    with pytest.raises(InvalidConfig, match=message):
        TrustRegion(eta)
