"""Decision Flow, reconstructed: flow steps as decisions (Hu et al. 2025, arXiv 2505.20350).

We could read the abstract and summaries, neither the losses nor a code, so that this is "in the
style of", and its numbers say nothing about the paper's. From what we could read: each of K steps
of the flow is a decision of an inner Markov decision process. Its state is (s, a_t), its action the
velocity u, its transition a_{t+h} = a_t + h u with h = 1 / K, its discount 1, and its last reward
Q(s, a_1) of the ordinary critic. A flow critic values its states; two variants differ in the
rewards on the way, of direction and of divergence from a behaviour flow. Ours:

    rewards      h weight times      direction_reward     u . g, g = grad Q / |grad Q| at clip(a_t)
                                     divergence_reward    -|u - u_beta(a_t)|^2
    flow critic  V_t(a_t) -> sg[reward + V'_{t+h}(a_{t+h})] on paths of the policy, V'_1 = Q', with
                 V' and Q' the averaged nets
    policy       alpha (flow matching) - lambda mean_t [reward + V_{t+h}(sg[a_t] + h u_theta)],
                 lambda = sg[1 / mean |Q|]: a gradient through one step, never through a path

u_beta is a flow of its own that clones the data. With Q = c . a, a u_beta that does not depend on
a, lambda = 1 and alpha = 0 the divergence variant's optimum is u_beta + c / (2 weight). Time 0 is
noise and time 1 the action.
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
from flowpolicy.agents.cloning import Cloning, flow_matching_terms
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Integrated
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity, Trainable
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner, normalised_gradient
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean, polyak

sg = jax.lax.stop_gradient

Q = Callable[[Vector], Scalar]
InnerValue = Callable[[Scalar, Vector], Scalar]
Reward = Callable[[Vector, Vector, Vector], Scalar]
"""Of a decision u, the behaviour's u_beta and the critic's direction g at the same point."""


@register("direction_reward")
def direction_reward(u: Vector, behaviour: Vector, g: Vector) -> Scalar:
    """u . g: decisions are to go where the critic rises."""
    del behaviour
    return jnp.dot(u, g)


@register("divergence_reward")
def divergence_reward(u: Vector, behaviour: Vector, g: Vector) -> Scalar:
    """-|u - u_beta|^2: decisions are to stay near the behaviour's."""
    del g
    return -jnp.sum(jnp.square(u - behaviour))


@register("decision_flow")
@dataclasses.dataclass(frozen=True)
class DecisionFlow:
    """Our reconstruction of Decision Flow; all numbers are ours."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop."""
    discount: float = 0.99
    """gamma, of one environment step; the inner process has none."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts."""
    reward: Reward = divergence_reward
    """Reward of a decision: ``divergence_reward`` or ``direction_reward``, our names for the
    paper's two variants."""
    weight: float = 1.0
    """Of the rewards on the way, at least 0; with 0 both variants are the same."""
    alpha: float = 1.0
    """Of flow matching in the policy's loss, at least 0."""
    steps: int = 10
    """K, decisions, at least 2; with one there is nothing on the way."""
    act: Refiner = OneStep()
    """Behaviour and evaluation."""
    bootstrap: Refiner = OneStep()
    """The next action in the TD target."""
    aggregate: Aggregate = mean
    """Value of an action by the ensemble, everywhere."""
    ensemble: int = 2
    """Critics."""
    tau: float = 0.005
    """Share of the new parameters in the averages of critic and flow critic, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of the two flows."""
    critic_optimiser: Adam | None = None
    """Optimiser of critic and flow critic; where None the one above."""
    behaviour: Any = MLPVelocity()
    """Net of u_beta: a net configuration."""
    actor: Any = MLPVelocity()
    """Net of the policy's u: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""
    value: Any = MLPInnerValue()
    """Net of the flow critic: a net configuration, called as ``net(t, a, s)``."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("decision_flow", self.chunk, self.discount)
        positive = 0 <= self.weight < math.inf and 0 <= self.alpha < math.inf
        if not (positive and self.steps >= 2):
            raise InvalidConfig(
                "decision_flow needs weight >= 0 and alpha >= 0, both finite, and steps >= 2, got "
                f"{self.weight}, {self.alpha} and {self.steps}: a negative weight or alpha would "
                "reward what is to be avoided, and one step leaves no decision on the way (ours "
                "are 1, 1 and 10; the paper's could not be read)"
            )
        if self.reward is direction_reward and not self.alpha > 0:
            raise InvalidConfig(
                "decision_flow.alpha must be above 0 with direction_reward (ours is 1): nothing "
                f"else holds a reward that grows with the decision's length, got {self.alpha}"
            )
        check_critic("decision_flow", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "DecisionFlowAgent":
        """The agent before any update."""
        key_behaviour, key_actor, key_critic, key_value = jax.random.split(key, 4)
        size, slow = self.view.chunk * spec.action, self.critic_optimiser or self.optimiser
        behaviour = FlowMap(self.behaviour.init(key_behaviour, spec, size), size)
        flow = FlowMap(self.actor.init(key_actor, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        value = self.value.init(key_value, spec, size)
        return DecisionFlowAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            behaviour=Trainable.create(behaviour, self.optimiser),
            actor=Trainable.create(flow, self.optimiser),
            critic=TDCritic.create(critic, slow, self.tau),
            inner=Trainable.create(value, slow),
            average=jax.tree.map(jnp.copy, value),
            count=jnp.zeros((), jnp.int32),
        )


class DecisionFlowAgent(Agent):
    """Two flows, the critic and the flow critic, offline and online alike."""

    config: DecisionFlow = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    behaviour: Trainable[FlowMap]
    actor: Trainable[FlowMap]
    critic: TDCritic
    inner: Trainable[Any]
    average: Any
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the policy's flow and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["DecisionFlowAgent", Metrics]:
        """One step of the critic, of u_beta, of the flow critic and of the policy."""
        key_next, key_clone, key_path, key_policy = jax.random.split(key, 4)
        config = self.config
        critic, metrics = self.critic.learn(
            key_next, config.bootstrap, config.aggregate, self.flow(), batch
        )
        behaviour, _ = self.cloning.step(key_clone, self.behaviour, batch, self.count)
        noise = jax.random.normal(key_path, batch.action.shape)
        paths = jax.vmap(lambda z, s: path(self.actor.model, config.steps, z, s))(noise, batch.obs)

        beta, flow = behaviour.model, self.actor.model
        valued, gradient = jax.value_and_grad(
            lambda v: value_loss(config, v, self.average, critic.target, beta, flow, paths, batch)
        )(self.inner.model)
        inner = self.inner.step(gradient)
        average = polyak(self.average, inner.model, config.tau)

        def loss(flow: FlowMap) -> tuple[Scalar, Metrics]:
            online = critic.online.model
            gain, scale = improvement(config, flow, inner.model, online, beta, paths, batch)
            cloned, parts = self.cloning(key_policy, flow, batch, self.count)
            return config.alpha * cloned - scale * gain, parts | {"decision_flow/gain": gain}

        (_, improved), gradient = jax.value_and_grad(loss, has_aux=True)(flow)
        agent = dataclasses.replace(
            self, behaviour=behaviour, actor=self.actor.step(gradient), critic=critic, inner=inner,
            average=average, count=self.count + 1,
        )  # fmt: skip
        return agent, metrics | improved | {"decision_flow/value_loss": valued}

    def flow(self) -> Flow:
        """The policy's flow by its K steps."""
        return Integrated(self.actor.model, self.config.steps)

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``)."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)


Paths = Float[Array, "batch points d"]


def path(flow: FlowMap, steps: int, z: Vector, s: Observation) -> Float[Array, "points d"]:
    """a_0 = z, ..., a_K of the policy's Euler steps, without a gradient."""

    def step(a: Vector, i: Scalar) -> tuple[Vector, Vector]:
        a = a + flow.velocity(i / steps, a, s) / steps
        return a, a

    later = jax.lax.scan(step, z, jnp.arange(steps, dtype=z.dtype))[1]
    return sg(jnp.concatenate([z[None], later]))


def decision(
    config: DecisionFlow,
    t: Scalar,
    a: Vector,
    u: Vector,
    behaviour: Vector,
    q: Q,
    later: InnerValue,
) -> Scalar:
    """reward + V_{t+h}(a + h u) of one decision u at ``a``; at the end V is Q of the clipped point.

    ``behaviour`` and the critic's direction carry no gradient.
    """
    h = 1.0 / config.steps
    g = sg(normalised_gradient(q, jnp.clip(a, -1.0, 1.0)))
    reward = h * config.weight * config.reward(u, sg(behaviour), g)
    end, following = t + h, a + h * u
    finished = end > 1.0 - 0.5 * h
    return reward + jnp.where(finished, q(jnp.clip(following, -1.0, 1.0)), later(end, following))


def every_decision(
    config: DecisionFlow,
    flow: FlowMap,
    beta: FlowMap,
    critic: Critic,
    value: Any,
    points: Float[Array, "points d"],
    s: Observation,
) -> Float[Array, "steps"]:
    """``decision`` of the flow at each point of one path but the last."""

    def q(a: Vector) -> Scalar:
        return config.aggregate(critic(s, a))

    def one(t: Scalar, a: Vector) -> Scalar:
        u, behaviour = flow.velocity(t, a, s), beta.velocity(t, a, s)
        return decision(config, t, a, u, behaviour, q, lambda t, a: value(t, a, s))

    times = jnp.arange(config.steps, dtype=points.dtype) / config.steps
    return jax.vmap(one)(times, sg(points[:-1]))


def value_loss(
    config: DecisionFlow,
    value: Any,
    average: Any,
    critic: Critic,
    beta: FlowMap,
    flow: FlowMap,
    paths: Paths,
    batch: Transition,
) -> Scalar:
    """(V_t(a_t) - sg[decision by the averaged nets])^2, its mean over paths and times."""

    def one(points: Float[Array, "points d"], s: Observation) -> Scalar:
        times = jnp.arange(config.steps, dtype=points.dtype) / config.steps
        v = jax.vmap(lambda t, a: value(t, a, s))(times, points[:-1])
        y = every_decision(config, flow, beta, critic, average, points, s)
        return jnp.mean(jnp.square(v - sg(y)))

    return jnp.mean(jax.vmap(one)(paths, batch.obs))


def improvement(
    config: DecisionFlow,
    flow: FlowMap,
    value: Any,
    critic: Critic,
    beta: FlowMap,
    paths: Paths,
    batch: Transition,
) -> tuple[Scalar, Scalar]:
    """The mean decision of the policy on ``paths``, and lambda = sg[1 / mean |Q(s, a_K)|]."""

    def one(points: Float[Array, "points d"], s: Observation) -> tuple[Scalar, Scalar]:
        gains = every_decision(config, flow, beta, critic, value, points, s)
        return jnp.mean(gains), config.aggregate(critic(s, jnp.clip(points[-1], -1.0, 1.0)))

    gains, q = jax.vmap(one)(paths, batch.obs)
    return jnp.mean(gains), sg(1.0 / (jnp.mean(jnp.abs(q)) + 1e-6))
