"""Tanh-Gaussian policies: the law, and the net that gives its mean and standard deviation."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from flowpolicy.nets.mlp import MLP
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Spec, Vector, flatten_obs

LOG_STD = (-20.0, 2.0)
"""Where the logarithm of the standard deviation is clipped to (RLPD)."""

EDGE = 1e-5
"""How far inside the box an action is taken to be before its density is asked for: at the edge
itself the inverse of tanh is infinite (RLPD)."""


class TanhGaussian(eqx.Module):
    """The law of tanh(x) with independent x_i ~ N(mean_i, exp(log_std_i)^2); entries in [-1, 1]."""

    mean: Vector
    log_std: Vector

    def sample(self, key: Key) -> tuple[Vector, Vector]:
        """An action and the log density of each of its entries, differentiable in the law."""
        z = jax.random.normal(key, self.mean.shape)
        x = self.mean + jnp.exp(self.log_std) * z
        # The density is taken at z and x: from tanh(x), or from x - mean, rounding loses them.
        return jnp.tanh(x), self._log_density(z, x)

    def log_prob(self, action: Vector) -> Vector:
        """The log density of each entry of ``action``, moved ``EDGE`` inside the box."""
        x = jnp.arctanh(jnp.clip(action, EDGE - 1.0, 1.0 - EDGE))
        return self._log_density((x - self.mean) * jnp.exp(-self.log_std), x)

    def _log_density(self, z: Vector, x: Vector) -> Vector:
        # log(1 - tanh(x)^2) without the cancellation: 2 (log 2 - x - log(1 + exp(-2 x))).
        slope = 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))
        return jax.scipy.stats.norm.logpdf(z) - self.log_std - slope


class GaussianNet(eqx.Module):
    """The law of the action in a state, as an MLP with two heads."""

    mlp: MLP

    def __call__(self, s: Observation) -> TanhGaussian:
        """The law in one state."""
        mean, log_std = jnp.split(self.mlp(flatten_obs(s)), 2)
        return TanhGaussian(mean, jnp.clip(log_std, *LOG_STD))


@register("mlp_gaussian")
@dataclasses.dataclass(frozen=True)
class MLPGaussian:
    """RLPD's actor: 4 x 512 ReLU, no normalisation; a tanh-Gaussian over the whole chunk."""

    width: int = 512
    """Units per hidden layer."""
    depth: int = 4
    """Hidden layers."""

    def init(self, key: Key, spec: Spec, action: int) -> GaussianNet:
        """Builds the net for chunks of ``action`` numbers."""
        sizes = (spec.obs_size,)
        return GaussianNet(
            MLP(
                key,
                sizes,
                2 * action,
                width=self.width,
                depth=self.depth,
                norm=False,
                activation=jax.nn.relu,
            )
        )
