"""RLPD: soft actor-critic with prior data (Ball et al. 2023), also on chunks (Li et al. 2025).

There is no offline phase: from its first step on it collects, and half of every batch is offline
(``draw=offline_share(share=0.5)``). With pi a tanh-Gaussian, alpha its temperature, K critics:

    critic        (Q_k(s, a) - y)^2,  y = r + discount mean_k Qbar_k(s', a'),  a' ~ pi(s')
    actor         alpha log pi(a | s) - mean_k Q_k(s, a) - bc log pi(a_data | s),  a ~ pi(s)
    temperature   alpha (H - H*),  H the batch's entropy, H* its target

No entropy stands in y. RLPD is chunk = 1, RLPD-AC is chunk = 5, and QC-RLPD is chunk = 5 with
bc = 0.01, all as in QC's released code, whose readings we follow. That code steps all three at
once, we the critic first; it clones entries past an episode's end too, we mask them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk, lacking
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow
from flowpolicy.nets import Adam, MLPCritic, MLPGaussian, TanhGaussian, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean

sg = jax.lax.stop_gradient

PolicyNet = Callable[[Observation], TanhGaussian]


@register("rlpd")
@dataclasses.dataclass(frozen=True)
class RLPD:
    """Soft actor-critic with prior data, on chunks."""

    chunk: int = 1
    """h, actions of a chunk, executed open loop: 1 is RLPD, 5 RLPD-AC and QC-RLPD."""
    discount: float = 0.99
    """gamma, of one environment step."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts; as in QC."""
    bc: float = 0.0
    """Weight of the data's negative log-likelihood; QC-RLPD has 0.01."""
    entropy: float = -0.5
    """Target entropy per entry of the chunk, in nats; a uniform entry would have 0.69."""
    temperature: float = 1.0
    """alpha at the start, above 0."""
    aggregate: Aggregate = mean
    """Value in the TD target, and what ``value`` tells; RLPD's own paper takes the minimum of two
    members drawn at random. The actor always climbs the mean."""
    ensemble: int = 10
    """K, critics."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of actor, critics and temperature."""
    actor: Any = MLPGaussian()
    """Net of the policy: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration. The other agents' critic, so that a comparison is of
    methods; RLPD's own is of ReLU layers with LayerNorm before them."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("rlpd", self.chunk, self.discount)
        if self.bc < 0 or not self.temperature > 0:
            raise InvalidConfig(
                f"rlpd needs bc >= 0 and temperature > 0, got {self.bc} and {self.temperature}"
            )
        check_critic("rlpd", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    @property
    def act(self) -> Refiner:
        """One sample, at one evaluation of the actor."""
        return OneStep()

    def init(self, key: Key, spec: Spec) -> "RLPDAgent":
        """The agent before any update."""
        key_actor, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return RLPDAgent(
            config=self,
            actor=Trainable.create(self.actor.init(key_actor, spec, size), self.optimiser),
            temperature=Trainable.create(jnp.log(jnp.float32(self.temperature)), self.optimiser),
            critic=TDCritic.create(critic, self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


class RLPDAgent(Agent):
    """A tanh-Gaussian policy, its critics, and the logarithm of its temperature."""

    config: RLPD = eqx.field(static=True)
    actor: Trainable[PolicyNet]
    temperature: Trainable[Array]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """A sample, in evaluation too, as QC's code has it (RLPD's own code takes the mode)."""
        return self.actor.model(obs).sample(key)[0], memory

    def update(self, key: Key, batch: Transition) -> tuple["RLPDAgent", Metrics]:
        """One step of the critic, of the actor with the new critic, and of the temperature."""
        key_next, key_actor = jax.random.split(key)
        config, size = self.config, batch.reward.shape[0]
        next_action = jax.vmap(lambda k, obs: self.actor.model(obs).sample(k)[0])(
            jax.random.split(key_next, size), batch.next_obs
        )
        critic, metrics = self.critic.update(config.aggregate, batch, next_action)
        alpha = jnp.exp(self.temperature.model)

        def loss(net: PolicyNet) -> tuple[Scalar, ActorTerms]:
            keys = jax.random.split(key_actor, size)
            terms = jax.vmap(lambda k, tr: actor_terms(k, net, critic.online.model, tr))(
                keys, batch
            )
            means = jax.tree.map(jnp.mean, terms)
            return config.bc * means.nll - alpha * means.entropy - means.q, means

        (_, means), gradient = jax.value_and_grad(loss, has_aux=True)(self.actor.model)
        target = config.entropy * batch.action.shape[-1]
        slope = jax.grad(lambda log: jnp.exp(log) * (sg(means.entropy) - target))
        temperature = self.temperature.step(slope(self.temperature.model))
        metrics |= {
            "rlpd/q": means.q,
            "rlpd/entropy": means.entropy,
            "rlpd/nll": means.nll,
            "rlpd/temperature": alpha,
        }
        actor = self.actor.step(gradient)
        return type(self)(config, actor, temperature, critic, self.count + 1), metrics

    def flow(self) -> Flow:
        """There is none."""
        raise lacking("rlpd", "flow")

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)


class ActorTerms(eqx.Module):
    """What the actor's loss is made of: Q and entropy of a sample, and the data's likelihood."""

    q: Float[Array, "*batch"]
    entropy: Float[Array, "*batch"]
    nll: Float[Array, "*batch"]


def actor_terms(key: Key, net: PolicyNet, critic: Critic, sample: Transition) -> ActorTerms:
    """mean_k Q_k(s, a) and -log pi(a | s) for a ~ pi(s); -log pi(a_data | s) over real entries.

    Both log densities are summed over the entries of the chunk. The caller differentiates by
    ``net`` alone.
    """
    law = net(sample.obs)
    action, log_prob = law.sample(key)
    return ActorTerms(
        q=jnp.mean(critic(sample.obs, action)),
        entropy=-jnp.sum(log_prob),
        nll=-jnp.sum(sample.mask * law.log_prob(sample.action)),
    )
