"""FQL: flow Q-learning (Park et al. 2025), and QC-FQL, its form on action chunks (Li et al. 2025).

Two policies. A velocity v clones the data by flow matching and never sees the critic. A one-step
actor mu(s, z) acts; it is distilled from the velocity's Euler steps and climbs the critic:

    alpha |mu(s, z) - sg[clip(Euler(v; s, z))]|^2 - mean_k Q_k(s, clip(mu(s, z)))

The student is not clipped where it is compared, the teacher is, both start from the same noise z,
and the critic sees the clipped student, so that it pulls nothing outside the box. The critic's
target takes mu's next action. The mean over critics in the actor's loss stands whatever
``aggregate`` says.

    FQL       chunk = 1; alpha depends on the task and on the scale of its rewards
    QC-FQL    ``qc_fql()``: chunks of 5
    FQL-n     ``fql_n()``: single actions with n-step returns

The released codes add all losses up for one Adam. No parameter takes gradients from two of them,
so separate steps are the same but for their order: critic, velocity, then the actor with both of
them new. Their target critic follows the parameters from before the update, ours the new ones.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, flow_matching_terms
from flowpolicy.agents.one_step import OneStepFlow, distillation
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, n_step_returns, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Integrated
from flowpolicy.nets import Adam, MLPCritic, MLPOneStep, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean

sg = jax.lax.stop_gradient


@register("fql")
@dataclasses.dataclass(frozen=True)
class FQL:
    """Flow Q-learning: a one-step actor distilled from a flow, with Q-gradients."""

    chunk: int = 1
    """h, rows of a transition; all their actions are executed open loop, save with
    ``n_step_returns``. QC-FQL has 5."""
    discount: float = 0.99
    """gamma, of one environment step; 0.995 on antmaze-giant, humanoidmaze and antsoccer."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts: nothing to the critic, as in QC, or its
    shorter return (``shorter_returns``). FQL-n has ``n_step_returns``."""
    alpha: float = 300.0
    """Weight of the distillation, at least 0. The paper, offline: 300 on cube and scene, 1000 on
    puzzle, 10 on antmaze and antsoccer, 30 on humanoidmaze. QC-FQL: 100 on cube-triple, 300 on
    cube-double, scene and puzzle, 10 000 on robomimic."""
    normalise_q: bool = False
    """Whether the critic's term is divided by the batch mean of |Q|. The paper's runs do not; its
    authors advise it on new tasks, with alpha in 0.03 to 10."""
    steps: int = 10
    """Euler steps of the teacher."""
    act: Refiner = OneStep()
    """Behaviour and evaluation; the paper draws one action of mu, also to evaluate."""
    bootstrap: Refiner = OneStep()
    """The next action in the TD target; the paper's is one of mu."""
    aggregate: Aggregate = mean
    """Value in the TD target and in ranking. The paper takes the minimum on adroit and on
    antmaze-large and -giant."""
    ensemble: int = 2
    """K, critics."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of the velocity and of the actor."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the papers."""
    behaviour: Any = MLPVelocity()
    """Net of the velocity: a net configuration."""
    actor: Any = MLPOneStep()
    """Net of the one-step actor: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("fql", self.chunk, self.discount)
        if self.alpha < 0 or self.steps < 1:
            raise InvalidConfig(
                f"fql needs alpha >= 0 and steps >= 1, got {self.alpha} and {self.steps}"
            )
        check_critic("fql", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """What ``ends`` makes of h rows."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "FQLAgent":
        """The agent before any update."""
        key_flow, key_actor, key_critic = jax.random.split(key, 3)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.behaviour.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return FQLAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            behaviour=Trainable.create(flow, self.optimiser),
            actor=Trainable.create(self.actor.init(key_actor, spec, size), self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


def qc_fql(chunk: int = 5, alpha: float = 100.0, **fields: Any) -> FQL:
    """QC-FQL: FQL on chunks (Li et al. 2025; alpha of its README)."""
    return FQL(chunk=chunk, alpha=alpha, **fields)


def fql_n(horizon: int = 5, alpha: float = 100.0, **fields: Any) -> FQL:
    """FQL-n: single actions with returns of ``horizon`` rows (Li et al. 2025)."""
    return FQL(chunk=horizon, ends=n_step_returns, alpha=alpha, **fields)


class FQLAgent(Agent):
    """The velocity, the one-step actor and the critic, offline and online alike."""

    config: FQL = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    behaviour: Trainable[FlowMap]
    actor: Trainable[Any]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the one-step actor and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["FQLAgent", Metrics]:
        """One step of the critic, one of the velocity, one of the actor."""
        key_next, key_flow, key_actor = jax.random.split(key, 3)
        config = self.config
        critic, metrics = self.critic.learn(
            key_next, config.bootstrap, config.aggregate, self.flow(), batch
        )
        behaviour, flow_metrics = self.cloning.step(key_flow, self.behaviour, batch, self.count)
        noise = jax.random.normal(key_actor, batch.action.shape)
        teacher = Integrated(behaviour.model, config.steps)
        (_, actor_metrics), gradient = jax.value_and_grad(
            lambda mu: actor_loss(config, mu, teacher, critic.online.model, noise, batch.obs),
            has_aux=True,
        )(self.actor.model)
        actor = self.actor.step(gradient)
        agent = type(self)(config, self.cloning, behaviour, actor, critic, self.count + 1)
        return agent, metrics | flow_metrics | actor_metrics

    def flow(self) -> Flow:
        """The one-step actor; see ``OneStepFlow``."""
        return OneStepFlow(self.actor.model, Integrated(self.behaviour.model, self.config.steps))

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``)."""
        return self.behaviour.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)


def actor_loss(
    config: FQL,
    actor: Any,
    teacher: Flow,
    critic: Critic,
    noise: Float[Array, "batch d"],
    obs: Observation,
) -> tuple[Scalar, Metrics]:
    """alpha * distillation - Q, over a batch; Q by its sg[mean |Q|] where it is normalised."""
    distance, action = jax.vmap(lambda z, s: distillation(actor, teacher, z, s))(noise, obs)
    q = jax.vmap(lambda s, a: jnp.mean(critic(s, jnp.clip(a, -1.0, 1.0))))(obs, action)
    scale = sg(1.0 / jnp.mean(jnp.abs(q))) if config.normalise_q else 1.0
    distance, gain = jnp.mean(distance), jnp.mean(q)
    metrics = {"fql/distillation": distance, "fql/q": gain}
    return config.alpha * distance - scale * gain, metrics
