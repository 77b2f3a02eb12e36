"""An existing flow distilled into a flow map, which FMQ then adapts (FMQ's "existing flow-based
policies"; distillation after Boffi et al. 2024, Flow Map Matching).

Offline the source, QC or FQL, trains as it always does; beside it a flow map X learns the source's
velocity v, with one of the equations that make it v's flow map:

    Lagrangian    d/dt X_{r,t}(a_r) = v_t(X_{r,t}(a_r))
    Eulerian      u_{r,t} = v_r + (t - r) (d/dr + v_r . grad) u_{r,t}
    semigroup     u_{r,t} from two jumps; v enters on the diagonal alone

a_r lies between noise and an action of the data. On the diagonal, r = t, the first is
u_{t,t} = v_t, and so stands there in all three. Critics are the source's. Online the map is FMQ's
reference and the source's critics go on under FMQ.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.agents.base import Agent, AgentConfig, Memory
from flowpolicy.agents.cloning import Cloning
from flowpolicy.agents.td import TDCritic
from flowpolicy.data.chunk import View
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Flow,
    FlowMap,
    OnDiagonal,
    Term,
    TimeLaw,
    Triangle,
    eulerian,
    lagrangian,
    semigroup,
)
from flowpolicy.nets import Adam, Trainable
from flowpolicy.parts import name_of, register
from flowpolicy.refine import Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector

TEACHERS = ("decision_flow", "fmq", "fql", "gfp", "ifql", "mvp", "qam", "qc")
"""Agents of the library that have both a flow with a velocity and critics."""


@runtime_checkable
class Source(Protocol):
    """What an agent must have to be distilled: a flow with a velocity, and critics."""

    critic: TDCritic

    def teacher(self) -> FlowMap:
        """The flow whose velocity is learned."""
        ...


@runtime_checkable
class Target(AgentConfig, Protocol):
    """What distillation asks of FMQ's configuration."""

    optimiser: Adam
    actor: Any

    def around(
        self, actor: Trainable[FlowMap], critic: TDCritic, count: Int[Array, ""], updates: int
    ) -> Agent:
        """The agent with a flow map and critics that exist."""
        ...


def lagrangian_distillation(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """The Lagrangian equation with the source's velocity: no derivative of the source is taken."""
    return _with_diagonal(Term(lagrangian, law))


def eulerian_distillation(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """The Eulerian equation with the source's velocity; as in ``eulerian``, u alone is trained."""
    return _with_diagonal(Term(eulerian, law))


def semigroup_distillation(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """The semigroup of the map itself, the source's velocity on the diagonal."""
    return _with_diagonal(Term(semigroup, law))


def _with_diagonal(term: Term) -> tuple[Term, ...]:
    return Term(lagrangian, OnDiagonal()), term


@register("distilled")
@dataclasses.dataclass(frozen=True)
class Distilled:
    """A flow distilled into a flow map, then FMQ."""

    source: Any
    """The agent that is distilled: one with a flow and critics, as qc and fql are."""
    target: Any
    """FMQ as it goes on online; its net, optimiser and ``act`` are the flow map's from the start.
    Chunk, discount, critics, their optimiser and tau must be those of the source."""
    terms: tuple[Term, ...] = lagrangian_distillation()
    """Summands of the distillation loss; the teacher is the map itself with the source's velocity.
    ``diagonal`` and ``mean_flow`` take their velocity from the data instead."""
    train_source: bool = True
    """Whether the source learns meanwhile; False for one that was trained before."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        for field, kind in (("source", AgentConfig), ("target", Target)):
            if not isinstance(getattr(self, field), kind):
                wanted = "an agent's configuration" if field == "source" else "fmq's configuration"
                raise InvalidConfig(
                    f"distilled.{field} must be {wanted}, got {getattr(self, field)!r}"
                )
        if self.source.view != self.target.view:
            raise InvalidConfig(
                "distilled.target must have the chunk, discount and ends of distilled.source, got "
                f"{self.target.view} and {self.source.view}"
            )

    @property
    def view(self) -> View:
        """The source's."""
        return self.source.view

    @property
    def act(self) -> Refiner:
        """The target's."""
        return self.target.act

    def init(self, key: Key, spec: Spec) -> "DistilledAgent":
        """The agent of the offline phase, before any update."""
        key_source, key_flow = jax.random.split(key)
        return self.around(key_flow, self.source.init(key_source, spec), spec)

    def around(self, key: Key, source: Agent, spec: Spec) -> "DistilledAgent":
        """The agent of the offline phase with a source that exists and a new flow map."""
        self._check(source, spec)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.target.actor.init(key, spec, size), size)
        return DistilledAgent(
            config=self,
            distillation=Cloning(self.terms, spec.offline_updates),
            source=source,
            actor=Trainable.create(flow, self.target.optimiser),
            count=jnp.zeros((), jnp.int32),
        )

    def _check(self, source: Agent, spec: Spec) -> None:
        name = name_of(self.source)
        if not isinstance(source, Source):
            raise InvalidConfig(
                f"distilled.source must have a flow with a velocity, and critics, which {name} has "
                f"not; {', '.join(TEACHERS)} have both"
            )
        own = jax.eval_shape(lambda k: self.target.init(k, spec), jax.random.key(0)).critic
        if _shapes(own) != _shapes(source.critic):
            raise InvalidConfig(
                "distilled.target must have the critic, ensemble, optimiser and tau of "
                f"distilled.source ({name}), whose critics it takes over"
            )


def _shapes(critic: TDCritic) -> tuple[Any, list[tuple[int, ...]]]:
    """Nets, tau and optimiser, and the shapes of all leaves."""
    leaves, structure = jax.tree.flatten(critic)
    return structure, [leaf.shape for leaf in leaves]


class Taught(eqx.Module):
    """The teacher of a distillation: the velocity of the source, all else of the map itself."""

    source: FlowMap
    student: FlowMap

    def average_velocity(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """u_{r,t}(a | s) of the student."""
        return self.student.average_velocity(r, t, a, s)

    def velocity(self, t: Scalar, a: Vector, s: Observation) -> Vector:
        """v_t(a | s) of the source."""
        return self.source.velocity(t, a, s)


class DistilledAgent(Agent):
    """The offline phase: the source, and the flow map that learns its velocity and acts."""

    config: Distilled = eqx.field(static=True)
    distillation: Cloning = eqx.field(static=True)
    source: Any
    actor: Trainable[FlowMap]
    count: Int[Array, ""]

    @property
    def critic(self) -> TDCritic:
        """The source's."""
        return self.source.critic

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """The target's way of acting, on the flow map and the source's critics."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["DistilledAgent", Metrics]:
        """One step of the source, if it trains, and one of the flow map towards it."""
        key_source, key_flow = jax.random.split(key)
        source, metrics = self.source, {}
        if self.config.train_source:
            source, metrics = source.update(key_source, batch)
        velocity = source.teacher()

        def loss(flow: FlowMap) -> tuple[Scalar, Metrics]:
            teacher = Taught(velocity, flow)
            return self.distillation.taught(key_flow, flow, teacher, batch, self.count)

        (_, told), gradient = jax.value_and_grad(loss, has_aux=True)(self.actor.model)
        # The source's own flow has losses of the same name.
        metrics = metrics | {f"distilled/{k.split('/')[-1]}": v for k, v in told.items()}
        actor = self.actor.step(gradient)
        agent = dataclasses.replace(self, source=source, actor=actor, count=self.count + 1)
        return agent, metrics

    def begin_online(self, key: Key) -> Agent:
        """FMQ around the flow map and the source's critics; the source is dropped."""
        updates = self.distillation.updates
        agent = self.config.target.around(self.actor, self.source.critic, self.count, updates)
        return agent.begin_online(key)

    def flow(self) -> Flow:
        """The flow map."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The source's."""
        return self.source.value(obs, action)
