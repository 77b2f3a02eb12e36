"""Controls of FMQ: what its online loss is compared with, as parts for ``FMQ.improve``."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.parts import register
from flowpolicy.types import Key, Metrics, Scalar, Transition
from flowpolicy.values import Aggregate, Critic

sg = jax.lax.stop_gradient


@runtime_checkable
class Guided(Protocol):
    """What a control reads of FMQ's configuration."""

    @property
    def gradient(self) -> Aggregate:
        """Which critic guides."""
        ...


@register("direct_gradient")
@dataclasses.dataclass(frozen=True)
class DirectGradient:
    """Ascends Q through the one-step map, as DDPG does, instead of Theorem 3.2's regression.

    The loss is -Q(s, clip(a_1)) / sg[mean |Q|] + anchor mean (a_1 - a_off)^2 with
    a_1 = X_{0,1}(a_0 | s), a_off that of the frozen reference, a_0 ~ N(0, I), and Q FMQ's own
    guiding critic (``gradient``). Outside the box the clip leaves Q no gradient. Only jumps from
    r = 0 are trained. In no paper; FMQ's eta and beta play no part, except that eta = 0 stops it.
    """

    anchor: float = 1.0
    """Weight of the distance to the reference, at least 0; 0 for the critic alone. To hold on to
    the data instead, give ``FMQ.keep_offline_loss``."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.anchor < 0:
            raise InvalidConfig(f"direct_gradient.anchor must be at least 0, got {self.anchor}")

    def __call__(
        self,
        config: Guided,
        key: Key,
        flow: FlowMap,
        reference: FlowMap,
        critic: Critic,
        batch: Transition,
    ) -> tuple[Scalar, Metrics]:
        """The batch mean of the loss; what the policy earns, moved and clipped."""
        keys = jax.random.split(key, batch.reward.shape[0])
        q, square, outside = jax.vmap(
            lambda k, tr: climb(k, config.gradient, flow, reference, critic, tr)
        )(keys, batch)
        scale = sg(jnp.mean(jnp.abs(q))) + 1e-8
        total = -jnp.mean(q) / scale + self.anchor * jnp.mean(square)
        size = jnp.float32(batch.action.shape[-1])
        return total, {
            "fmq/loss": total,
            "fmq/q": jnp.mean(q),
            "fmq/moved": jnp.mean(jnp.sqrt(size * sg(square))),
            "fmq/clipped_share": jnp.mean(outside),
        }


def climb(
    key: Key,
    aggregate: Aggregate,
    flow: FlowMap,
    reference: FlowMap,
    critic: Critic,
    sample: Transition,
) -> tuple[Scalar, Scalar, Scalar]:
    """Q of one jump, clipped; its mean square distance from the reference's jump of the same noise;
    the share of its entries outside the box.

    No gradient reaches the reference; the caller differentiates by ``flow`` alone.
    """
    a0 = jax.random.normal(key, sample.action.shape)
    zero, one = jnp.zeros(()), jnp.ones(())
    a1 = flow.flow(zero, one, a0, sample.obs)
    a_off = reference.flow(zero, one, a0, sample.obs)
    q = aggregate(critic(sample.obs, jnp.clip(a1, -1.0, 1.0)))
    outside = jnp.mean((jnp.abs(a1) > 1.0).astype(jnp.float32))
    return q, jnp.mean(jnp.square(a1 - sg(a_off))), outside
