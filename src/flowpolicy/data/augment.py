"""Augmentation of frames: functions of one transition."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Transition


@runtime_checkable
class Augment(Protocol):
    """Another transition in the place of one that was drawn, before a normaliser sees it."""

    def __call__(self, key: Key, sample: Transition) -> Transition:
        """Of the same shapes and dtypes."""
        ...


def shifted(obs: Observation, corner: Int[Array, "2"], pad: int) -> Observation:
    """Frames (leaves of three dimensions) moved by up to ``pad`` pixels; other leaves as they are.

    ``corner`` in 0 to 2 pad is where the frame begins within itself padded by its edge pixels.
    """

    def one(leaf: Array) -> Array:
        if leaf.ndim != 3:
            return leaf
        wide = jnp.pad(leaf, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        zero = jnp.zeros((), corner.dtype)
        return jax.lax.dynamic_slice(wide, (corner[0], corner[1], zero), leaf.shape)

    return jax.tree.map(one, obs)


@register("random_crop")
@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Random shifts of frames (Kostrikov et al. 2021), the same for s and s'.

    FQL's code decides once for a whole batch whether it is shifted; here each sample is, with the
    same probability.
    """

    pad: int = 3
    """Largest shift, in pixels."""
    share: float = 0.5
    """Probability that a sample is shifted."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.pad < 0 or not 0.0 <= self.share <= 1.0:
            raise InvalidConfig(
                f"random_crop needs pad >= 0 and share in [0, 1], got {self.pad} and {self.share}"
            )

    def __call__(self, key: Key, sample: Transition) -> Transition:
        """The transition with both of its observations shifted."""
        key_share, key_corner = jax.random.split(key)
        corner = jax.random.randint(key_corner, (2,), 0, 2 * self.pad + 1)
        corner = jnp.where(jax.random.bernoulli(key_share, self.share), corner, self.pad)
        return dataclasses.replace(
            sample,
            obs=shifted(sample.obs, corner, self.pad),
            next_obs=shifted(sample.next_obs, corner, self.pad),
        )
