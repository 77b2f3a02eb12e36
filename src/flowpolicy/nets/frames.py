"""Nets that look at frames: an encoder before any net for vectors.

Each net has an encoder of its own, as in FQL, and so has each critic of an ensemble, whereas FQL's
critics share one.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax

from flowpolicy.nets.encoder import Encoder, Impala
from flowpolicy.nets.mlp import MLPCritic, MLPFlow
from flowpolicy.nets.velocity import MLPOneStep, MLPValue
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Spec, Vector


class SeeingFlow(eqx.Module):
    """u_{r,t}(a | e(s))."""

    encoder: Encoder
    net: Any

    def __call__(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The average velocity of one sample."""
        return self.net(r, t, a, self.encoder(s))


class SeeingOneStep(eqx.Module):
    """mu(e(s), a0)."""

    encoder: Encoder
    net: Any

    def __call__(self, a0: Vector, s: Observation) -> Vector:
        """The action of one sample."""
        return self.net(a0, self.encoder(s))


class SeeingCritic(eqx.Module):
    """Q(e(s), a)."""

    encoder: Encoder
    net: Any

    def __call__(self, s: Observation, a: Vector) -> Scalar:
        """The value of one sample."""
        return self.net(self.encoder(s), a)


class SeeingValue(eqx.Module):
    """V(e(s))."""

    encoder: Encoder
    net: Any

    def __call__(self, s: Observation) -> Scalar:
        """The value of one sample."""
        return self.net(self.encoder(s))


@register("impala_flow")
@dataclasses.dataclass(frozen=True)
class ImpalaFlow:
    """A flow or flow map that looks at frames."""

    encoder: Impala = Impala()
    """From frames to a vector."""
    net: Any = MLPFlow()
    """The net behind it: ``mlp_flow`` or ``mlp_velocity``."""

    def init(self, key: Key, spec: Spec, action: int) -> SeeingFlow:
        """Builds the net for chunks of ``action`` numbers."""
        return SeeingFlow(*_built(self.encoder, self.net, key, spec, action))


@register("impala_one_step")
@dataclasses.dataclass(frozen=True)
class ImpalaOneStep:
    """A one-step actor that looks at frames."""

    encoder: Impala = Impala()
    """From frames to a vector."""
    net: Any = MLPOneStep()
    """The net behind it."""

    def init(self, key: Key, spec: Spec, action: int) -> SeeingOneStep:
        """Builds the net for chunks of ``action`` numbers."""
        return SeeingOneStep(*_built(self.encoder, self.net, key, spec, action))


@register("impala_critic")
@dataclasses.dataclass(frozen=True)
class ImpalaCritic:
    """A critic that looks at frames."""

    encoder: Impala = Impala()
    """From frames to a vector."""
    net: Any = MLPCritic()
    """The net behind it."""

    def init(self, key: Key, spec: Spec, action: int) -> SeeingCritic:
        """Builds one member of the ensemble for chunks of ``action`` numbers."""
        return SeeingCritic(*_built(self.encoder, self.net, key, spec, action))


@register("impala_value")
@dataclasses.dataclass(frozen=True)
class ImpalaValue:
    """A value that looks at frames."""

    encoder: Impala = Impala()
    """From frames to a vector."""
    net: Any = MLPValue()
    """The net behind it."""

    def init(self, key: Key, spec: Spec) -> SeeingValue:
        """Builds the net."""
        return SeeingValue(*_built(self.encoder, self.net, key, spec))


def _built(encoder: Impala, net: Any, key: Key, spec: Spec, *action: int) -> tuple[Encoder, Any]:
    key_encoder, key_net = jax.random.split(key)
    vector = dataclasses.replace(spec, obs=(encoder.size(spec),))
    return encoder.init(key_encoder, spec), net.init(key_net, vector, *action)
