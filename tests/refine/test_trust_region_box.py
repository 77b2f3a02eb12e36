"""The optimum of a linear Q in the ball cut with the box: KKT, random points, another solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from toys import quadratic, scaled

from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import (
    BestOfN,
    OneStep,
    TrustRegion,
    TrustRegionBox,
    box_optimum,
    displace,
    nearest,
)

BOUND, SIZE = 1.0, 6
RADII = (0.01, 0.1, 0.4, 1.0, 3.0, 10.0)
S = (0.1, -0.2)


def _problems(count=40, seed=0):
    """Slopes and actions; every fourth action lies on walls, every fifth slope has a 0."""
    rng = np.random.default_rng(seed)
    g, a = rng.normal(size=(2, count, SIZE))
    g, a = g * 10.0 ** rng.uniform(-3, 3, (count, 1)), np.clip(0.8 * a, -0.99, 0.99)
    a[::4, :2] = np.sign(a[::4, :2])
    g[::5, 3] = 0.0
    return jnp.asarray(g, jnp.float32), jnp.asarray(a, jnp.float32)


@jax.jit
def _solve(g, a, eta):
    return jax.vmap(lambda g, a: box_optimum(g, a, eta, BOUND))(g, a)


def _feasible(x, a, eta):
    return np.linalg.norm(x - a, axis=-1).max() <= eta * (1 + 1e-5) and np.abs(x).max() <= BOUND


@pytest.mark.parametrize("eta", RADII)
def test_the_kkt_conditions_hold(eta):
    """There is lambda >= 0 with g = lambda d inside the walls, and g pushing outwards at a wall.

    lambda = 0, that is g = 0 inside, is left for balls that hold the whole box uphill.
    """
    g, a = _problems()
    x = np.asarray(_solve(g, a, eta), np.float64)
    g, a = np.asarray(g, np.float64), np.asarray(a, np.float64)
    assert _feasible(x, a, eta)
    for gi, ai, xi in zip(g / np.linalg.norm(g, axis=1, keepdims=True), a, x, strict=True):
        d, wall = xi - ai, np.sign(gi) * xi >= BOUND - 1e-6
        inside = ~wall & (gi != 0)
        assert np.all(d[gi == 0] == 0)
        assert np.all(d * np.sign(gi) >= -1e-7)
        if not inside.any():
            continue
        assert np.linalg.norm(d) == pytest.approx(eta, rel=1e-4), "the radius is used up"
        multiplier = (gi[inside] @ d[inside]) / (d[inside] @ d[inside])
        np.testing.assert_allclose(gi[inside], multiplier * d[inside], atol=2e-4)
        # At a wall the way that lambda asks for is longer than the room.
        assert np.all(np.abs(gi[wall]) >= multiplier * np.abs(d[wall]) - 2e-4)


@pytest.mark.parametrize("eta", RADII)
def test_no_feasible_point_is_better(eta):
    """10 000 random points of ball and box, drawn towards g and mostly on a rim, stay below.

    The best of them reach 0.6 of the optimum, so that a lesser point would be found out.
    """
    rng = np.random.default_rng(1)
    g, a = (np.asarray(x, np.float64) for x in _problems(8, seed=2))
    x = np.asarray(_solve(jnp.asarray(g, jnp.float32), jnp.asarray(a, jnp.float32), eta))
    way = (
        rng.normal(size=(10_000, SIZE)) + 2.0 * rng.uniform(size=(10_000, 1)) * np.sign(g)[:, None]
    )
    way *= (
        eta
        * np.minimum(1, rng.uniform(0, 4, (10_000, 1)))
        / np.linalg.norm(way, axis=-1, keepdims=True)
    )
    points = np.clip(a[:, None] + way, -BOUND, BOUND)
    best = np.einsum("npd,nd->np", points - a[:, None], g).max(axis=1)
    ours = np.einsum("nd,nd->n", x - a, g)
    assert np.all(best <= ours * (1 + 1e-5) + 1e-9)
    assert np.all(best >= 0.6 * ours)


@pytest.mark.parametrize("eta", [0.1, 0.4, 1.0, 3.0])
def test_a_general_solver_finds_the_same(eta):
    """scipy's SLSQP, in double precision, from the start a."""
    for gi, ai in zip(*(np.asarray(x, np.float64) for x in _problems(10, seed=3)), strict=True):
        gi = gi / np.linalg.norm(gi)
        found = optimize.minimize(
            lambda x, g=gi: -g @ x, ai, jac=lambda x, g=gi: -g, method="SLSQP",
            bounds=[(-BOUND, BOUND)] * SIZE,
            constraints={
                "type": "ineq",
                "fun": lambda x, a=ai: eta**2 - (x - a) @ (x - a),
                "jac": lambda x, a=ai: -2 * (x - a),
            },
            options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        # Near the end its line search may give up; what counts is that the point is feasible.
        assert found.status in (0, 8)
        assert np.linalg.norm(found.x - ai) <= eta + 1e-6
        ours = box_optimum(jnp.asarray(gi, jnp.float32), jnp.asarray(ai, jnp.float32), eta, BOUND)
        assert gi @ np.asarray(ours) == pytest.approx(gi @ found.x, abs=1e-5)
        np.testing.assert_allclose(ours[gi != 0], found.x[gi != 0], atol=2e-3)


def test_far_from_the_walls_it_is_the_theorem():
    """And a radius that holds the box goes to the corner uphill; one of 0 stays."""
    g, a = _problems(20, seed=4)
    middle = 0.1 * a
    theorem = middle + 0.3 * g / jnp.linalg.norm(g, axis=1, keepdims=True)
    np.testing.assert_allclose(_solve(g, middle, 0.3), theorem, atol=1e-6)
    corner = jnp.where(g == 0, a, jnp.sign(g))
    np.testing.assert_allclose(_solve(g, a, 100.0), corner, atol=1e-6)
    np.testing.assert_array_equal(_solve(g, a, 0.0), a)


def test_a_flat_critic_moves_nothing():
    """g = 0, and an action in a corner that g points out of: everything is saturated."""
    a = jnp.array([0.2, -0.9, 1.0])
    np.testing.assert_array_equal(box_optimum(jnp.zeros(3), a, 0.5, BOUND), a)
    corner = jnp.array([1.0, -1.0, 1.0])
    np.testing.assert_array_equal(box_optimum(corner, corner, 0.5, BOUND), corner)


def test_an_action_outside_is_projected_first():
    """The ball lies about the projection, which is the action that would be executed."""
    g, a = jnp.array([1.0, -1.0]), jnp.array([0.3, 5.0])
    inside = box_optimum(g, jnp.clip(a, -1, 1), 0.4, BOUND)
    np.testing.assert_array_equal(box_optimum(g, a, 0.4, BOUND), inside)
    assert jnp.linalg.norm(inside - jnp.array([0.3, 1.0])) == pytest.approx(0.4, rel=1e-5)


@pytest.mark.parametrize("eta", [0.2, 1.0, 5.0])
def test_the_nearest_point_is_a_projection(eta):
    """(y - p) . (z - p) <= 0 for every feasible z: what defines the projection onto a convex set.

    2000 feasible z for each of 20 y; a y that is feasible stays.
    """
    rng = np.random.default_rng(5)
    _, a = _problems(20, seed=6)
    y = np.asarray(a) + rng.normal(size=(20, SIZE)).astype(np.float32)
    p = np.asarray(jax.vmap(lambda y, a: nearest(y, a, eta, BOUND))(jnp.asarray(y), a))
    assert _feasible(p, np.asarray(a), eta)
    way = rng.normal(size=(2000, SIZE))
    way *= eta * np.minimum(1, rng.uniform(0, 2, (2000, 1))) / np.linalg.norm(way, axis=1)[:, None]
    z = np.clip(np.asarray(a)[:, None] + way, -BOUND, BOUND)
    inner = np.einsum("nd,nkd->nk", y - p, z - p[:, None])
    assert inner.max() <= 1e-5
    stays = jax.vmap(lambda y, a: nearest(y, a, eta, BOUND))(jnp.asarray(p), a)
    np.testing.assert_allclose(stays, p, atol=1e-6)


def test_as_a_refiner_it_moves_what_the_draw_gave(key):
    """From the draw, by the critic's slope there; to first order as good as clipping, or better."""
    flow, s = scaled(1.5), jnp.array(S)
    for start in (OneStep(bound=0.6), BestOfN(3, bound=0.6)):
        boxed, clipped = TrustRegionBox(0.3, start), TrustRegion(0.3, start)
        for k in jax.random.split(key, 8):
            a = start(k, flow, quadratic, s)
            g = jax.grad(quadratic)(a)
            moved = boxed(k, flow, quadratic, s)
            np.testing.assert_allclose(moved, box_optimum(g, a, 0.3, 0.6), atol=1e-6)
            assert g @ moved >= g @ clipped(k, flow, quadratic, s) - 1e-5
            if jnp.abs(a).max() < 0.3:
                np.testing.assert_allclose(moved, displace(quadratic, a, 0.3), atol=1e-6)


@pytest.mark.parametrize("eta", [-1.0, np.inf, np.nan])
def test_a_radius_that_is_none_is_refused(eta):
    """The message names field and value."""
    message = rf"trust_region_box\.eta must be at least 0 and finite.*got {eta}"
    with pytest.raises(InvalidConfig, match=message):
        TrustRegionBox(eta)
