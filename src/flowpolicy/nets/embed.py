"""Embeddings of a time in [0, 1]."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Scalar, Vector


@register("plain")
@dataclasses.dataclass(frozen=True)
class Plain:
    """The time itself, as one number."""

    @property
    def size(self) -> int:
        """Number of entries of the embedding."""
        return 1

    def __call__(self, t: Scalar) -> Vector:
        """Embeds one time."""
        return t[None]


@register("fourier")
@dataclasses.dataclass(frozen=True)
class Fourier:
    """Cosines and sines at fixed frequencies, log-spaced from 1 down to ``lowest``.

    The released FMQ checkpoints use 32 of each on the raw time in [0, 1].
    """

    size: int = 64
    """Number of entries, even: half cosines, half sines."""
    lowest: float = 1e-4
    """The lowest angular frequency, above 0 (1e-4 in the released checkpoints)."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.size < 2 or self.size % 2:
            raise InvalidConfig(f"fourier.size must be even and at least 2, got {self.size}")
        if not 0 < self.lowest <= float(np.finfo(np.float32).max):
            raise InvalidConfig(
                "fourier.lowest must be above 0 and finite in float32 (1e-4 in FMQ's released "
                f"checkpoints), got {self.lowest}"
            )

    def __call__(self, t: Scalar) -> Vector:
        """Embeds one time."""
        frequencies = np.geomspace(1.0, self.lowest, self.size // 2).astype(np.float32)
        angles = t * jnp.asarray(frequencies, t.dtype)
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
