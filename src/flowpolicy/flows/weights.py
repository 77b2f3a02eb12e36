"""Weights of samples in a flow's loss: policy mirror descent, and guidance by advantages.

Flow matching on samples a ~ p, each weighted by w(a), learns the flow of the law p w / Z. With
w = exp(Q / lambda) that is one step of mirror descent: N(m, S) and Q(a) = -(a - g)' H (a - g) / 2
make a Gaussian of precision S^-1 + H / lambda. A constant factor of all weights changes nothing but
the size of the loss.

A ``Weighting`` sees the values q of a batch, their running moments and the standard deviation of
the exploration noise, which only the released code looks at.
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Metrics, Scalar

SMALLEST_SPREAD = 1e-6
SMALLEST_WEIGHT = float(jnp.finfo(jnp.float32).tiny)
RELEASED_NOISE = 0.1
"""The released code's noise has the standard deviation 0.1 alpha, alpha being its temperature."""


class Moments(eqx.Module):
    """Running mean and standard deviation of values: averages of those of batches."""

    mean: Scalar
    std: Scalar

    @classmethod
    def create(cls) -> "Moments":
        """Before any batch."""
        return cls(jnp.zeros(()), jnp.ones(()))

    def after(self, q: Float[Array, "batch"], share: float | Scalar) -> "Moments":
        """With ``share`` of this batch's; 1 forgets all that was."""
        mean = (1.0 - share) * self.mean + share * jnp.mean(q)
        return Moments(mean, (1.0 - share) * self.std + share * jnp.std(q))

    def standardise(self, q: Float[Array, "batch"]) -> Float[Array, "batch"]:
        """(q - mean) / std."""
        return (q - self.mean) / jnp.maximum(self.std, SMALLEST_SPREAD)


Weighting = Callable[[Float[Array, "batch"], Moments, Scalar], Float[Array, "batch"]]


@register("standardised_weights")
@dataclasses.dataclass(frozen=True)
class StandardisedWeights:
    """exp(z / lambda), z = (q - mean) / std clipped; over the batch's largest, which has 1.

    So lambda is in units of the values' spread: mirror descent with temperature lambda * std.
    """

    temperature: float = 1.0
    """lambda, above 0. Released: 5 falling to 0.54 with the noise; on pixels 1."""
    clip: float = 3.0
    """Largest |z|, above 0; FPMD's code has 3. Infinite for no clipping."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_temperature("standardised_weights", self.temperature)
        if not self.clip > 0:
            raise InvalidConfig(
                f"standardised_weights.clip must be above 0 (FPMD's code has 3), got {self.clip}: "
                "with 0 all weights are the same, which equal_weights says"
            )

    def __call__(
        self, q: Float[Array, "batch"], moments: Moments, noise: Scalar
    ) -> Float[Array, "batch"]:
        """The weights, in (0, 1]."""
        del noise
        z = jnp.clip(moments.standardise(q), -self.clip, self.clip)
        return jnp.exp((z - jnp.max(z)) / self.temperature)


@register("released_weights")
def released_weights(
    q: Float[Array, "batch"], moments: Moments, noise: Scalar
) -> Float[Array, "batch"]:
    """exp(clip(q - mean / std, -3, 3) / alpha), as FPMD's released code for states has it.

    Parentheses are missing there: q is not standardised. Wherever it exceeds 3 + mean / std, as on
    most locomotion tasks, all weights are the same, and the policy follows the best of N alone.
    alpha, noise / 0.1, is the temperature and the scale of the noise at once.
    """
    shifted = q - moments.mean / jnp.maximum(moments.std, SMALLEST_SPREAD)
    return jnp.exp(jnp.clip(shifted, -3.0, 3.0) * RELEASED_NOISE / noise)


@register("scaled_weights")
@dataclasses.dataclass(frozen=True)
class ScaledWeights:
    """exp(q / (std lambda)), FPMD's code for pixels and its later ones: nothing is subtracted or
    clipped, and large values overflow."""

    temperature: float = 1.0
    """lambda, above 0. Released: 1 on pixels, later 3 on states."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_temperature("scaled_weights", self.temperature)

    def __call__(
        self, q: Float[Array, "batch"], moments: Moments, noise: Scalar
    ) -> Float[Array, "batch"]:
        """The weights, not bounded."""
        del noise
        return jnp.exp(q / jnp.maximum(moments.std, SMALLEST_SPREAD) / self.temperature)


@register("equal_weights")
def equal_weights(
    q: Float[Array, "batch"], moments: Moments, noise: Scalar
) -> Float[Array, "batch"]:
    """1 for all: what is left is that the samples were selected (a control)."""
    del moments, noise
    return jnp.ones_like(q)


def check_temperature(name: str, temperature: float) -> None:
    """Raises ``InvalidConfig`` where it is not above 0, is lost in float32, or is not finite."""
    if not SMALLEST_SPREAD <= temperature < math.inf:
        raise InvalidConfig(
            f"{name}.temperature must be finite and at least {SMALLEST_SPREAD}, because values are "
            f"divided by it (the released runs have 0.5 to 5), got {temperature}"
        )


def effective_share(weights: Float[Array, "batch"]) -> Scalar:
    """(sum w)^2 / (n sum w^2), the effective sample size as a share of the n samples.

    1 where all weights are the same, 1 / n where one has it all, 0 where all are 0 and no sample
    counts, not a number where any overflowed.
    """
    w = weights / jnp.maximum(jnp.max(weights), SMALLEST_WEIGHT)  # whose squares fit
    squares = jnp.sum(jnp.square(w))
    # 0 / 1 and not 0 / 0: weights that all underflow are no fault. NaN stays NaN.
    some = jnp.where(squares == 0.0, 1.0, squares)
    return jnp.square(jnp.sum(w)) / (weights.shape[0] * some)


def weight_metrics(weights: Float[Array, "batch"]) -> Metrics:
    """Mean, effective share, the share of samples that have the largest weight (one of the batch,
    unless a clip makes many the same), and of weights that overflowed, which nothing hides."""
    weights = jax.lax.stop_gradient(weights)
    largest = weights == jnp.max(weights)
    return {
        "weights/mean": jnp.mean(weights),
        "weights/effective_share": effective_share(weights),
        "weights/largest_share": jnp.mean(largest.astype(jnp.float32)),
        "weights/overflow": jnp.mean((~jnp.isfinite(weights)).astype(jnp.float32)),
    }
