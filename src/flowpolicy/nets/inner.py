"""The value of a point on the way from noise to an action."""

import dataclasses

import equinox as eqx

from flowpolicy.nets.embed import Fourier, Plain
from flowpolicy.nets.mlp import MLP
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Spec, Vector, flatten_obs


class InnerValueNet(eqx.Module):
    """V_t(a | s) as an MLP of the state, the point and one embedded time."""

    mlp: MLP
    embed: Fourier | Plain = eqx.field(static=True)

    def __call__(self, t: Scalar, a: Vector, s: Observation) -> Scalar:
        """The value of one sample at time ``t``."""
        return self.mlp(flatten_obs(s), a, self.embed(t))[0]


@register("mlp_inner_value")
@dataclasses.dataclass(frozen=True)
class MLPInnerValue:
    """The net of a critic with a time beside the action: GELU, LayerNorm after each activation."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""
    embed: Fourier | Plain = Plain()
    """Embedding of the time."""

    def init(self, key: Key, spec: Spec, action: int) -> InnerValueNet:
        """Builds the net for chunks of ``action`` numbers."""
        sizes = (spec.obs_size, action, self.embed.size)
        mlp = MLP(key, sizes, 1, width=self.width, depth=self.depth, norm=True)
        return InnerValueNet(mlp, self.embed)
