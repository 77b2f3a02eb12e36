"""Nets of plain flow policies: a velocity of one time, an actor without time, a value."""

import dataclasses

import equinox as eqx

from flowpolicy.nets.embed import Fourier, Plain
from flowpolicy.nets.mlp import MLP
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Spec, Vector, flatten_obs


class VelocityNet(eqx.Module):
    """v_r(a | s) as an MLP of the state, the action and one embedded time.

    Called like the net of a flow map; the time it would jump to is not read, so that a jump is
    one Euler step from r and ``integrate`` is the way to sample.
    """

    mlp: MLP
    embed: Fourier | Plain = eqx.field(static=True)

    def __call__(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The velocity of one sample at time ``r``."""
        del t
        return self.mlp(flatten_obs(s), a, self.embed(r))


class OneStepNet(eqx.Module):
    """mu(s, a0) as an MLP: noise to action, not bounded."""

    mlp: MLP

    def __call__(self, a0: Vector, s: Observation) -> Vector:
        """The action of one sample."""
        return self.mlp(flatten_obs(s), a0)


class ValueNet(eqx.Module):
    """V(s) as an MLP."""

    mlp: MLP

    def __call__(self, s: Observation) -> Scalar:
        """The value of one sample."""
        return self.mlp(flatten_obs(s))[0]


@register("mlp_velocity")
@dataclasses.dataclass(frozen=True)
class MLPVelocity:
    """The behaviour flow of FQL and QC: 4 x 512 GELU, no normalisation, the time as a number."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""
    embed: Fourier | Plain = Plain()
    """Embedding of the time."""

    def init(self, key: Key, spec: Spec, action: int) -> VelocityNet:
        """Builds the net for chunks of ``action`` numbers."""
        sizes = (spec.obs_size, action, self.embed.size)
        mlp = MLP(key, sizes, action, width=self.width, depth=self.depth, norm=False)
        return VelocityNet(mlp, self.embed)


@register("mlp_one_step")
@dataclasses.dataclass(frozen=True)
class MLPOneStep:
    """FQL's one-step actor: the net of its flow without the time."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""

    def init(self, key: Key, spec: Spec, action: int) -> OneStepNet:
        """Builds the net for chunks of ``action`` numbers."""
        sizes = (spec.obs_size, action)
        mlp = MLP(key, sizes, action, width=self.width, depth=self.depth, norm=False)
        return OneStepNet(mlp)


@register("mlp_value")
@dataclasses.dataclass(frozen=True)
class MLPValue:
    """The net of a critic without the action: 4 x 512 GELU, LayerNorm after each activation."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""

    def init(self, key: Key, spec: Spec) -> ValueNet:
        """Builds the net."""
        return ValueNet(
            MLP(key, (spec.obs_size,), 1, width=self.width, depth=self.depth, norm=True)
        )
