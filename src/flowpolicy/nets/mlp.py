"""Multilayer perceptrons for flows and critics."""

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.nets.embed import Fourier, Plain
from flowpolicy.nets.product import product
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Spec, Vector, flatten_obs

MAX_DEPTH = 256
"""Layers are built one by one, also to read a stranger's configuration."""


class MixLinear(eqx.Module):
    """An affine map of the concatenation of several inputs, kept as one block per input.

    Written as a sum, an input that the caller's ``vmap`` does not batch (the state, while many
    candidate actions are ranked) is multiplied once and not once per candidate. Weights are
    stored (in, out) and applied as ``x @ w``, the layout the CPU's matrix product prefers.
    """

    weights: tuple[Float[Array, "_ out"], ...]
    bias: Float[Array, "out"]

    def __init__(self, key: Key, sizes: Sequence[int], out: int) -> None:
        """Initialises by variance scaling (1, fan_avg, uniform) over all inputs together."""
        bound = (6.0 / (sum(sizes) + out)) ** 0.5
        keys = jax.random.split(key, len(sizes))
        self.weights = tuple(
            jax.random.uniform(k, (size, out), minval=-bound, maxval=bound)
            for k, size in zip(keys, sizes, strict=True)
        )
        self.bias = jnp.zeros(out)

    def __call__(self, *inputs: Float[Array, "_"]) -> Float[Array, "out"]:
        """Maps one sample, one vector per block."""
        total = self.bias
        for x, weight in zip(inputs, self.weights, strict=True):
            total = total + product(x, weight)
        return total


class Linear(eqx.Module):
    """An affine map, weights (in, out); initialised like ``MixLinear``."""

    weight: Float[Array, "in out"]
    bias: Float[Array, "out"]

    def __init__(self, key: Key, size: int, out: int) -> None:
        """Initialises by variance scaling (1, fan_avg, uniform)."""
        bound = (6.0 / (size + out)) ** 0.5
        self.weight = jax.random.uniform(key, (size, out), minval=-bound, maxval=bound)
        self.bias = jnp.zeros(out)

    def __call__(self, x: Float[Array, "in"]) -> Float[Array, "out"]:
        """Maps one sample."""
        return product(x, self.weight) + self.bias


class MLP(eqx.Module):
    """Layers of one width, with LayerNorm after each activation where ``norms`` holds any."""

    first: MixLinear
    hidden: tuple[Linear, ...]
    norms: tuple[eqx.nn.LayerNorm, ...]
    last: Linear
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        sizes: Sequence[int],
        out: int,
        *,
        width: int,
        depth: int,
        norm: bool,
        activation: Callable[[Array], Array] = jax.nn.gelu,
    ) -> None:
        """``sizes`` are those of the inputs, ``depth`` counts the hidden layers."""
        if width < 1 or depth < 1:
            raise InvalidConfig(f"width and depth must be at least 1, got {width} and {depth}")
        if depth > MAX_DEPTH:
            raise InvalidConfig(f"depth must be at most {MAX_DEPTH}, got {depth}")
        key_first, key_last, *keys = jax.random.split(key, depth + 1)
        self.first = MixLinear(key_first, sizes, width)
        self.hidden = tuple(Linear(k, width, width) for k in keys)
        self.norms = tuple(eqx.nn.LayerNorm(width) for _ in range(depth)) if norm else ()
        self.last = Linear(key_last, width, out)
        self.activation = activation

    def __call__(self, *inputs: Float[Array, "_"]) -> Float[Array, "out"]:
        """Maps one sample, one vector per input."""
        x = self._activate(0, self.first(*inputs))
        for i, layer in enumerate(self.hidden, start=1):
            x = self._activate(i, layer(x))
        return self.last(x)

    def _activate(self, i: int, x: Vector) -> Vector:
        x = self.activation(x)
        return self.norms[i](x) if self.norms else x


class FlowNet(eqx.Module):
    """u_{r,t}(a | s) as an MLP of the state, the action and the two embedded times."""

    mlp: MLP
    embed: Fourier | Plain = eqx.field(static=True)

    def __call__(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The average velocity of one sample."""
        return self.mlp(flatten_obs(s), a, self.embed(r), self.embed(t))


class CriticNet(eqx.Module):
    """Q(s, a) as an MLP."""

    mlp: MLP

    def __call__(self, s: Observation, a: Vector) -> Scalar:
        """The value of one sample."""
        return self.mlp(flatten_obs(s), a)[0]


@register("mlp_flow")
@dataclasses.dataclass(frozen=True)
class MLPFlow:
    """The papers' actor: 4 x 512 GELU, no normalisation, linear output."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""
    embed: Fourier | Plain = Fourier()
    """Embedding of each of the two times."""

    def init(self, key: Key, spec: Spec, action: int) -> FlowNet:
        """Builds the net for chunks of ``action`` numbers."""
        sizes = (spec.obs_size, action, self.embed.size, self.embed.size)
        mlp = MLP(key, sizes, action, width=self.width, depth=self.depth, norm=False)
        return FlowNet(mlp, self.embed)


@register("mlp_critic")
@dataclasses.dataclass(frozen=True)
class MLPCritic:
    """The papers' critic: 4 x 512 GELU with LayerNorm after each activation."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""

    def init(self, key: Key, spec: Spec, action: int) -> CriticNet:
        """Builds one member of the ensemble for chunks of ``action`` numbers."""
        sizes = (spec.obs_size, action)
        return CriticNet(MLP(key, sizes, 1, width=self.width, depth=self.depth, norm=True))
