"""The small IMPALA encoder: frames to a vector, and what else an observation holds beside it.

The network of Espeholt et al. 2018 (IMPALA) at the size of FQL's visual runs: three stacks of a
convolution, a pooling that halves the frame and one residual block, then one dense layer.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.nets.mlp import Linear
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Spec, Vector

KERNEL = 3
_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Conv(eqx.Module):
    """A 3 x 3 convolution that keeps height and width; weights (3, 3, in, out)."""

    weight: Float[Array, "3 3 in out"]
    bias: Float[Array, "out"]

    def __init__(self, key: Key, size: int, out: int) -> None:
        """Initialises by variance scaling (1, fan_avg, uniform)."""
        bound = (6.0 / (KERNEL**2 * (size + out))) ** 0.5
        shape = (KERNEL, KERNEL, size, out)
        self.weight = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        self.bias = jnp.zeros(out)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h w out"]:
        """Maps one frame."""
        made = jax.lax.conv_general_dilated(
            x[None], self.weight, (1, 1), "SAME", dimension_numbers=_LAYOUT
        )
        return made[0] + self.bias[None, None]


class Stack(eqx.Module):
    """A convolution, a pooling that halves the frame, and residual blocks."""

    first: Conv
    blocks: tuple[tuple[Conv, Conv], ...]

    def __init__(self, key: Key, size: int, out: int, blocks: int) -> None:
        """From ``size`` to ``out`` channels."""
        key_first, *keys = jax.random.split(key, 1 + 2 * blocks)
        self.first = Conv(key_first, size, out)
        pairs = zip(keys[::2], keys[1::2], strict=True)
        self.blocks = tuple((Conv(a, out, out), Conv(b, out, out)) for a, b in pairs)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "_ _ out"]:
        """Maps one frame to one of half the height and width, rounded up."""
        x = jax.lax.reduce_window(
            self.first(x), -jnp.inf, jax.lax.max, (KERNEL, KERNEL, 1), (2, 2, 1), "SAME"
        )
        for one, two in self.blocks:
            x = x + two(jax.nn.relu(one(jax.nn.relu(x))))
        return x


class FrameNet(eqx.Module):
    """Stacks, then one dense layer."""

    stacks: tuple[Stack, ...]
    last: Linear

    def __call__(self, frame: Array) -> Vector:
        """Maps one frame of values from 0 to 255, bytes or floats."""
        x = frame.astype(jnp.float32) / 255.0
        for stack in self.stacks:
            x = stack(x)
        return jax.nn.gelu(self.last(jax.nn.relu(x).reshape(-1)))


class Encoder(eqx.Module):
    """One observation to one vector: encoded frames, then the other fields as they are."""

    nets: tuple[FrameNet, ...]

    def __call__(self, s: Observation) -> Vector:
        """Leaves of three dimensions are frames, in the order of the tree."""
        leaves = jax.tree.leaves(s)
        frames = [leaf for leaf in leaves if leaf.ndim == 3]
        others = [leaf.reshape(-1) for leaf in leaves if leaf.ndim != 3]
        seen = [net(frame) for net, frame in zip(self.nets, frames, strict=True)]
        return jnp.concatenate([*seen, *others])


@register("impala")
@dataclasses.dataclass(frozen=True)
class Impala:
    """FQL's small IMPALA encoder."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Channels of each stack; each halves the frame."""
    blocks: int = 1
    """Residual blocks of a stack."""
    width: int = 512
    """Units of the dense layer, which are what a frame becomes."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not self.channels or min(self.channels) < 1 or self.blocks < 0 or self.width < 1:
            raise InvalidConfig(
                "impala needs channels and width to be at least 1 and blocks at least 0, got "
                f"{self.channels}, {self.width} and {self.blocks}"
            )

    def size(self, spec: Spec) -> int:
        """Length of the vector; ``InvalidConfig`` where there are no frames."""
        return sum(self.width if len(s) == 3 else math.prod(s) for s in _shapes(spec))

    def init(self, key: Key, spec: Spec) -> Encoder:
        """Builds the encoder; frames have the shape (height, width, channels)."""
        frames = [shape for shape in _shapes(spec) if len(shape) == 3]
        keys = jax.random.split(key, len(frames))
        return Encoder(tuple(self._net(k, s) for k, s in zip(keys, frames, strict=True)))

    def _net(self, key: Key, shape: tuple[int, ...]) -> FrameNet:
        height, width, channels = shape
        key_last, *keys = jax.random.split(key, 1 + len(self.channels))
        sizes = (channels, *self.channels)
        stacks = tuple(
            Stack(k, a, b, self.blocks) for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
        )
        for _ in self.channels:
            height, width = -(-height // 2), -(-width // 2)
        return FrameNet(stacks, Linear(key_last, height * width * sizes[-1], self.width))


def _shapes(spec: Spec) -> list[tuple[int, ...]]:
    """The shapes of the observation's leaves, in the order of the tree."""
    named = spec.obs if isinstance(spec.obs, dict) else {"": spec.obs}
    shapes = [named[name] for name in sorted(named)]
    if not any(len(shape) == 3 for shape in shapes):
        raise InvalidConfig(
            f"impala needs frames (height, width, channels) to look at, got {spec.obs!r}"
        )
    return shapes
