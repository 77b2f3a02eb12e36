"""The flow map's own loss over a batch, which every agent with a flow map trains by."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.flows import Curriculum, FlowMap, OnDiagonal, Term, diagonal, flow_loss, mean_flow
from flowpolicy.types import Key, Metrics, Scalar, Transition


def fmq_terms(start: float = 0.005, end: float = 0.05) -> tuple[Term, ...]:
    """FMQ's offline loss: L_Diag + L_ESD, the latter from ``start`` on, its curriculum to ``end``.

    L_ESD is the Eulerian equation with the sampled velocity, that is MeanFlow's. ``start`` and
    ``end`` are fractions of the offline phase (released code: 5 000 and 50 000 of a million).
    """
    return (
        Term(residual=diagonal, times=OnDiagonal()),
        Term(residual=mean_flow, times=Curriculum(start, end), start=start),
    )


@dataclasses.dataclass(frozen=True)
class Cloning:
    """Terms of the loss and the length of the phase their schedules are fractions of."""

    terms: tuple[Term, ...]
    updates: int

    def __call__(
        self, key: Key, flow: FlowMap, batch: Transition, count: Int[Array, ""]
    ) -> tuple[Scalar, Metrics]:
        """The batch mean of the loss, self-distilled, and of each term."""
        progress = jnp.minimum(count.astype(jnp.float32) / max(self.updates, 1), 1.0)

        def one(key: Key, sample: Transition) -> tuple[Scalar, Metrics]:
            return flow_loss(
                key,
                self.terms,
                flow,
                flow,
                sample.action,
                sample.obs,
                mask=sample.mask,
                progress=progress,
            )

        keys = jax.random.split(key, batch.reward.shape[0])
        total, metrics = jax.vmap(one)(keys, batch)
        return jnp.mean(total), jax.tree.map(jnp.mean, metrics)
