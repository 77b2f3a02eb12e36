"""FMQ: flow map policies adapted by a critic-guided trust region (Ziakas et al. 2026).

Offline, a flow map clones the data (``cloning``) and a critic ensemble learns from its best-of-N
actions. Online, the offline map u_off is frozen and the policy regresses, at r ~ U[0, 1) and
a_r = (1 - r) a_0 + r a_data, onto Theorem 3.2's optimum

    u*_{r,1} = u_off + eta_eff g,    g = grad Q(s, a_1) / |grad Q(s, a_1)|,
    a_1 = a_r + (1 - r) u_off,       eta_eff = eta / (1 + beta delta~),

delta~ being the critics' disagreement at a_1 over its batch mean (Algorithm 1, Eq. 13). The
action moves by (1 - r) eta_eff. Time 0 is noise and time 1 the action, as in the paper.

Where the page and the released code differ, a field holds the choice, the page's reading is its
default, and the code's is said beside it. We update the critic before the policy, as Algorithm 1
does; the code steps both at once.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, fmq_terms
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Term, linear, masked_mean_square
from flowpolicy.nets import Adam, MLPCritic, MLPFlow, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import BestOfN, Refiner, normalise
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, member, minimum, spread

sg = jax.lax.stop_gradient


class Guidance(eqx.Module):
    """One sample of Algorithm 1, lines 6 to 9: where, the reference's answer, which way."""

    r: Scalar
    ar: Vector
    u_off: Vector
    a1: Vector
    g: Vector
    delta: Scalar


def guidance(
    key: Key, config: "FMQ", reference: FlowMap, critic: Critic, sample: Transition
) -> Guidance:
    """Algorithm 1, lines 6 to 9, for one transition."""
    key_time, key_noise = jax.random.split(key)
    r = jax.random.uniform(key_time)
    a0 = jax.random.normal(key_noise, sample.action.shape)
    ar = linear(r, a0, sample.action)
    u_off = reference.average_velocity(r, jnp.ones(()), ar, sample.obs)
    a1 = ar + (1.0 - r) * u_off
    at = jnp.clip(a1, -1.0, 1.0) if config.clip_endpoint else a1
    # One evaluation gives the disagreement and, through its transpose, the gradient.
    q, pull = jax.vjp(lambda a: critic(sample.obs, a), at)
    (gradient,) = pull(jax.grad(config.gradient)(q))
    return Guidance(r, ar, u_off, a1, normalise(gradient), spread(q))


def effective_eta(eta: float, beta: float, delta: Float[Array, "batch"]) -> Float[Array, "batch"]:
    """eta / (1 + beta delta~), delta~ = delta over its batch mean (Eq. 13).

    The released code's adaptive form has 1 in the place of eta.
    """
    return eta / (1.0 + beta * delta / (jnp.mean(delta) + 1e-8))


def fmq_loss(
    flow: FlowMap, guide: Guidance, eta: Scalar, sample: Transition
) -> tuple[Scalar, Scalar]:
    """|u_theta - sg[u_off + eta g]|^2 (Algorithm 1, line 10), and |u_theta - u_off|_2."""
    u = flow.average_velocity(guide.r, jnp.ones(()), guide.ar, sample.obs)
    value = masked_mean_square(u - sg(guide.u_off + eta * guide.g), sample.mask)
    return value, jnp.sqrt(jnp.sum(jnp.square(sg(u) - guide.u_off)))


def online_metrics(
    guides: Guidance, eta: Float[Array, "batch"], moved: Float[Array, "batch"]
) -> Metrics:
    """|u_theta - u_off| by quarters of r beside eta_eff; clipped share; critic spread."""
    metrics = {
        "fmq/eta_eff": jnp.mean(eta),
        "fmq/moved": jnp.mean(moved),
        "fmq/clipped_share": jnp.mean((jnp.abs(guides.a1) > 1.0).astype(jnp.float32)),
        "critic/spread": jnp.mean(guides.delta),
    }
    quarter = jnp.clip((4.0 * guides.r).astype(jnp.int32), 0, 3)
    for i in range(4):
        inside = (quarter == i).astype(jnp.float32)
        share = jnp.sum(inside * moved) / jnp.maximum(jnp.sum(inside), 1.0)
        metrics[f"fmq/moved_r{25 * i:02d}"] = share
    return metrics


Improvement = Callable[["FMQ", Key, FlowMap, FlowMap, Critic, Transition], tuple[Scalar, Metrics]]
"""The online loss: ``(config, key, flow, reference, critic, batch)`` to its batch mean, metrics."""


@register("q_guidance")
def q_guidance(
    config: "FMQ", key: Key, flow: FlowMap, reference: FlowMap, critic: Critic, batch: Transition
) -> tuple[Scalar, Metrics]:
    """Theorem 3.2's optimum as a regression target (Algorithm 1, lines 6 to 10)."""
    keys = jax.random.split(key, batch.reward.shape[0])
    guides = jax.vmap(lambda k, tr: guidance(k, config, reference, critic, tr))(keys, batch)
    eta = effective_eta(config.eta, config.beta, guides.delta)
    value, moved = jax.vmap(lambda g, e, tr: fmq_loss(flow, g, e, tr))(guides, eta, batch)
    total = jnp.mean(value)
    return total, online_metrics(guides, eta, moved) | {"fmq/loss": total}


@register("fmq")
@dataclasses.dataclass(frozen=True)
class FMQ:
    """Flow map policies with optimal Q-guidance."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop. The page is silent; the code's value."""
    discount: float = 0.99
    """gamma, of one environment step. The page is silent; the code's value, everywhere."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts: nothing to the critic, as in QC and the
    code, or its shorter return (``shorter_returns``). The page does not say."""
    eta: float = 1.0
    """Radius of the trust region on the average velocity (L2, whole chunk). The page gives no
    number; the released code's adaptive form has 1, its constant form 0.5. With 0 (a control)
    ``improve`` is left out, whatever it is: the policy stays u_off to the bit, but for
    ``keep_offline_loss``, and only the critic goes on."""
    beta: float = 0.3
    """Strength of the adaptive factor 1 / (1 + beta delta~); 0 keeps eta constant. The page gives
    no number; the code's value."""
    improve: Improvement = q_guidance
    """How the policy improves online; ``direct_gradient`` is a control."""
    terms: tuple[Term, ...] = fmq_terms()
    """Summands of the offline flow map loss (Eqs. 3 and 5); their curriculum is the code's."""
    keep_offline_loss: float = 0.0
    """Weight of the offline flow map loss online. Algorithm 1 has none."""
    gradient: Aggregate = member(0)
    """Critic whose gradient guides: Algorithm 1 and the code take Q_phi1 alone."""
    aggregate_offline: Aggregate = minimum
    """Value offline, in the TD target and in ranking. The page speaks of clipped double Q; the
    code takes the mean offline."""
    aggregate_online: Aggregate = minimum
    """Value online, in the TD target and in ranking; the minimum in the code too."""
    clip_endpoint: bool = False
    """Whether a_1 is clipped to the box before the gradient is taken there. Algorithm 1 does not
    clip, the code does."""
    act: Refiner = BestOfN(32)
    """Behaviour and evaluation. Algorithm 1 draws one sample (``one_step``); the page's FMQ row
    equals its best-of-32 row, and the code ranks 32."""
    bootstrap: Refiner = BestOfN(32)
    """The next action in the TD target. The page is silent; the code ranks 32."""
    ensemble: int = 2
    """K, critics. The page speaks of two (clipped double Q), as the code has them."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]. The page is
    silent; the code's value."""
    optimiser: Adam = Adam()
    """Optimiser of the flow map. The page is silent; the code's, at 3e-4."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the code."""
    actor: Any = MLPFlow()
    """Net of the flow map: a net configuration. The page is silent; the code's."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration. The page is silent; the code's."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("fmq", self.chunk, self.discount)
        if self.eta < 0 or self.beta < 0 or self.keep_offline_loss < 0:
            raise InvalidConfig(
                "fmq needs eta, beta and keep_offline_loss to be at least 0, got "
                f"{self.eta}, {self.beta} and {self.keep_offline_loss}"
            )
        values = self.gradient, self.aggregate_offline, self.aggregate_online
        check_critic("fmq", self.tau, self.ensemble, *values)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    @property
    def stays(self) -> bool:
        """Whether nothing trains the policy online."""
        return not self.eta and not self.keep_offline_loss

    def init(self, key: Key, spec: Spec) -> "FMQAgent":
        """The agent of the offline phase, before any update."""
        key_flow, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return self.around(
            Trainable.create(flow, self.optimiser),
            TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            jnp.zeros((), jnp.int32),
            spec.offline_updates,
        )

    def around(
        self, actor: Trainable[FlowMap], critic: TDCritic, count: Int[Array, ""], updates: int
    ) -> "FMQAgent":
        """The agent of the offline phase with a flow map and critics that exist.

        ``updates`` is the length of that phase, ``count`` how many are done.
        """
        return FMQAgent(
            config=self,
            cloning=Cloning(self.terms, updates),
            actor=actor,
            reference=None,
            critic=critic,
            count=count,
        )


class FMQAgent(Agent):
    """Offline, without a reference: clone, and learn the critic of best-of-N. Online: improve."""

    config: FMQ = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    reference: FlowMap | None
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the flow map and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["FMQAgent", Metrics]:
        """One step of the critic, then one of the flow map, online with the new critic."""
        if self.reference is None:
            return self._clone(key, batch)
        return self._improve(key, batch, self.reference)

    def begin_online(self, key: Key) -> "FMQAgent":
        """Freezes the flow map as the reference u_off, once; optimiser states go on."""
        del key
        if self.reference is not None:
            return self
        # A copy, because the loop donates its buffers and none may be given away twice.
        reference = jax.tree.map(jnp.copy, self.actor.model)
        return dataclasses.replace(self, reference=reference)

    def flow(self) -> Flow:
        """The flow map."""
        return self.actor.model

    def teacher(self) -> FlowMap:
        """The flow whose velocity another flow map may learn (``distilled``): the diagonal's."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The phase's aggregate of the online critics."""
        return self.critic.value(self._aggregate, obs, action)

    @property
    def _aggregate(self) -> Aggregate:
        offline = self.reference is None
        return self.config.aggregate_offline if offline else self.config.aggregate_online

    def _learn_critic(self, key: Key, batch: Transition) -> tuple[TDCritic, Metrics]:
        refiner, flow = self.config.bootstrap, self.actor.model
        return self.critic.learn(key, refiner, self._aggregate, flow, batch)

    def _clone(self, key: Key, batch: Transition) -> tuple["FMQAgent", Metrics]:
        key_next, key_flow = jax.random.split(key)
        critic, metrics = self._learn_critic(key_next, batch)
        actor, flow_metrics = self.cloning.step(key_flow, self.actor, batch, self.count)
        agent = dataclasses.replace(self, actor=actor, critic=critic, count=self.count + 1)
        return agent, metrics | flow_metrics

    def _improve(
        self, key: Key, batch: Transition, reference: FlowMap
    ) -> tuple["FMQAgent", Metrics]:
        key_next, key_guide, key_keep = jax.random.split(key, 3)
        config = self.config
        critic, critic_metrics = self._learn_critic(key_next, batch)
        agent = dataclasses.replace(self, critic=critic, count=self.count + 1)
        if config.stays:
            return agent, critic_metrics

        def loss(flow: FlowMap) -> tuple[Scalar, Metrics]:
            total, metrics = jnp.zeros(()), {}
            if config.eta:
                total, metrics = config.improve(
                    config, key_guide, flow, reference, critic.online.model, batch
                )
            if config.keep_offline_loss:
                kept, kept_metrics = self.cloning(key_keep, flow, batch, self.count)
                total, metrics = total + config.keep_offline_loss * kept, metrics | kept_metrics
            return total, metrics

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(self.actor.model)
        agent = dataclasses.replace(agent, actor=self.actor.step(gradient))
        return agent, critic_metrics | metrics
