"""The loss terms away from the truth: what each residual is, and where its gradient goes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import LINEAR, draw_path, sum_of_squares, truth

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Curriculum,
    FlowMap,
    OnDiagonal,
    Path,
    Term,
    Times,
    Triangle,
    diagonal,
    eulerian,
    flow_loss,
    lagrangian,
    linear,
    masked_mean_square,
    mean_flow,
    semigroup,
    shortcut,
)

ALL = [diagonal, mean_flow, eulerian, lagrangian, semigroup, shortcut]
TIMES = (0.2, 0.5, 0.9)


class Wavy(eqx.Module):
    """Some smooth u_{r,t}(a | s) that is no flow map of anything."""

    w: jax.Array

    def __call__(self, r, t, a, s):
        return jnp.sin(self.w @ a + r * s) + jnp.cos(3.0 * t + r * a)


def _wavy(key):
    return FlowMap(Wavy(jax.random.normal(key, (2, 2))), 2)


@pytest.fixture
def setting(x64, key):
    """A flow, another one as its teacher, times, and a path; in double precision."""
    key_flow, key_teacher, key_path = jax.random.split(key, 3)
    times = Times(*map(jnp.asarray, TIMES))
    return _wavy(key_flow), _wavy(key_teacher), times, draw_path(key_path, LINEAR)


def _slope(f, x):
    """Central difference; its error is about h^2 = 1e-10 beside rounding of 1e-16 / h."""
    h = 1e-5
    return (f(x + h) - f(x - h)) / (2 * h)


def test_diagonal_is_flow_matching(setting):
    """u_{t,t}((1 - t) x0 + t x1) - (x1 - x0)."""
    flow, teacher, times, path = setting
    point = (1 - times.t) * path.x0 + times.t * path.x1
    expected = flow.net(times.t, times.t, point, path.s) - (path.x1 - path.x0)
    np.testing.assert_allclose(diagonal(flow, teacher, times, path), expected, atol=1e-12)


def test_eulerian_is_minus_the_change_of_the_end_point_along_the_flow(setting):
    """- d/dh X_{r+h,t}(I_r + h v_r(I_r)), by a difference quotient."""
    flow, _, times, path = setting
    a = path.at(times.r)
    v = flow.velocity(times.r, a, path.s)
    change = _slope(lambda h: flow.flow(times.r + h, times.t, a + h * v, path.s), 0.0)
    np.testing.assert_allclose(eulerian(flow, flow, times, path), -change, atol=1e-8)


def test_mean_flow_is_minus_that_change_along_the_sampled_velocity(setting):
    """- d/dh X_{r+h,t}(I_{r+h}), the interpolant being a straight line."""
    flow, _, times, path = setting
    r, _, t = times
    change = _slope(lambda h: flow.flow(r + h, t, path.at(r + h), path.s), 0.0)
    np.testing.assert_allclose(mean_flow(flow, flow, times, path), -change, atol=1e-8)


def test_lagrangian_is_the_speed_of_the_end_point_against_the_velocity_there(setting):
    """d/dt X_{r,t}(I_r) - v_t(X_{r,t}(I_r)), by a difference quotient."""
    flow, teacher, times, path = setting
    r, _, t = times
    a = path.at(r)
    speed = _slope(lambda time: flow.flow(r, time, a, path.s), t)
    there = teacher.velocity(t, flow.flow(r, t, a, path.s), path.s)
    np.testing.assert_allclose(lagrangian(flow, teacher, times, path), speed - there, atol=1e-8)


@pytest.mark.parametrize(("residual", "between"), [(semigroup, TIMES[1]), (shortcut, 0.55)])
def test_semigroup_compares_one_jump_with_two(setting, residual, between):
    """(X_{r,t} - X_{w,t} o X_{r,w}) / (t - r); ``shortcut`` takes the middle, whatever w is."""
    flow, _, times, path = setting
    r, _, t = times
    a, w = path.at(r), jnp.asarray(between)
    two = flow.flow(w, t, flow.flow(r, w, a, path.s), path.s)
    expected = (flow.flow(r, t, a, path.s) - two) / (t - r)
    np.testing.assert_allclose(residual(flow, flow, times, path), expected, atol=1e-12)


@pytest.mark.parametrize("residual", ALL)
def test_the_teacher_gets_no_gradient(setting, residual):
    """Exactly none, though the loss depends on it (but for ``diagonal``)."""
    flow, teacher, times, path = setting
    gradient = jax.grad(lambda q: sum_of_squares(residual, flow, q, times, path))(teacher)
    assert all(np.all(np.asarray(leaf) == 0.0) for leaf in jax.tree.leaves(gradient))
    moved = residual(flow, flow, times, path) - residual(flow, teacher, times, path)
    assert np.any(np.abs(moved) > 1e-3) == (residual is not diagonal)


def _trained(residual, flow, times, path):
    """The part of a residual that the docstring says is trained; all else is a number."""
    r, _, t = times
    if residual is diagonal:
        return flow.velocity(t, path.at(t), path.s)
    if residual is lagrangian:
        jump = lambda time: flow.flow(r, time, path.at(r), path.s)  # noqa: E731
        return jax.jvp(jump, (t,), (jnp.ones_like(t),))[1]
    return flow.average_velocity(r, t, path.at(r), path.s)


@pytest.mark.parametrize("self_taught", [True, False])
@pytest.mark.parametrize("residual", ALL)
def test_the_gradient_goes_where_the_docstring_says(setting, residual, self_taught):
    """2 <residual, d(trained part)>: u_{r,t}(I_r) alone, or for ``lagrangian`` d/dt X_{r,t}."""
    flow, other, times, path = setting
    error = residual(flow, flow if self_taught else other, times, path)
    expected = jax.grad(lambda f: 2.0 * jnp.vdot(error, _trained(residual, f, times, path)))(flow)
    gradient = jax.grad(
        lambda f: sum_of_squares(residual, f, f if self_taught else other, times, path)
    )(flow)
    np.testing.assert_allclose(gradient.net.w, expected.net.w, atol=1e-12)
    assert np.abs(expected.net.w).max() > 1e-3


class Steered(eqx.Module):
    """A net whose diagonal is ``v`` everywhere, and which is anything off it."""

    wavy: Wavy
    v: jax.Array

    def __call__(self, r, t, a, s):
        return self.v + (t - r) * self.wavy(r, t, a, s)


def test_mean_flow_trains_as_eulerian_where_the_diagonal_is_the_sampled_velocity(setting):
    """Their gradients agree to 1e-6 (to rounding, in fact) when u_{r,r}(I_r) = dI/dr."""
    flow, _, times, path = setting
    steered = FlowMap(Steered(flow.net, path.velocity(times.r)), 2)
    gradients = [
        jax.grad(lambda f, res=res: sum_of_squares(res, f, f, times, path))(steered).net.wavy.w
        for res in (mean_flow, eulerian)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)
    assert np.abs(gradients[0]).max() > 1e-2


@pytest.mark.parametrize("residual", [semigroup, shortcut])
def test_semigroup_is_smooth_on_the_diagonal(key, residual):
    """At r = w = t the share of the first jump is 0 / 0: the teacher's velocity is what is left."""
    flow, teacher, path = truth(LINEAR), truth(LINEAR, scale=1.1), draw_path(key, LINEAR)
    t = jnp.asarray(0.4)
    expected = -0.1 * flow.velocity(t, path.at(t), path.s)
    value = residual(flow, teacher, Times(t, t, t), path)
    np.testing.assert_allclose(value, expected, rtol=1e-4)

    def loss(f, times):
        return sum_of_squares(residual, f, teacher, times, path)

    gradients = jax.grad(loss, argnums=(0, 1))(flow, Times(t, t, t))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    assert np.abs(gradients[0].net.scale) > 1e-2


def test_masked_entries_count_in_the_denominator():
    """(1 * 4 + 0 * 9) / 2."""
    assert masked_mean_square(jnp.array([2.0, 3.0]), jnp.array([1.0, 0.0])) == 2.0


def _loss(key, *terms, progress=1.0, mask=(1.0, 1.0), interpolant=linear):
    x1, s = jnp.array([0.3, -0.8]), jnp.array([0.1, 0.2])
    flow = _wavy(jax.random.key(7))
    kwargs = {"mask": jnp.array(mask), "progress": jnp.asarray(progress)}
    return flow_loss(key, terms, flow, flow, x1, s, **kwargs, interpolant=interpolant)


def test_the_loss_is_the_weighted_sum_of_its_terms(key):
    """sum_i weight_i * value_i, the values being metrics under the equations' names."""
    terms = (Term(diagonal, weight=2.0), Term(mean_flow, Triangle(), weight=0.5))
    total, metrics = _loss(key, *terms)
    assert set(metrics) == {"flow/diagonal", "flow/mean_flow"}
    expected = 2.0 * metrics["flow/diagonal"] + 0.5 * metrics["flow/mean_flow"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_a_term_is_the_masked_mean_square_of_its_residual(key):
    """Rebuilt by hand from the keys; noise and times of two terms are independent draws."""
    term = Term(diagonal, OnDiagonal())
    flow, x1, s = _wavy(jax.random.key(7)), jnp.array([0.3, -0.8]), jnp.array([0.1, 0.2])
    values, noises = [], []
    for key_term in jax.random.split(key, 2):
        key_noise, key_time = jax.random.split(key_term)
        x0 = jax.random.normal(key_noise, (2,))
        t = term.times(key_time, jnp.ones(())).t
        error = flow.velocity(t, (1 - t) * x0 + t * x1, s) - (x1 - x0)
        values.append(float(error[0] ** 2) / 2)
        noises.append(x0)
    total, _ = _loss(key, term, term, mask=(1.0, 0.0))
    np.testing.assert_allclose(total, sum(values), rtol=1e-5)
    assert not np.allclose(*noises)


def test_a_term_counts_nothing_before_its_start(key):
    """And everything from then on; its metric is reported all along."""
    early, late = Term(diagonal), Term(mean_flow, Curriculum(), start=0.5)
    for progress, counted in ((0.49, 0.0), (0.5, 1.0), (1.0, 1.0)):
        total, metrics = _loss(key, early, late, progress=progress)
        expected = metrics["flow/diagonal"] + counted * metrics["flow/mean_flow"]
        np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_the_loss_follows_its_interpolant(key):
    """The path is an argument: on a bent one the same keys give another loss."""

    def bent(t, x0, x1):
        return linear(t, x0, x1) + jnp.sin(jnp.pi * t)

    assert abs(float(_loss(key, Term())[0] - _loss(key, Term(), interpolant=bent)[0])) > 1e-2


@pytest.mark.parametrize(
    "fields", [{"weight": -1.0}, {"weight": float("nan")}, {"start": 1.5}, {"start": -0.1}]
)
def test_a_term_refuses_what_makes_no_sense(fields):
    """The message names what is allowed."""
    with pytest.raises(InvalidConfig, match="weight >= 0 and finite, and start in"):
        Term(**fields)


def test_a_path_is_its_interpolant():
    """``Path`` adds nothing of its own."""
    path = Path(jnp.array([1.0, 2.0]), jnp.array([3.0, -2.0]), jnp.zeros(1))
    np.testing.assert_allclose(path.at(jnp.asarray(0.25)), [1.5, 1.0])
    np.testing.assert_allclose(path.velocity(jnp.asarray(0.25)), [2.0, -4.0])
