"""Behaviour cloning with a flow map: the offline policy of FMQ without a critic.

Losses: any terms of ``flows.losses``; by default the diagonal and MeanFlow's Eulerian term
(FMQ's offline stage; Boffi et al. 2025, Geng et al. 2025). No values, no guidance.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk, lacking
from flowpolicy.agents.cloning import Cloning, fmq_terms
from flowpolicy.data.chunk import ChunkView, View
from flowpolicy.flows import Flow, FlowMap, Term
from flowpolicy.nets import Adam, MLPFlow, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector


@register("bc")
@dataclasses.dataclass(frozen=True)
class BC:
    """Flow map behaviour cloning."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop."""
    discount: float = 0.99
    """gamma of one environment step (unused by the loss; the batch view carries it)."""
    terms: tuple[Term, ...] = fmq_terms()
    """Summands of the flow map's loss."""
    optimiser: Adam = Adam()
    """Optimiser of the flow map."""
    actor: Any = MLPFlow()
    """Net of the flow map: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("bc", self.chunk, self.discount)

    @property
    def view(self) -> View:
        """Chunks, masked at ends."""
        return ChunkView(self.chunk, self.discount)

    @property
    def act(self) -> Refiner:
        """One jump."""
        return OneStep()

    def init(self, key: Key, spec: Spec) -> "BCAgent":
        """The agent before any update."""
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key, spec, size), size)
        return BCAgent(
            Cloning(self.terms, spec.offline_updates),
            Trainable.create(flow, self.optimiser),
            jnp.zeros((), jnp.int32),
        )


class BCAgent(Agent):
    """A flow map that clones the data, offline and online alike."""

    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """One jump from noise, clipped."""
        return OneStep()(key, self.actor.model, lambda a: jnp.zeros(()), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["BCAgent", Metrics]:
        """One step of cloning."""
        actor, metrics = self.cloning.step(key, self.actor, batch, self.count)
        return type(self)(self.cloning, actor, self.count + 1), metrics

    def flow(self) -> Flow:
        """The flow map."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """Behaviour cloning has no critic."""
        raise lacking("bc", "critic")
