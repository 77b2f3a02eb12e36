"""Jumps, integration and renoising, against the closed-form flow map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import LINEAR, draw_path, jump_exactly, truth

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    FlowMap,
    Integrated,
    euler,
    heun,
    integrate,
    jump,
    renoise,
    renoise_time,
)

X, S = (0.4, -1.3), (0.2, 0.1)


@pytest.fixture
def start(x64):
    """A point and a state, in double precision."""
    return jnp.array(X), jnp.array(S)


def _net(r, t, a, s):
    return jnp.sin(3.0 * a + r) + jnp.cos(2.0 * t) * s


def test_a_jump_of_no_length_is_the_identity(start):
    """X_{t,t}(a) = a exactly, for any net."""
    a, s = start
    for t in (0.0, 0.37, 1.0):
        time = jnp.asarray(t)
        assert jnp.array_equal(FlowMap(_net, 2).flow(time, time, a, s), a)


def test_the_velocity_is_the_diagonal_of_the_average_velocity(start):
    """v_t = u_{t,t}, not u_{0,t} or u_{t,1}."""
    a, s = start
    t = jnp.asarray(0.37)
    flow = FlowMap(_net, 2)
    assert jnp.array_equal(flow.velocity(t, a, s), _net(t, t, a, s))
    assert jnp.array_equal(flow.average_velocity(t / 2, t, a, s), _net(t / 2, t, a, s))


def test_two_jumps_are_one(schedule, start, key):
    """X_{w,t} o X_{r,w} = X_{r,t} at the truth, forwards and backwards in time."""
    flow, (_, s) = truth(schedule), start
    for k in jax.random.split(key, 20):
        key_times, key_point = jax.random.split(k)
        r, w, t = jax.random.uniform(key_times, (3,))
        x = jax.random.normal(key_point, (2,))
        two = flow.flow(w, t, flow.flow(r, w, x, s), s)
        np.testing.assert_allclose(two, flow.flow(r, t, x, s), atol=1e-12)


def test_jumps_along_any_times_are_one_jump(schedule, start):
    """At the truth ``jump`` depends on its first and last time alone."""
    flow, (a, s) = truth(schedule), start
    one = jump(flow, [0.0, 1.0], a, s)
    exact = jump_exactly(schedule, flow, jnp.zeros(()), jnp.ones(()), a, s)
    np.testing.assert_allclose(one, exact, atol=1e-12)
    for times in ([0.0, 0.5, 1.0], [0.0, 0.01, 0.3, 0.31, 0.9, 1.0]):
        np.testing.assert_allclose(jump(flow, times, a, s), one, atol=1e-12)


def test_jumps_are_made_in_order(start):
    """For any net: X_{w,t}(X_{r,w}(a))."""
    a, s = start
    flow = FlowMap(_net, 2)
    r, w, t = map(jnp.asarray, (0.1, 0.3, 0.8))
    by_hand = flow.flow(w, t, flow.flow(r, w, a, s), s)
    np.testing.assert_allclose(jump(flow, [0.1, 0.3, 0.8], a, s), by_hand, atol=1e-12)


def test_a_jump_needs_two_times(start):
    """A start and an end."""
    with pytest.raises(InvalidConfig, match="at least a start and an end"):
        jump(truth(LINEAR), [0.5], *start)


@pytest.mark.parametrize(("method", "order"), [(euler, 1), (heun, 2)])
def test_the_order_of_the_integrators(schedule, start, method, order):
    """Halving the step divides the error by 2^order; 10 % of the exponent is left to the rest."""
    flow, (a, s) = truth(schedule), start
    exact = flow.flow(jnp.zeros(()), jnp.ones(()), a, s)
    errors = [
        float(jnp.linalg.norm(integrate(flow, n, a, s, method=method) - exact))
        for n in (64, 128, 256)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.1 * order)


def test_integration_takes_the_jump_in_the_limit(schedule, start):
    """512 Heun steps between any two times; the error is the constant of h^2 = 4e-6."""
    flow, (a, s) = truth(schedule), start
    for r, t in ((0.0, 1.0), (0.3, 0.8), (0.9, 0.2)):
        exact = jump(flow, [r, t], a, s)
        solved = integrate(flow, 512, a, s, method=heun, start=r, end=t)
        np.testing.assert_allclose(solved, exact, atol=1e-4)


def test_integration_needs_a_step(start):
    """None is no integration."""
    with pytest.raises(InvalidConfig, match="steps must be at least 1, got 0"):
        integrate(truth(LINEAR), 0, *start)


def test_an_integrated_flow_jumps_by_euler_steps(start):
    """``Integrated`` is ``integrate`` from r to t, and looks like a flow map to a refiner."""
    a, s = start
    flow = truth(LINEAR)
    plain = Integrated(flow, 5)
    r, t = jnp.asarray(0.2), jnp.asarray(0.9)
    by_hand = a
    for i in range(5):
        by_hand = by_hand + 0.14 * flow.velocity(r + 0.14 * i, by_hand, s)
    np.testing.assert_allclose(plain.flow(r, t, a, s), by_hand, atol=1e-12)
    assert plain.action == 2
    assert (plain.nfe(0.5), flow.nfe(0.5)) == (5, 1)


def test_renoise_time_has_the_signal_to_noise_ratio():
    """t' / (1 - t') = rho."""
    assert renoise_time(1.5) == pytest.approx(0.6)
    for rho in (0.1, 1.0, 30.0):
        t = renoise_time(rho)
        assert t / (1 - t) == pytest.approx(rho)


def test_renoised_actions_are_gaussian_about_the_shrunk_action(start, key):
    """N(t' a, (1 - t')^2): mean and variance within 6 standard errors (4e-9 each seed)."""
    a, _ = start
    n, rho, t = 20_000, 1.5, 0.6
    draws = np.asarray(jax.vmap(lambda k: renoise(k, rho, a))(jax.random.split(key, n)))
    z = (draws - t * np.asarray(a)) / (1 - t)
    assert np.abs(z.mean(0)).max() < 6 / n**0.5
    assert np.abs(np.square(z).mean(0) - 1).max() < 6 * (2 / n) ** 0.5
    assert abs(np.mean(z[:, 0] * z[:, 1])) < 6 / n**0.5


def test_a_renoised_truth_has_the_law_of_its_time(start, key):
    """An action of the policy, renoised, is distributed as I_{t'}: where the flow map was trained.

    Its mean is t' m and its variance (1 - t')^2 + t'^2 sigma1^2, within 6 standard errors in both
    entries: a false alarm in 9e-9 of such tests, were the key new.
    """
    n, t = 20_000, renoise_time(1.5)
    key_path, key_noise = jax.random.split(key)
    paths = jax.vmap(lambda k: draw_path(k, LINEAR))(jax.random.split(key_path, n))
    net = truth(LINEAR).net
    draws = jax.vmap(lambda k, x: renoise(k, 1.5, x))(jax.random.split(key_noise, n), paths.x1)
    z = np.asarray(draws - t * (net.mean[None] + paths.s))
    z = z / np.sqrt(np.asarray(LINEAR.variance(t, net.sigma)))
    assert np.abs(z.mean(0)).max() < 6 / n**0.5
    assert np.abs(np.square(z).mean(0) - 1).max() < 6 * (2 / n) ** 0.5
