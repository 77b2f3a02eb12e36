"""A flow cut into blocks against its own integration and numpy; volumes against determinants."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Blocks,
    FlowMap,
    cut,
    exact_volume,
    finished_action,
    integrate,
    own_action,
    previous_law,
    previous_map,
    probed_volume,
    proximity,
)

S, KEY = np.zeros(1), jax.random.key(0)
MEAN, WIDTH = 0.3, 0.5


@pytest.fixture(autouse=True)
def double(x64):
    """Double precision for all of these."""


class Behaviour(eqx.Module):
    """The velocity that carries N(0, 1) to N(MEAN, WIDTH^2) on the linear path."""

    scale: jax.Array

    def __call__(self, r, t, a, s):
        variance = (1 - r) ** 2 + (r * WIDTH) ** 2
        return self.scale * (MEAN + (r * WIDTH**2 - (1 - r)) / variance * (a - r * MEAN))


class Push(eqx.Module):
    """v = (1 + t) by + s."""

    by: jax.Array

    def __call__(self, r, t, a, s):
        return (1 + r) * self.by + s


def _flow(blocks, r, t, a, s=S):
    return blocks.flow(jnp.asarray(r), jnp.asarray(t), jnp.asarray(a), s)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_cut_flow_is_its_own_integration(count):
    """To rounding; and in numpy, block k at t = k / K: noise goes in at the first, time 0."""
    flow = FlowMap(Behaviour(jnp.ones(())), 1)
    blocks, a = cut(flow, count), np.array([1.3])
    end = _flow(blocks, 0.0, 1.0, a)
    np.testing.assert_allclose(end, integrate(flow, count, jnp.asarray(a), S), rtol=1e-12)
    wanted = [a]
    for k in range(count):
        t, now = k / count, wanted[-1]
        slope = (t * WIDTH**2 - (1 - t)) / ((1 - t) ** 2 + (t * WIDTH) ** 2)
        wanted.append(now + (MEAN + slope * (now - t * MEAN)) / count)
    np.testing.assert_allclose(blocks.path(jnp.asarray(a), S), wanted, rtol=1e-12)
    np.testing.assert_allclose(end, wanted[-1], rtol=1e-12)
    assert (blocks.nfe(0.0), blocks.nfe(0.7), blocks.action) == (count, count, 1)


def test_many_blocks_make_the_closed_form_s_action():
    """a_1 = MEAN + WIDTH a_0, at order 1 in 1 / K."""
    flow, a = FlowMap(Behaviour(jnp.ones(())), 1), np.array([1.3])
    errors = [
        abs(float(_flow(cut(flow, count), 0.0, 1.0, a)[0]) - (MEAN + WIDTH * a[0]))
        for count in (32, 64)
    ]
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


def test_blocks_act_in_their_order_and_in_part():
    """Pushes of 2, 3 and 5 by t = 0, 1/3 and 2/3, and the state's 0.7, over all or parts."""
    blocks = Blocks(FlowMap(Push(jnp.array([[2.0], [3.0], [5.0]])), 1), 3)
    first, second, third = 2.0 + 0.7, 3.0 * 4 / 3 + 0.7, 5.0 * 5 / 3 + 0.7
    for r, t, way in [
        (0.0, 1.0, (first + second + third) / 3),
        (0.0, 1 / 3, first / 3),
        (0.5, 1.0, second / 6 + third / 3),
        (0.1, 0.4, first * (1 / 3 - 0.1) + second * (0.4 - 1 / 3)),
        (0.8, 0.9, third * 0.1),
        (0.6, 0.6, 0.0),
    ]:
        moved = _flow(blocks, r, t, [0.1], np.array([0.7]))
        np.testing.assert_allclose(moved, [0.1 + way], atol=1e-12)
    path = blocks.path(jnp.array([0.1]), np.array([0.7]))
    steps = np.cumsum([0.1, first / 3, second / 3, third / 3])
    np.testing.assert_allclose(path[:, 0], steps, atol=1e-12)


def test_a_cut_flow_s_blocks_share_nothing():
    """Every block has the flow's numbers, and changing one leaves the rest."""
    blocks = cut(FlowMap(Push(jnp.array([2.0])), 1), 3)
    np.testing.assert_array_equal(blocks.each.net.by, [[2.0]] * 3)
    slope = jax.grad(lambda b: b.path(jnp.zeros(1), S)[2, 0])(blocks)
    np.testing.assert_allclose(slope.each.net.by[:, 0], [1 / 3, 4 / 9, 0.0], rtol=1e-12)
    with pytest.raises(InvalidConfig, match="at least 2 blocks, got 1"):
        cut(FlowMap(Push(jnp.zeros(1)), 1), 1)


def test_the_terms_of_a_proximal_step():
    """|moved - anchor|^2 / (2 eta), summed, pulling ``moved`` alone; the iterate is T' or its
    argument."""
    moved, anchor = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.0])
    assert proximity(moved, anchor, 0.1) == pytest.approx((0.25 + 4.0) / 0.2)
    pull, back = jax.grad(proximity, argnums=(0, 1))(moved, anchor, 0.1)
    np.testing.assert_allclose(pull, [5.0, -20.0])
    np.testing.assert_array_equal(back, 0.0)
    np.testing.assert_array_equal(previous_map(lambda a: 2 * a, moved), 2 * moved)
    np.testing.assert_array_equal(previous_law(lambda a: 2 * a, moved), moved)


def test_a_block_is_judged_by_the_finished_action_or_by_its_own():
    """Q = |a|^2: value and slope are those of the end, handed on unchanged, or of T(a)."""
    moved, end = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5])
    for judge, at in ((finished_action, end), (own_action, moved)):
        value, slopes = jax.value_and_grad(judge, argnums=(1, 2))(
            lambda a: jnp.dot(a, a), moved, end
        )
        assert value == pytest.approx(float(at @ at))
        np.testing.assert_allclose(slopes[0], 2 * at)
        np.testing.assert_array_equal(slopes[1], 0.0)


J = np.array([[0.2, 0.1], [-0.3, 0.1]])


def test_the_exact_volume_is_the_determinant_s():
    """Of an affine map, and of a curved one where it is; also where orientation turns."""
    a = jnp.array([0.4, -0.2])
    affine = lambda a: a + J @ a + 3.0  # noqa: E731
    wanted = np.log(np.linalg.det(np.eye(2) + J))
    assert exact_volume(KEY, affine, a) == pytest.approx(wanted, rel=1e-12)
    curved = lambda a: jnp.stack([a[0] + 0.3 * a[1] ** 2, jnp.exp(a[1]) - a[0] * a[1]])  # noqa: E731
    x, y = 0.4, -0.2
    wanted = np.log(abs(np.exp(y) - x + 0.6 * y * y))
    assert exact_volume(KEY, curved, a) == pytest.approx(wanted, rel=1e-12)
    assert exact_volume(KEY, lambda a: -2.0 * a[:1], a[:1]) == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("terms", [1, 2, 3, 40])
def test_the_probed_volume_is_the_series_of_the_logarithm(terms):
    """Over both kinds of signs, equal and opposite, the mean is the cut series exactly; with many
    terms it is the volume."""
    estimate = jax.vmap(
        lambda key: probed_volume(terms)(key, lambda a: a + J @ a, jnp.array([0.4, -0.2]))
    )(jax.random.split(KEY, 32))
    kinds = np.unique(np.round(np.asarray(estimate), 12))
    assert len(kinds) == 2
    powers = [np.trace(np.linalg.matrix_power(J, n)) for n in range(1, terms + 1)]
    series = sum((-1) ** (n + 1) * p / n for n, p in enumerate(powers, 1))
    assert kinds.mean() == pytest.approx(series, abs=1e-11)
    if terms == 40:
        assert series == pytest.approx(np.log(np.linalg.det(np.eye(2) + J)), abs=1e-12)


@pytest.mark.parametrize(("w", "exact", "two"), [(0.1, -0.70, -0.63), (0.03, -2.58, -1.35)])
def test_two_terms_are_too_few_in_the_last_block_of_a_narrow_flow(w, exact, two):
    """The last of ten Euler steps onto N(0, w^2); what docs/swfp.md says of it."""
    t = 0.9
    slope = (t * w**2 - (1 - t)) / ((1 - t) ** 2 + (t * w) ** 2)

    def block(a):
        return a + slope * a / 10

    found = [
        float(volume(jax.random.key(0), block, jnp.zeros(1)))
        for volume in (exact_volume, probed_volume(2))
    ]
    np.testing.assert_allclose(found, [exact, two], atol=0.005)


@pytest.mark.parametrize("volume", [exact_volume, probed_volume(60)])
def test_volumes_have_the_slope_of_the_determinant(volume):
    """d/dw log (1 + w)^2 = 2 / (1 + w), by reverse mode through the estimate too."""

    def of(w):
        return volume(KEY, lambda a: a + w * a, jnp.array([0.4, -0.2]))

    value, slope = jax.value_and_grad(of)(jnp.asarray(0.3))
    assert (value, slope) == (pytest.approx(2 * np.log(1.3)), pytest.approx(2 / 1.3))


def test_a_probe_needs_a_term():
    """None is refused."""
    with pytest.raises(InvalidConfig, match=r"probed_volume\.terms must be at least 1, got 0"):
        probed_volume(0)


def test_blocks_hold_arrays_only():
    """So that plain jax takes them; the count is no leaf."""
    blocks = cut(FlowMap(Push(jnp.array([2.0])), 1), 3)
    flat, back = ravel_pytree(blocks)
    assert flat.shape == (3,)
    assert back(flat).count == 3
