"""QAM: Q-learning with adjoint matching (Li and Levine 2026).

A velocity v_beta clones the data. Another, v, is to sample pi_beta exp(tau Q), up to a constant: on
paths of its own memoryless SDE (``flows.sde``) it is regressed onto v_beta - sigma^2 / 2 g, where
the lean adjoint g begins as -tau grad_a mean_k Qbar_k(s, clip(a_1)), of the target critics without
pessimism, and comes back through a Polyak average of v_beta. No gradient passes through a path. The
flow of v acts, by Euler steps, and so do the heads that the paper puts on it:

    QAM       ``QAM()``: the flow itself
    QAM-F     ``qam_f()``: a one-step actor distilled from it, which climbs the critics
    QAM-E     ``qam_e()``: a bounded edit of its actions, by a tanh-Gaussian of tuned entropy
    BAM       ``bam()``, the paper's control: back-propagation through the SDE,
              -tau Q(s, clip(a_1)) + h sum_i 2 |v - v_beta|^2 / sigma_i^2

In BAM Q is the online critics' pessimistic value. The released code leaves h out there, which is
``inverse_temperature`` divided by ``steps``. It adds all losses up for one Adam behind one clipping
of the whole gradient's norm at 1 (the paper: of every entry), so that the scale of one loss sets
the critics' steps; here every part has its own Adam, which clips its own gradient. Its target
networks follow the parameters from before the update, ours the new ones; critic, v_beta, v and head
are stepped in this order. Its cloning leaves out chunks that an end cuts, ours masks their entries.
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
from flowpolicy.agents.heads import EditHead, FlowHead, Head, HeadState, OneStepHead
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Flow,
    FlowMap,
    Integrated,
    adjoint_matching,
    control_cost,
    lean_adjoint,
    memoryless_path,
)
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean, pessimistic, polyak

sg = jax.lax.stop_gradient

Improvement = Callable[["QAM", Key, FlowMap, FlowMap, TDCritic, Transition], tuple[Scalar, Metrics]]
"""The loss of v: ``(config, key, v, v_beta, critic, batch)`` to its batch mean and metrics."""


def adjoint_of(
    config: "QAM", critic: Critic, base: FlowMap, path: Float[Array, "points d"], s: Observation
) -> Float[Array, "steps d"]:
    """The lean adjoint of exp(tau Q) along one path; 0 in entries that end outside the box."""
    slope = jax.grad(lambda a: mean(critic(s, jnp.clip(a, -1.0, 1.0))))(path[-1])
    return lean_adjoint(base, path, -config.inverse_temperature * slope, s)


@register("match_adjoint")
def match_adjoint(
    config: "QAM", key: Key, flow: FlowMap, base: FlowMap, critic: TDCritic, batch: Transition
) -> tuple[Scalar, Metrics]:
    """QAM: regression onto the lean adjoint, on paths that carry no gradient."""

    def one(key: Key, s: Observation) -> tuple[Scalar, Array]:
        path = memoryless_path(key, sg(flow), sg(base), config.steps, s)
        adjoint = adjoint_of(config, critic.target, sg(base), path, s)
        return adjoint_matching(flow, base, path, adjoint, s), adjoint

    value, adjoint = jax.vmap(one)(jax.random.split(key, batch.reward.shape[0]), batch.obs)
    total = jnp.mean(value)
    # Never clipped: an adjoint that overflows shows here, in the loss, and stops the run.
    return total, {
        "qam/loss": total,
        "qam/adjoint": jnp.mean(jnp.linalg.norm(adjoint[:, 0], axis=-1)),
        "qam/adjoint_largest": jnp.max(jnp.abs(adjoint)),
    }


@register("back_propagate")
def back_propagate(
    config: "QAM", key: Key, flow: FlowMap, base: FlowMap, critic: TDCritic, batch: Transition
) -> tuple[Scalar, Metrics]:
    """BAM: the control problem itself, whose gradient passes through every step of the path."""

    def one(key: Key, s: Observation) -> tuple[Scalar, Scalar]:
        path = memoryless_path(key, flow, sg(base), config.steps, s)
        q = critic.value(config.aggregate, s, jnp.clip(path[-1], -1.0, 1.0))
        return q, control_cost(flow, sg(base), path, s)

    q, cost = jax.vmap(one)(jax.random.split(key, batch.reward.shape[0]), batch.obs)
    total = jnp.mean(cost - config.inverse_temperature * q)
    return total, {"qam/loss": total, "qam/q": jnp.mean(q), "qam/cost": jnp.mean(cost)}


@register("qam")
@dataclasses.dataclass(frozen=True)
class QAM:
    """Q-learning with adjoint matching: a flow that samples pi_beta exp(tau Q)."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop. The paper: 5 on cube, scene and puzzle, 1 in
    mazes."""
    discount: float = 0.99
    """gamma, of one environment step; the paper has 0.995 on antmaze-giant and humanoidmaze."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts: nothing to the critic, as in the code."""
    inverse_temperature: float = 1.0
    """tau of the paper, above 0 and finite; it is tied to the scale of the rewards. The paper: 1
    on scene, cube-double and cube-quadruple, 3 on puzzle-3x3, cube-triple, antmaze-giant and
    humanoidmaze, 10 on antmaze-large, 30 on puzzle-4x4."""
    steps: int = 10
    """Steps of the SDE and Euler steps of the flow, at least 2; the paper has 10."""
    improve: Improvement = match_adjoint
    """How v learns from the critics; ``back_propagate`` is BAM."""
    head: Head = FlowHead()
    """What acts: the flow, or a one-step actor (QAM-F) or an edit (QAM-E) trained on it."""
    act: Refiner = OneStep()
    """Behaviour and evaluation; the paper draws one action, also to evaluate."""
    bootstrap: Refiner = OneStep()
    """The next action in the TD target; the paper's is one of those that act."""
    aggregate: Aggregate = pessimistic(0.5)
    """Value in the TD target, in BAM's loss, and in ranking, where the code would take the mean
    and its runs rank nothing. The paper: rho = 0.5, but 0 (the mean) on humanoidmaze."""
    ensemble: int = 10
    """K, critics; the paper has 10."""
    tau: float = 0.005
    """Share of the new parameters in the Polyak averages of critics and v_beta, in (0, 1]."""
    optimiser: Adam = Adam(clip=1.0)
    """Optimiser of v_beta, of v, and of the head, for each its own."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above."""
    actor: Any = MLPVelocity()
    """Net of v_beta and of v: a net configuration."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("qam", self.chunk, self.discount)
        if self.steps < 2:
            raise InvalidConfig(
                f"qam.steps must be at least 2, got {self.steps}: a path ends with a step of the "
                "behaviour flow, so that with one step none would be the policy's; the paper has "
                "10; at 3 the success of its QAM-E falls to a third of that"
            )
        if not (self.inverse_temperature > 0 and math.isfinite(self.inverse_temperature)):
            raise InvalidConfig(
                "qam.inverse_temperature must be above 0 and finite, got "
                f"{self.inverse_temperature}: at 0 the critics do not count, and a temperature of "
                "0 has no law to sample; the paper's values lie between 0.1 and 30"
            )
        check_critic("qam", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "QAMAgent":
        """The agent before any update; v_beta and v begin apart, as in the code."""
        key_behaviour, key_flow, key_head, key_critic = jax.random.split(key, 4)
        size = self.view.chunk * spec.action
        behaviour = FlowMap(self.actor.init(key_behaviour, spec, size), size)
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return QAMAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            behaviour=Trainable.create(behaviour, self.optimiser),
            base=jax.tree.map(jnp.copy, behaviour),
            actor=Trainable.create(flow, self.optimiser),
            head=self.head.init(key_head, spec, size, self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


def qam_f(alpha: float = 300.0, **fields: Any) -> QAM:
    """QAM-F: a one-step actor distilled from the flow, which climbs the critics."""
    return QAM(head=OneStepHead(alpha=alpha), **fields)


def qam_e(scale: float = 0.1, **fields: Any) -> QAM:
    """QAM-E: the flow's action, edited by at most ``scale`` in every entry."""
    return QAM(head=EditHead(scale=scale), **fields)


def bam(**fields: Any) -> QAM:
    """BAM, the paper's control: the same target, by back-propagation through the SDE."""
    return QAM(improve=back_propagate, **fields)


class QAMAgent(Agent):
    """v_beta and its average ``base``, v, the head and the critics, offline and online alike."""

    config: QAM = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    behaviour: Trainable[FlowMap]
    base: FlowMap
    actor: Trainable[FlowMap]
    head: HeadState
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on what the head makes of the flow, and the critic."""
        refiner = self.head.refiner(self.config.act)
        return refiner(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["QAMAgent", Metrics]:
        """One step of the critic, of v_beta and its average, of v, and of the head."""
        key_next, key_clone, key_path, key_head = jax.random.split(key, 4)
        config = self.config
        critic, metrics = self.critic.learn(
            key_next, self.head.refiner(config.bootstrap), config.aggregate, self.flow(), batch
        )
        behaviour, cloned = self.cloning.step(key_clone, self.behaviour, batch, self.count)
        base = polyak(self.base, behaviour.model, config.tau)
        (_, improved), gradient = jax.value_and_grad(
            lambda flow: config.improve(config, key_path, flow, base, critic, batch), has_aux=True
        )(self.actor.model)
        actor = self.actor.step(gradient)
        flow = Integrated(actor.model, config.steps)
        head, headed = self.head.learn(key_head, flow, critic.online.model, batch)
        agent = dataclasses.replace(
            self, behaviour=behaviour, base=base, actor=actor, head=head, critic=critic,
            count=self.count + 1,
        )  # fmt: skip
        return agent, metrics | cloned | improved | headed

    def flow(self) -> Flow:
        """What the head makes of v's flow; an edit is then the one in the middle of its law."""
        return self.head.flow(Integrated(self.actor.model, self.config.steps))

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``): v."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)
