"""IFQL: implicit Q-learning with a flow policy, a baseline of the FQL paper (Park et al. 2025).

It is IDQL (Hansen-Estruch et al. 2023) with a flow in the place of the diffusion: V(s) is an upper
expectile of the target critics' Q at the data's actions (IQL, Kostrikov et al. 2022, Eq. 5), Q is
regressed onto r + gamma V(s'), which asks for no action, a velocity clones the data, and the best
of N of its actions acts.

FQL's IFQL has the expectile 0.9 and N = 32; what we read of it is silent on how the critics are
put together (here IQL's minimum), and on tuning. Losses share no parameters: value, critic and
velocity are stepped in this order, the critic towards the new value.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, flow_matching_terms
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Integrated
from flowpolicy.nets import Adam, MLPCritic, MLPValue, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import BestOfN, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, expectile_loss, minimum


@register("ifql")
@dataclasses.dataclass(frozen=True)
class IFQL:
    """Implicit flow Q-learning: an expectile value, flow cloning, and the best of N."""

    chunk: int = 1
    """h, rows of a transition; all their actions are executed open loop, save with
    ``n_step_returns``."""
    discount: float = 0.99
    """gamma, of one environment step."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts (``whole_chunks``, ``shorter_returns``)."""
    expectile: float = 0.9
    """tau_e of V, in (0, 1); 0.5 is the value of the data's policy."""
    steps: int = 10
    """Euler steps from noise to an action."""
    act: Refiner = BestOfN(32)
    """Behaviour and evaluation."""
    aggregate: Aggregate = minimum
    """Value that V follows (of the target critics) and that ranks (of the online ones)."""
    ensemble: int = 2
    """K, critics."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of the velocity and of the value."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the papers."""
    actor: Any = MLPVelocity()
    """Net of the velocity: a net configuration."""
    value: Any = MLPValue()
    """Net of V: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("ifql", self.chunk, self.discount)
        if not 0 < self.expectile < 1 or self.steps < 1:
            raise InvalidConfig(
                "ifql needs expectile in (0, 1) and steps >= 1, got "
                f"{self.expectile} and {self.steps}"
            )
        check_critic("ifql", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """What ``ends`` makes of h rows."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "IFQLAgent":
        """The agent before any update."""
        key_flow, key_value, key_critic = jax.random.split(key, 3)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return IFQLAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            actor=Trainable.create(flow, self.optimiser),
            implicit=Trainable.create(self.value.init(key_value, spec), self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


class IFQLAgent(Agent):
    """The velocity, the value and the critic, offline and online alike."""

    config: IFQL = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    implicit: Trainable[Any]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the integrated velocity and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["IFQLAgent", Metrics]:
        """One step of the value, one of the critic, one of the velocity."""
        config = self.config
        value, gradient = jax.value_and_grad(lambda v: self._value_loss(v, batch))(
            self.implicit.model
        )
        implicit = self.implicit.step(gradient)
        after = jax.vmap(implicit.model)(batch.next_obs)
        critic, metrics = self.critic.regress(batch, batch.reward + batch.discount * after)
        actor, flow_metrics = self.cloning.step(key, self.actor, batch, self.count)
        agent = type(self)(config, self.cloning, actor, implicit, critic, self.count + 1)
        return agent, metrics | flow_metrics | {"value/loss": value, "value/mean": jnp.mean(after)}

    def _value_loss(self, v: Any, batch: Transition) -> Scalar:
        def one(tr: Transition) -> Scalar:
            q = self.config.aggregate(self.critic.target(tr.obs, tr.action))
            return tr.weight * expectile_loss(q, v(tr.obs), self.config.expectile)

        return jnp.mean(jax.vmap(one)(batch))

    def flow(self) -> Flow:
        """The velocity, integrated in ``config.steps`` Euler steps."""
        return Integrated(self.actor.model, self.config.steps)

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``)."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)
