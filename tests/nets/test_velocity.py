"""Nets of plain flow policies: what they read, and what they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.flows import FlowMap, Integrated
from flowpolicy.nets import Fourier, MLPOneStep, MLPValue, MLPVelocity, Plain
from flowpolicy.types import Spec

STATE, ACTION = 3, 2
SPEC = Spec(obs=(STATE,), action=ACTION)
A, S = jnp.array([0.3, -0.8]), jnp.array([1.0, -0.5, 0.2])


@pytest.mark.parametrize("embed", [Plain(), Fourier(size=4)])
def test_a_velocity_is_that_of_its_first_time(key, embed):
    """v_r(a | s): the second time is not read; the first, the action and the state are."""
    net = MLPVelocity(width=16, depth=2, embed=embed).init(key, SPEC, ACTION)
    r, t = jnp.asarray(0.2), jnp.asarray(0.7)
    v = net(r, t, A, S)
    assert v.shape == (ACTION,)
    np.testing.assert_array_equal(v, net(r, r, A, S))
    for other in (net(t, t, A, S), net(r, t, -A, S), net(r, t, A, -S)):
        assert np.abs(np.asarray(other - v)).max() > 1e-3


def test_a_jump_of_a_velocity_is_one_euler_step(key):
    """X_{r,t}(a) = a + (t - r) v_r(a), which is what one step of its integration gives."""
    flow = FlowMap(MLPVelocity(width=16, depth=2).init(key, SPEC, ACTION), ACTION)
    r, t = jnp.asarray(0.2), jnp.asarray(0.7)
    np.testing.assert_allclose(flow.flow(r, t, A, S), A + 0.5 * flow.velocity(r, A, S), atol=1e-6)
    one = Integrated(flow, 1).flow(r, t, A, S)
    np.testing.assert_allclose(flow.flow(r, t, A, S), one, atol=1e-6)


def test_a_one_step_actor_is_not_bounded_and_reads_noise_and_state(key):
    """mu(s, a0): FQL clips where it acts, not in the net."""
    net = MLPOneStep(width=16, depth=2).init(key, SPEC, ACTION)
    for other in (net(-A, S), net(A, -S)):
        assert np.abs(np.asarray(other - net(A, S))).max() > 1e-3
    assert np.abs(np.asarray(net(100.0 * A, S))).max() > 1.0


def test_a_value_is_one_number_of_the_state(key):
    """V(s), normalised inside as the critics are: nothing grows with the size of the state."""
    net = MLPValue(width=16, depth=2).init(key, SPEC)
    assert net(S).shape == ()
    assert abs(float(net(S) - net(-S))) > 1e-3
    assert abs(float(net(1e4 * S))) < 10.0


@pytest.mark.parametrize(
    "init",
    [
        lambda k: MLPVelocity(width=8, depth=1).init(k, SPEC, ACTION),
        lambda k: MLPOneStep(width=8, depth=1).init(k, SPEC, ACTION),
        lambda k: MLPValue(width=8, depth=1).init(k, SPEC),
    ],
    ids=["velocity", "one_step", "value"],
)
def test_leaves_are_arrays(key, init):
    """A net passes through plain ``jax.jit``, ``grad`` and ``vmap`` as it is."""
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(init(key)))
