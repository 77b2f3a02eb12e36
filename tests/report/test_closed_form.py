"""The closed form and the numerical optimum, on critics whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from flowpolicy.flows import FlowMap
from flowpolicy.report.closed_form import BOX, NO_BOX, at_radius, climb, ends

SIZE = 4


def _problem(seed):
    """A concave quadratic -(a - m)^T A (a - m) / 2 and a centre in the box, in float64."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(SIZE, SIZE))
    return root @ root.T + 0.3 * np.eye(SIZE), rng.normal(size=SIZE), rng.uniform(-0.9, 0.9, SIZE)


def _quadratic(curvature, best):
    a32, m32 = jnp.asarray(curvature, jnp.float32), jnp.asarray(best, jnp.float32)
    return lambda a: -0.5 * (a - m32) @ a32 @ (a - m32)


def _greatest_gain(curvature, best, centre, eta, boxed):
    """By SLSQP in double precision, from several starts."""
    q = lambda a: -0.5 * (a - best) @ curvature @ (a - best)  # noqa: E731
    found = optimize.minimize(
        lambda a: -q(a), centre, jac=lambda a: curvature @ (a - best), method="SLSQP",
        bounds=[(-BOX, BOX)] * SIZE if boxed else None,
        constraints={
            "type": "ineq",
            "fun": lambda a: eta**2 - (a - centre) @ (a - centre),
            "jac": lambda a: -2 * (a - centre),
        },
        options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    return q(found.x) - q(centre)


@pytest.mark.parametrize("eta", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("boxed", [False, True])
def test_the_ascent_finds_the_optimum_and_bounds_what_is_missing(key, eta, boxed):
    """On concave quadratics: within a hundredth of another solver's, never above it, and the gap
    is no less than what is missing."""
    for seed in range(3):
        curvature, best, centre = _problem(seed)
        q, bound = _quadratic(curvature, best), BOX if boxed else NO_BOX
        a = jnp.asarray(centre, jnp.float32)
        found = jax.jit(lambda k, a, q=q, b=bound: climb(k, q, a, jnp.float32(eta), b))(key, a)
        exact = _greatest_gain(curvature, best, centre, eta, boxed)
        assert 0.99 * exact - 1e-5 <= found.gain <= exact * (1 + 1e-4) + 1e-5
        assert found.gain + found.gap >= exact - 1e-4
        assert found.agree == 1.0


def test_the_gap_is_what_the_slope_at_the_end_still_promises(key):
    """At a kink the ascent ends beside the optimum and the slope goes on: gap >= what is missing,
    and about the way to the ball's far rim."""
    q = lambda a: -jnp.abs(a[0] - 0.05)  # noqa: E731
    found = climb(key, q, jnp.zeros(2), jnp.float32(0.5), NO_BOX)
    assert found.gain == pytest.approx(0.05, abs=2e-3)
    assert 0.44 < found.gap < 0.56
    assert found.gain + found.gap >= 0.05


def test_restarts_tell_two_hills_apart(key):
    """Q has a low hill uphill and a high one behind: the ascent finds the high one, and not every
    start does."""
    low, high = jnp.array([0.4, 0.0]), jnp.array([-0.4, 0.0])

    def q(a):
        near, far = jnp.sum(jnp.square(a - low)), jnp.sum(jnp.square(a - high))
        return jnp.exp(-20 * near) + 2 * jnp.exp(-20 * far)

    a = jnp.array([0.1, 0.0])
    assert jax.grad(q)(a)[0] > 0
    found = climb(key, q, a, jnp.float32(0.7), NO_BOX)
    assert found.gain + q(a) == pytest.approx(2.0, abs=0.01)
    assert 0 < found.agree < 1


@pytest.mark.parametrize("eta", [0.05, 0.6])
def test_a_linear_critic_gains_what_was_predicted(key, eta):
    """No curvature: prediction, theorem and optimum are the same; with walls so are those in the
    box, and clipping is worse where a wall is near."""
    slope = jnp.array([1.0, -2.0, 0.5, 0.1])
    a = jnp.array([0.0, -0.99, 0.2, 0.3])
    found = at_radius(key, lambda x: slope @ x, a, jnp.float32(eta))
    expected = eta * float(jnp.linalg.norm(slope))
    for gain in (found.predicted, found.theorem, found.ball.gain):
        assert float(gain) == pytest.approx(expected, rel=1e-4)
    assert float(found.box) == pytest.approx(float(found.box_predicted), rel=1e-4)
    assert float(found.ball_in_box.gain) == pytest.approx(float(found.box), rel=1e-3)
    assert found.clipped < 0.95 * found.box < 0.95 * expected


def test_on_a_quadratic_the_step_loses_half_the_curvature_along_it(key):
    """Q(a + eta g) - Q(a) = eta |grad Q| - eta^2 g^T A g / 2."""
    curvature, best, centre = _problem(0)
    eta, a = 0.3, jnp.asarray(centre, jnp.float32)
    found = at_radius(key, _quadratic(curvature, best), a, jnp.float32(eta))
    slope = -curvature @ (centre - best)
    g = slope / np.linalg.norm(slope)
    assert found.predicted == pytest.approx(eta * np.linalg.norm(slope), rel=1e-4)
    exact = eta * np.linalg.norm(slope) - 0.5 * eta**2 * g @ curvature @ g
    assert found.theorem == pytest.approx(exact, rel=1e-3)


def test_ends_of_a_map_that_jumps_beside_its_flow(key):
    """da/dt = -a leads to a0 / e; a jump that is off by c ends |c| away, and its Q tells it."""
    off = jnp.array([0.3, 0.4])

    def net(r, t, a, s):
        jump = (jnp.exp(-(t - r)) - 1.0) * a + off
        return jnp.where(t > r, jump / jnp.where(t > r, t - r, 1.0), -a)

    a0, slope = jnp.array([0.5, -0.2]), jnp.array([1.0, 0.0])
    found = ends(lambda a: slope @ a, FlowMap(net, 2), a0, jnp.zeros(1))
    np.testing.assert_allclose(found.integrated, a0 / np.e, atol=1e-4)
    assert found.apart == pytest.approx(0.5, abs=1e-3)
    assert found.error < 1e-3
    assert found.q == pytest.approx(0.3, abs=1e-3)
