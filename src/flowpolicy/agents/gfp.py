"""GFP: guided flow policies (ICLR 2026). FQL's two policies, the flow cloning what is worth it.

VaBC, a velocity v of many steps, clones the data by flow matching, each sample weighted by

    g = sigmoid((lambda / eta) (Qbar(s, a) - Qbar_ref(s))),   lambda = 1 / mean |Q(s, mu(s, z))|,

Qbar the target critics and Qbar_ref their value of the policy's own action. A one-step actor mu
acts; it is distilled from VaBC and climbs the critic:

    alpha |mu(s, z) - sg[clip(Euler(v; s, z))]|^2 - lambda Q(s, clip(mu(s, z)))

Both policies start from the same noise, in the TD target too. Weights are not divided by their
sum: where all are small the flow learns slowly. Per-task values are in ``runs.guided``.

Where values of both policies are put together, an ``Aggregate`` sees (the actor's, VaBC's):

    target       member(0): y takes the actor's; mean: the average of both, the conservative y_VaBC
    reference    member(0): Qbar_ref is the actor's; minimum: the smaller one

With eta = 0 nothing is guided, and this is FQL with a normalised critic. We step critic, velocity
and actor in this order, each by what is new before it; the code steps all at once, and its target
critic follows the parameters from before the update. Its other temperature for the online phase is
the same one in all released runs, and left out.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, flow_matching_terms, weighted
from flowpolicy.agents.one_step import OneStepFlow, distillation
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Integrated, weight_metrics
from flowpolicy.nets import Adam, Fourier, MLPCritic, MLPOneStep, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean, member

sg = jax.lax.stop_gradient
SMALLEST_ETA = 1e-12


@register("sigmoid_guidance")
def sigmoid_guidance(x: Scalar) -> Scalar:
    """1 / (1 + exp(-x)): the weight of the data's action in a softmax with the reference's."""
    return jax.nn.sigmoid(x)


@register("advantage_guidance")
def advantage_guidance(x: Scalar) -> Scalar:
    """exp(x), not bounded: the paper's ablation, advantage-weighted regression."""
    return jnp.exp(x)


@register("gfp")
@dataclasses.dataclass(frozen=True)
class GFP:
    """Guided flow policy: a one-step actor distilled from a flow that clones good actions."""

    chunk: int = 1
    """h, rows of a transition; all their actions are executed open loop, save with
    ``n_step_returns``."""
    discount: float = 0.99
    """gamma, of one environment step."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts (``whole_chunks``, ``shorter_returns``)."""
    alpha: float = 1.0
    """Weight of the distillation, at least 0; 0.01 to 10 in the released runs."""
    eta: float = 1e-3
    """Temperature of the guidance, in units of the batch's mean |Q|; 1e-6 to 0.1 in the released
    runs. 0 guides nothing (all weights are 1), though towards 0 actions below the reference are
    no longer cloned at all."""
    guidance: Callable[[Scalar], Scalar] = sigmoid_guidance
    """The weight as a function of the scaled advantage; ``advantage_guidance`` is an ablation."""
    target: Aggregate = member(0)
    """How values of the two policies' next actions make the TD target: ``member(0)`` the actor's,
    ``mean`` their average (cube and humanoidmaze-medium)."""
    target_use_next: bool = True
    """Whether VaBC's action in that target is drawn at s', as the paper's formula says. The
    released runs have False: drawn at s, and valued at s' all the same. The actor's is at s'."""
    reference: Aggregate = member(0)
    """How values of the two policies' actions make Qbar_ref: ``member(0)`` the actor's, ``minimum``
    the smaller one (mazes)."""
    steps: int = 10
    """Euler steps of VaBC; 30 on humanoidmaze-large."""
    act: Refiner = OneStep()
    """Behaviour and evaluation; the paper draws one action of mu."""
    aggregate: Aggregate = mean
    """Value of an action by the ensemble, everywhere, in the actor's loss too (FQL has the mean
    there). The paper takes the minimum on antmaze."""
    ensemble: int = 2
    """K, critics."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of the velocity and of the actor."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the paper."""
    behaviour: Any = MLPVelocity(embed=Fourier())
    """Net of the velocity: a net configuration. The released one embeds the time in 64 numbers."""
    actor: Any = MLPOneStep()
    """Net of the one-step actor: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("gfp", self.chunk, self.discount)
        if not (0 <= self.alpha < math.inf and self.steps >= 1):
            raise InvalidConfig(
                "gfp needs alpha >= 0 and finite (the released runs have 0.01 to 10) and "
                f"steps >= 1 (10, or 30), got {self.alpha} and {self.steps}"
            )
        if self.eta and not SMALLEST_ETA <= self.eta < math.inf:
            raise InvalidConfig(
                f"gfp.eta must be 0, which guides nothing, or finite and at least {SMALLEST_ETA}, "
                "because advantages are divided by it (the released runs have 1e-6 to 0.1), "
                f"got {self.eta}"
            )
        check_critic("gfp", self.tau, self.ensemble, self.aggregate)
        for field in ("target", "reference"):
            rule = getattr(self, field)
            if isinstance(rule, member) and rule.index not in (0, 1):
                raise InvalidConfig(
                    f"gfp.{field}: member.index must be 0, the actor's action, or 1, VaBC's, "
                    f"got {rule.index}"
                )

    @property
    def view(self) -> View:
        """What ``ends`` makes of h rows."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "GFPAgent":
        """The agent before any update."""
        key_flow, key_actor, key_critic = jax.random.split(key, 3)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.behaviour.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return GFPAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            behaviour=Trainable.create(flow, self.optimiser),
            actor=Trainable.create(self.actor.init(key_actor, spec, size), self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


class GFPAgent(Agent):
    """The velocity, the one-step actor and the critic, offline and online alike."""

    config: GFP = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    behaviour: Trainable[FlowMap]
    actor: Trainable[Any]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the one-step actor and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["GFPAgent", Metrics]:
        """One step of the critic, one of the velocity, one of the actor."""
        key_next, key_flow, key_actor = jax.random.split(key, 3)
        config, pair = self.config, (self.actor.model, self._teacher(self.behaviour))
        y = jax.vmap(lambda k, tr: target(k, config, self.critic.target, pair, tr))(
            jax.random.split(key_next, batch.reward.shape[0]), batch
        )
        critic, metrics = self.critic.regress(batch, y)

        noise = jax.random.normal(key_actor, batch.action.shape)
        scale = normaliser(config, self.actor.model, critic.online.model, noise, batch.obs)
        good, guided = batch, {}
        if config.eta:
            weights = guidance(config, scale, critic.target, pair, noise, batch)
            good, guided = weighted(batch, weights), weight_metrics(weights)
        behaviour, flow_metrics = self.cloning.step(key_flow, self.behaviour, good, self.count)

        teacher, online = self._teacher(behaviour), critic.online.model
        (_, actor_metrics), gradient = jax.value_and_grad(
            lambda mu: actor_loss(config, mu, teacher, online, scale, noise, batch.obs),
            has_aux=True,
        )(self.actor.model)
        actor = self.actor.step(gradient)
        agent = type(self)(config, self.cloning, behaviour, actor, critic, self.count + 1)
        return agent, metrics | flow_metrics | actor_metrics | guided

    def _teacher(self, behaviour: Trainable[FlowMap]) -> Integrated:
        return Integrated(behaviour.model, self.config.steps)

    def flow(self) -> Flow:
        """The one-step actor; see ``OneStepFlow``."""
        return OneStepFlow(self.actor.model, self._teacher(self.behaviour))

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``)."""
        return self.behaviour.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)


Pair = tuple[Any, Integrated]
"""The one-step actor mu and VaBC."""


def actions(pair: Pair, z: Vector, s: Observation, t: Observation) -> tuple[Vector, Vector]:
    """The actor's action at ``s`` and VaBC's at ``t``, of the same noise, clipped."""
    actor, behaviour = pair
    cloned = behaviour.flow(jnp.zeros(()), jnp.ones(()), z, t)
    return jnp.clip(actor(z, s), -1.0, 1.0), jnp.clip(cloned, -1.0, 1.0)


def values(
    config: GFP, critic: Critic, s: Observation, proposed: tuple[Vector, Vector]
) -> Float[Array, "2"]:
    """The ensemble's values at ``s`` of the two policies' actions."""
    return jnp.stack([config.aggregate(critic(s, a)) for a in proposed])


def target(key: Key, config: GFP, critic: Critic, pair: Pair, sample: Transition) -> Scalar:
    """y = reward + discount * target(values of both policies' next actions) of one transition."""
    z = jax.random.normal(key, sample.action.shape)
    drawn_at = sample.next_obs if config.target_use_next else sample.obs
    proposed = actions(pair, z, sample.next_obs, drawn_at)
    q = config.target(values(config, critic, sample.next_obs, proposed))
    return sample.reward + sample.discount * q


def normaliser(
    config: GFP, actor: Any, critic: Critic, noise: Float[Array, "batch d"], obs: Observation
) -> Scalar:
    """lambda = sg[1 / mean |Q(s, clip(mu(s, z)))|] over a batch."""
    q = jax.vmap(lambda z, s: config.aggregate(critic(s, jnp.clip(actor(z, s), -1.0, 1.0))))
    return sg(1.0 / jnp.mean(jnp.abs(q(noise, obs))))


def guidance(
    config: GFP,
    scale: Scalar,
    critic: Critic,
    pair: Pair,
    noise: Float[Array, "batch d"],
    batch: Transition,
) -> Float[Array, "batch"]:
    """g of each sample, a number: neither policy nor critic is trained by it."""

    def one(z: Vector, sample: Transition) -> Scalar:
        proposed = actions(pair, z, sample.obs, sample.obs)
        reference = config.reference(values(config, critic, sample.obs, proposed))
        advantage = config.aggregate(critic(sample.obs, sample.action)) - reference
        return config.guidance(scale * advantage / config.eta)

    return sg(jax.vmap(one)(noise, batch))


def actor_loss(
    config: GFP,
    actor: Any,
    teacher: Flow,
    critic: Critic,
    scale: Scalar,
    noise: Float[Array, "batch d"],
    obs: Observation,
) -> tuple[Scalar, Metrics]:
    """alpha * distillation - lambda Q, over a batch."""
    distance, action = jax.vmap(lambda z, s: distillation(actor, teacher, z, s))(noise, obs)
    q = jax.vmap(lambda s, a: config.aggregate(critic(s, jnp.clip(a, -1.0, 1.0))))(obs, action)
    distance, gain = jnp.mean(distance), jnp.mean(q)
    metrics = {"gfp/distillation": distance, "gfp/q": gain, "gfp/scale": scale}
    return config.alpha * distance - scale * gain, metrics
