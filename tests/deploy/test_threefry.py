"""The numpy generator draws JAX's bits, number for number, and those of the published vectors."""

import jax
import numpy as np
import pytest

from flowpolicy.deploy import threefry

SEEDS = (0, 5, 123_456_789, 2**32 - 1, 2**40 + 5)


def as_number(key):
    """A JAX key, or an array of them, as this library's uint64."""
    words = np.asarray(jax.random.key_data(key)).astype(np.uint64)
    return words[..., 0] << np.uint64(32) | words[..., 1]


@pytest.mark.parametrize(
    ("key", "count", "wanted"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
@pytest.mark.parametrize("copies", [1, 9])
def test_known_answers(key, count, wanted, copies):
    """The vectors that come with the paper's code, by the path for few blocks and that for many."""
    first, second, wanted = (np.uint64(a << 32 | b) for a, b in (key, count, wanted))
    assert (threefry.threefry(first, np.full(copies, second)) == wanted).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_are_jax_s(seed):
    """Of a seed, after folding in, and split, alone and many at a time."""
    key, ours = jax.random.key(seed), threefry.seed_key(seed)
    assert as_number(key) == ours
    assert as_number(jax.random.fold_in(key, 77)) == threefry.fold_in(ours, np.int32(77))
    for shape in ((2,), (3,), (33,), (4, 5)):
        keys = jax.random.split(key, shape)
        np.testing.assert_array_equal(as_number(keys), threefry.split(ours, shape))
    many = jax.vmap(lambda k: jax.random.split(k, 3))(jax.random.split(key, 7))
    np.testing.assert_array_equal(as_number(many), threefry.split(threefry.split(ours, (7,)), (3,)))
    folded = jax.vmap(jax.random.fold_in)(jax.random.split(key, 7), np.arange(7))
    np.testing.assert_array_equal(
        as_number(folded), threefry.fold_in(threefry.split(ours, (7,)), np.arange(7))
    )


@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (25,), (4, 30)])
def test_bits_are_jax_s(width, shape):
    """Every width, few and many."""
    dtype = np.dtype(f"uint{width}")
    for seed in SEEDS[:3]:
        wanted = jax.random.bits(jax.random.key(seed), shape, dtype)
        ours = threefry.bits(threefry.seed_key(seed), shape, dtype)
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, wanted)
