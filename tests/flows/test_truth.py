"""What the loss terms say of a flow map that is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import draw_path, jump_exactly, sum_of_squares, truth
from scipy.integrate import dblquad, quad

from flowpolicy.flows import (
    Triangle,
    diagonal,
    eulerian,
    lagrangian,
    mean_flow,
    semigroup,
    shortcut,
)

CONSISTENCY = [eulerian, lagrangian, semigroup, shortcut]
SAMPLED = [diagonal, mean_flow]
# Beyond 6 standard errors lies 2e-9 of a Gaussian: what a fixed seed would show by accident.
SIGMAS = 6

pytestmark = pytest.mark.usefixtures("x64")


def _samples(key, schedule, count):
    """``count`` independent times and paths; x0 and x1 are independent of each other."""
    key_time, key_path = jax.random.split(key)
    times = jax.vmap(lambda k: Triangle()(k, jnp.zeros(())))(jax.random.split(key_time, count))
    paths = jax.vmap(lambda k: draw_path(k, schedule))(jax.random.split(key_path, count))
    return times, paths


def _residuals(residual, flow, times, paths):
    return jax.vmap(lambda w, p: residual(flow, flow, w, p))(times, paths)


def _gradients(residual, flow, times, paths):
    """Gradient of |residual|^2 with respect to mean, sigma and scale, a row for each sample."""

    def gradient(w, p):
        net = jax.grad(lambda f: sum_of_squares(residual, f, flow, w, p))(flow).net
        return jnp.concatenate([net.mean, net.sigma, net.scale[None]])

    return np.asarray(jax.vmap(gradient)(times, paths))


def _standard_scores(rows):
    return rows.mean(0) / (rows.std(0, ddof=1) / len(rows) ** 0.5)


def test_the_closed_form_has_the_conditional_mean_velocity(key, schedule):
    """v_t(x) = E[dI/dt | I_t = x], by regressing the one Gaussian on the other."""
    flow = truth(schedule)
    _, paths = _samples(key, schedule, 100)

    def regressed(t, x, s):
        one, zero = jnp.ones(2), jnp.zeros(2)
        alpha, dalpha = jax.jvp(lambda u: schedule.interpolant(u, one, zero), (t,), (jnp.ones(()),))
        beta, dbeta = jax.jvp(lambda u: schedule.interpolant(u, zero, one), (t,), (jnp.ones(()),))
        m, variance = flow.net.mean + s, flow.net.sigma**2
        slope = (alpha * dalpha + beta * dbeta * variance) / (alpha**2 + beta**2 * variance)
        return dbeta * m + slope * (x - beta * m)

    times = jnp.linspace(0, 1, 100)
    np.testing.assert_allclose(
        jax.vmap(flow.velocity)(times, paths.x0, paths.s),
        jax.vmap(regressed)(times, paths.x0, paths.s),
        atol=1e-12,
    )


def test_the_net_jumps_as_the_closed_form_says(key, schedule):
    """a + (t - r) u_{r,t}(a) is X_{r,t}(a)."""
    flow = truth(schedule)
    times, paths = _samples(key, schedule, 100)
    jumped = jax.vmap(flow.flow)(times.r, times.t, paths.x0, paths.s)
    exact = jax.vmap(lambda r, t, x, s: jump_exactly(schedule, flow, r, t, x, s))(
        times.r, times.t, paths.x0, paths.s
    )
    np.testing.assert_allclose(jumped, exact, atol=1e-12)


@pytest.mark.parametrize("residual", CONSISTENCY)
def test_a_consistency_residual_is_zero_at_the_truth(key, schedule, residual):
    """Eulerian, Lagrangian and semigroup equations hold at each of 1000 random (r, t, x).

    Values are of order 1 and double precision leaves about 1e-15 of them; hence 1e-11.
    """
    times, paths = _samples(key, schedule, 1000)
    np.testing.assert_allclose(_residuals(residual, truth(schedule), times, paths), 0.0, atol=1e-11)


@pytest.mark.parametrize("residual", CONSISTENCY)
def test_a_velocity_ten_percent_wrong_breaks_consistency(key, schedule, residual):
    """The tests above have teeth: 1.1 u is no flow map, and the residual says so."""
    times, paths = _samples(key, schedule, 1000)
    wrong = _residuals(residual, truth(schedule, scale=1.1), times, paths)
    assert np.sqrt(np.mean(np.square(wrong))) > 0.01


def test_consistency_knows_nothing_of_the_data(key, schedule):
    """A flow map to another Gaussian satisfies the equations; only the diagonal term objects."""
    other = truth(schedule, sigma_factor=1.5)
    times, paths = _samples(key, schedule, 20_000)
    for residual in CONSISTENCY:
        np.testing.assert_allclose(_residuals(residual, other, times, paths), 0.0, atol=1e-11)
    scores = _standard_scores(_gradients(diagonal, other, times, paths))
    assert np.abs(scores[2:4]).min() > 2 * SIGMAS, "the slopes in sigma"


@pytest.mark.parametrize("residual", SAMPLED)
def test_the_mean_gradient_is_zero_at_the_truth(key, schedule, residual):
    """With independent noise the truth is stationary: mean, sigma and scale have no slope.

    Five scores within 6 standard errors of 0: a false alarm once in 1e8 seeds.
    """
    times, paths = _samples(key, schedule, 20_000)
    scores = _standard_scores(_gradients(residual, truth(schedule), times, paths))
    assert np.abs(scores).max() < SIGMAS


@pytest.mark.parametrize("residual", SAMPLED)
def test_the_mean_gradient_sees_a_velocity_ten_percent_wrong(key, schedule, residual):
    """1.1 u has a slope in its scale, far beyond the noise of the same number of samples."""
    times, paths = _samples(key, schedule, 20_000)
    scores = _standard_scores(_gradients(residual, truth(schedule, scale=1.1), times, paths))
    assert scores[-1] > 2 * SIGMAS


def _conditional_variance(schedule, t, sigma):
    """Var(dI/dt | I_t) = sigma1^2 (alpha beta' - alpha' beta)^2 / sigma^2, of jointly Gaussians.

    The determinant is constant: 1 on the line, pi / 2 on the circle.
    """
    determinant = 1.0 if schedule.interpolant.__name__ == "linear" else np.pi / 2
    return (sigma * determinant) ** 2 / float(schedule.variance(t, sigma))


def test_the_least_diagonal_loss_is_the_conditional_variance(key, schedule):
    """E|v_t(I_t) - dI/dt|^2 at the truth is what no velocity can explain."""
    flow = truth(schedule)
    times, paths = _samples(key, schedule, 20_000)
    times = times._replace(t=jax.random.uniform(jax.random.fold_in(key, 1), (20_000,)))
    losses = np.sum(np.square(_residuals(diagonal, flow, times, paths)), axis=1)
    expected = sum(
        quad(lambda t, sigma=sigma: _conditional_variance(schedule, t, sigma), 0, 1)[0]
        for sigma in np.asarray(flow.net.sigma)
    )
    error = losses.std(ddof=1) / len(losses) ** 0.5
    assert abs(losses.mean() - expected) < SIGMAS * error


def test_the_least_mean_flow_loss_is_the_transported_variance(key, schedule):
    """The unexplained velocity at r, carried to t by the slope of X_{r,t}: sigma(t) / sigma(r)."""
    flow = truth(schedule)
    times, paths = _samples(key, schedule, 20_000)
    losses = np.sum(np.square(_residuals(mean_flow, flow, times, paths)), axis=1)

    def integrand(t, r, sigma):
        stretch = float(schedule.variance(t, sigma) / schedule.variance(r, sigma))
        return 2.0 * stretch * _conditional_variance(schedule, r, sigma)  # density of (r, t) is 2

    expected = sum(
        dblquad(integrand, 0, 1, lambda r: r, lambda r: 1, args=(sigma,), epsabs=1e-4)[0]
        for sigma in np.asarray(flow.net.sigma)
    )
    error = losses.std(ddof=1) / len(losses) ** 0.5
    assert abs(losses.mean() - expected) < SIGMAS * error


@pytest.mark.parametrize("residual", SAMPLED)
def test_the_truth_has_the_least_loss(key, schedule, residual):
    """On the same samples and with the true teacher, 10 % to either side costs more."""
    flow = truth(schedule)
    times, paths = _samples(key, schedule, 20_000)

    def losses(scale):
        model = truth(schedule, scale=scale)
        return np.asarray(
            jax.vmap(lambda w, p: sum_of_squares(residual, model, flow, w, p))(times, paths)
        )

    best = losses(1.0)
    for scale in (0.9, 1.1):
        assert _standard_scores((losses(scale) - best)[:, None])[0] > SIGMAS
