"""Interpolants: end points, and a velocity that cannot disagree with the path."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.flows import linear, trigonometric, velocity

X0, X1 = (1.0, -2.0, 0.5), (0.3, 0.8, -0.9)


@pytest.fixture
def ends(x64):
    """Noise and action, in double precision."""
    return jnp.array(X0), jnp.array(X1)


@pytest.mark.parametrize("interpolant", [linear, trigonometric])
def test_time_0_is_noise_and_time_1_is_the_action(ends, interpolant):
    """I(0, x0, x1) = x0 and I(1, x0, x1) = x1."""
    x0, x1 = ends
    np.testing.assert_allclose(interpolant(jnp.zeros(()), x0, x1), x0, atol=1e-15)
    np.testing.assert_allclose(interpolant(jnp.ones(()), x0, x1), x1, atol=1e-15)


@pytest.mark.parametrize("interpolant", [linear, trigonometric])
def test_the_velocity_is_the_slope_of_the_path(ends, interpolant):
    """dI/dt by a central difference, whose error is of order h^2 = 1e-10."""
    h = 1e-5
    for t in (0.0, 0.3, 1.0):
        quotient = interpolant(jnp.asarray(t + h), *ends) - interpolant(jnp.asarray(t - h), *ends)
        v = velocity(interpolant, jnp.asarray(t), *ends)
        np.testing.assert_allclose(v, quotient / (2 * h), atol=1e-8)


def test_the_closed_velocities(ends):
    """x1 - x0 on the line; pi / 2 (-sin x0 + cos x1) on the circle."""
    x0, x1 = ends
    t = jnp.asarray(1 / 3)
    np.testing.assert_allclose(velocity(linear, t, x0, x1), x1 - x0, atol=1e-14)
    circle = np.pi / 2 * (-0.5 * np.asarray(x0) + np.sqrt(0.75) * np.asarray(x1))
    np.testing.assert_allclose(velocity(trigonometric, t, x0, x1), circle, atol=1e-14)


def test_the_circle_keeps_the_variance_of_two_unit_gaussians(ends):
    """alpha^2 + beta^2 = 1 at every time."""
    one, zero = jnp.ones(1), jnp.zeros(1)
    for t in np.linspace(0, 1, 7):
        alpha = trigonometric(jnp.asarray(t), one, zero)
        beta = trigonometric(jnp.asarray(t), zero, one)
        np.testing.assert_allclose(alpha**2 + beta**2, 1.0, atol=1e-14)


def test_a_configuration_names_only_paths_that_something_takes():
    """No agent has a field for the circle, and what is no part cannot be asked for by name."""
    with pytest.raises(InvalidConfig, match="trigonometric"):
        parts.encode(trigonometric)
    with pytest.raises(UnknownName, match="trigonometric"):
        parts.parse("trigonometric")
    assert parts.parse("linear") is linear
