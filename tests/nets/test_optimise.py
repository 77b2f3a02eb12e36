"""``Trainable``: a step is optax's, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import LARGEST, Adam, Trainable

MODEL = {"w": (0.5, -2.0), "b": (0.1,)}
GRADIENTS = [{"w": (1.0, -3.0), "b": (0.2,)}, {"w": (0.5, 4.0), "b": (-0.1,)}]


def _tree(values):
    return {name: jnp.array(value) for name, value in values.items()}


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_step_is_optax_s(clip):
    """Two steps of Adam, with the global norm clipped before it if at all."""
    trainable = Trainable.create(_tree(MODEL), Adam(rate=0.1, clip=clip))
    transform = optax.adam(0.1)
    if clip:
        transform = optax.chain(optax.clip_by_global_norm(clip), transform)
    model = _tree(MODEL)
    with jax.numpy_dtype_promotion("standard"):
        state = transform.init(model)
        for gradient in GRADIENTS:
            updates, state = transform.update(_tree(gradient), state, model)
            model = optax.apply_updates(model, updates)
    for gradient in GRADIENTS:
        trainable = trainable.step(_tree(gradient))
    for name in MODEL:
        np.testing.assert_allclose(trainable.model[name], model[name], rtol=1e-6)


def test_the_first_step_by_hand():
    """Adam's first step is rate * sign(gradient), downhill, whatever the gradient's size."""
    trainable = Trainable.create(_tree(MODEL), Adam(rate=0.01)).step(_tree(GRADIENTS[0]))
    np.testing.assert_allclose(trainable.model["w"], [0.49, -1.99], rtol=1e-5)
    np.testing.assert_allclose(trainable.model["b"], [0.09], rtol=1e-5)


def test_clipping_is_of_the_global_norm():
    """A gradient of norm 5 clipped to 1 steps as that gradient / 5; seen by the second moment."""
    clipped = Trainable.create(_tree(MODEL), Adam(clip=1.0))
    small = Trainable.create(_tree(MODEL), Adam())
    clipped = clipped.step({"w": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])})
    small = small.step({"w": jnp.array([0.6, 0.0]), "b": jnp.array([0.8])})
    for one, other in zip(*map(jax.tree.leaves, (clipped.opt_state, small.opt_state)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 0.02])
def test_an_annealed_rate_is_held_and_then_falls_to_its_floor(floor):
    """With a constant gradient Adam steps by the rate: full three times, half way, floor, floor."""
    trainable = Trainable.create({"w": jnp.zeros(())}, Adam(0.1, hold=2, anneal=2, floor=floor))
    places = [0.0]
    for _ in range(6):
        trainable = trainable.step({"w": jnp.ones(())})
        places.append(float(trainable.model["w"]))
    np.testing.assert_allclose(
        -np.diff(places), [0.1, 0.1, 0.1, 0.05 + floor / 2, floor, floor], atol=1e-5
    )


def test_a_step_returns_a_new_state():
    """The old one is as it was; the structure is kept, under jit too."""
    start = Trainable.create(_tree(MODEL), Adam())
    after = jax.jit(lambda x, g: x.step(g))(start, _tree(GRADIENTS[0]))
    np.testing.assert_array_equal(start.model["w"], np.float32(MODEL["w"]))
    assert jax.tree.structure(after) == jax.tree.structure(start)
    shapes = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)] for x in (start, after)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": 0.0},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"clip": -1.0},
        {"clip": float("nan")},
        {"hold": -1},
        {"floor": -0.1},
        {"floor": float("nan")},
    ],
)
def test_adam_refuses_what_makes_no_sense(fields):
    """A rate above 0, a norm of at least 0."""
    with pytest.raises(InvalidConfig, match="rate > 0 and clip, hold, anneal, floor >= 0"):
        Adam(**fields)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("seeds", [0, 2])
def test_a_gradient_that_is_not_finite_is_not_followed(bad, seeds):
    """Model, moments and counters stay to the bit, and the norm says so; the next step is as if
    nothing had been. Of two seeds under vmap only the one that is bad stays."""
    start = Trainable.create(_tree(MODEL), Adam(rate=0.1)).step(_tree(GRADIENTS[0]))
    wrong = {"w": jnp.array([0.5, bad]), "b": jnp.array([0.1])}
    if seeds:
        both = jax.tree.map(lambda *x: jnp.stack(x), wrong, _tree(GRADIENTS[1]))
        twice = jax.tree.map(lambda x: jnp.stack([x, x]), start)
        stepped = jax.jit(jax.vmap(Trainable.step))(twice, both)
        after, other = (jax.tree.map(lambda x, i=i: x[i], stepped) for i in (0, 1))
        expected = start.step(_tree(GRADIENTS[1]))
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    else:
        after = jax.jit(Trainable.step)(start, wrong)
    assert float(after.norm) == LARGEST
    for a, b in zip(
        *(jax.tree.leaves((x.model, x.opt_state)) for x in (after, start)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    one, two = after.step(_tree(GRADIENTS[1])), start.step(_tree(GRADIENTS[1]))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("limit", "moves"), [(4.9, False), (5.0, False), (5.1, True)])
def test_a_norm_must_be_below_its_limit(limit, moves):
    """A gradient of norm 5; the limit is kept."""
    start = Trainable.create(_tree(MODEL), Adam(rate=0.1, clip=1.0))
    start = dataclasses.replace(start, limit=jnp.float32(limit))
    after = start.step({"w": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])})
    assert (float(after.norm), float(after.limit)) == (5.0, np.float32(limit))
    assert np.array_equal(after.model["w"], start.model["w"]) != moves
    counts = [int(x) for x in jax.tree.leaves(after.opt_state) if x.dtype == jnp.int32]
    assert counts == [int(moves)]


def test_choosing_entries_is_choosing_a_branch(monkeypatch):
    """What an accelerator computes is what a CPU does."""
    start = Trainable.create(_tree(MODEL), Adam(rate=0.1))
    wrong = {"w": jnp.array([0.5, np.nan]), "b": jnp.array([0.1])}
    cpu = [start.step(g) for g in (_tree(GRADIENTS[0]), wrong)]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    other = [start.step(g) for g in (_tree(GRADIENTS[0]), wrong)]
    for a, b in zip(jax.tree.leaves(cpu), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
