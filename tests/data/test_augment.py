"""Random shifts: by numpy, and the same for an observation and the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.data.augment import RandomCrop, shifted
from flowpolicy.errors import InvalidConfig
from flowpolicy.types import Transition

FRAME = jnp.arange(6 * 5 * 3, dtype=jnp.uint8).reshape(6, 5, 3)


def _transition() -> Transition:
    obs = {"front": FRAME, "state": jnp.arange(4.0)}
    following = {"front": FRAME + jnp.uint8(100), "state": jnp.arange(4.0) + 1.0}
    one = jnp.ones(())
    return Transition(obs, jnp.ones(2), one, one, following, jnp.ones(2), one)


@pytest.mark.parametrize("corner", [(0, 0), (2, 2), (4, 1), (1, 3)])
def test_a_shift_is_a_window_of_the_padded_frame(corner: tuple[int, int]):
    """By ``numpy.pad``; the corner in the middle moves nothing; bytes stay bytes."""
    i, j = corner
    wide = np.pad(np.asarray(FRAME), ((2, 2), (2, 2), (0, 0)), mode="edge")
    moved = shifted(FRAME, jnp.array(corner), 2)
    np.testing.assert_array_equal(moved, wide[i : i + 6, j : j + 5])
    assert moved.dtype == jnp.uint8
    if corner == (2, 2):
        np.testing.assert_array_equal(moved, FRAME)


def test_both_observations_are_shifted_alike(key):
    """In 64 samples all nine corners of pad 1 are missed with probability below 9 (8/9)^64 = 5e-3;
    the key is fixed. Fields that are no frames stay."""
    crop = RandomCrop(pad=1, share=1.0)
    keys = jax.random.split(key, 64)
    made = jax.vmap(lambda k: crop(k, _transition()))(keys)
    np.testing.assert_array_equal(made.next_obs["front"] - made.obs["front"], np.uint8(100))
    assert len(np.unique(np.asarray(made.obs["front"]), axis=0)) == 9
    np.testing.assert_array_equal(made.obs["state"], np.tile(np.arange(4.0), (64, 1)))


def test_a_share_is_shifted(key):
    """Of 4 000 samples at share 0.5 the part that moves is 0.5 * 48 / 49 (pad 3), with a standard
    error of 0.008, six of which are allowed. At 0 none moves."""
    keys = jax.random.split(key, 4000)

    def moves(crop: RandomCrop) -> np.ndarray:
        made = jax.vmap(lambda k: crop(k, _transition()).obs["front"])(keys)
        return np.any(np.asarray(made) != np.asarray(FRAME), axis=(1, 2, 3))

    assert moves(RandomCrop()).mean() == pytest.approx(0.5 * 48 / 49, abs=0.048)
    assert not moves(RandomCrop(share=0.0)).any()


def test_it_is_checked():
    """By the names of the fields."""
    with pytest.raises(InvalidConfig, match=r"share in \[0, 1\], got 3 and 1.5"):
        RandomCrop(share=1.5)
