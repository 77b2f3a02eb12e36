"""MVP: mean velocity policies with an instantaneous velocity constraint (ICLR 2026).

One network u_{r,t} is trained by MeanFlow's identity and on its diagonal (Eqs. 9, 15 and 19),

    L = |u_{r,t}(a_r) - sg[v + (t - r) du_{r,t}/dr]|^2 + lambda |u_{t,t}(a_t) - v|^2,  v = a - a_0,

so that one evaluation draws an action. N of them are drawn, and the one the critic prefers acts
and stands in the TD target (Eqs. 11, 12 and 20). The page's a* is the action of the replay, which
online was itself the best of N; the text also admits selecting it anew at every update. The paper
writes u(a, t, r, s) for the jump from t to r.

What we read of MVP is silent on N, the law of the times, the chunk and the optimiser; the fields
have QC's values there, which is what it compares with, and say so.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, LogitNormal, OnDiagonal, Term, diagonal, mean_flow
from flowpolicy.nets import Adam, MLPCritic, MLPFlow, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import BestOfN, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean


@register("mvp")
@dataclasses.dataclass(frozen=True)
class MVP:
    """Mean velocity policies: MeanFlow with a constrained diagonal, and the best of N."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop. The page is silent; QC's value."""
    discount: float = 0.99
    """gamma, of one environment step. The page is silent; QC's value."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts. The page is silent; QC's choice."""
    weight: float = 1.0
    """lambda, of the instantaneous velocity constraint, at least 0 (Eq. 19; ablated at 0, 0.5 and
    1). 0 leaves it out."""
    terms: tuple[Term, ...] = (Term(residual=mean_flow, times=LogitNormal()),)
    """Summands beside the constraint; each holds its law of times, on which the page is silent
    (here MeanFlow's). A whole objective, as ``fmq_terms()``, brings its own diagonal: weight 0."""
    act: Refiner = BestOfN(32)
    """Behaviour and evaluation (Eqs. 11 and 12). The page is silent on N; QC's value."""
    bootstrap: Refiner = BestOfN(32)
    """The next action in the TD target (Eq. 20); as ``act``."""
    aggregate: Aggregate = mean
    """Value in the TD target and in ranking. The page is silent; QC's choice."""
    ensemble: int = 2
    """K, critics. The page is silent; QC's value."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]; QC's value."""
    optimiser: Adam = Adam()
    """Optimiser of the flow map. The page is silent; QC's value."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the papers."""
    actor: Any = MLPFlow()
    """Net of the flow map: a net configuration. The page is silent; FMQ's."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration. The page is silent; QC's."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("mvp", self.chunk, self.discount)
        if self.weight < 0:
            raise InvalidConfig(f"mvp.weight must be at least 0, got {self.weight}")
        check_critic("mvp", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "MVPAgent":
        """The agent before any update."""
        key_flow, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        constraint = (Term(residual=diagonal, times=OnDiagonal(), weight=self.weight),)
        terms = self.terms + constraint if self.weight else self.terms
        return MVPAgent(
            config=self,
            cloning=Cloning(terms, spec.offline_updates),
            actor=Trainable.create(flow, self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


class MVPAgent(Agent):
    """Clones with a flow map and learns the critic of its best-of-N, offline and online alike."""

    config: MVP = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the flow map and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["MVPAgent", Metrics]:
        """One step of the critic and one of the flow map."""
        key_next, key_flow = jax.random.split(key)
        config = self.config
        critic, metrics = self.critic.learn(
            key_next, config.bootstrap, config.aggregate, self.flow(), batch
        )
        actor, flow_metrics = self.cloning.step(key_flow, self.actor, batch, self.count)
        agent = type(self)(config, self.cloning, actor, critic, self.count + 1)
        return agent, metrics | flow_metrics

    def flow(self) -> Flow:
        """The flow map."""
        return self.actor.model

    def teacher(self) -> FlowMap:
        """The flow whose velocity another flow map may learn (``distilled``): the diagonal's, which
        Eq. 15 holds to the velocity."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)
