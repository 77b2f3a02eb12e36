"""SWFP, reconstructed: a flow fine-tuned block by block (Sun et al. 2025, arXiv 2510.15388).

We could read the abstract of the paper and neither its body nor a code. Of the abstract are: a flow
policy is trained by cloning, its Euler steps of one size become a cascade of small flow blocks,
each is fine-tuned online as one step of the Jordan-Kinderlehrer-Otto scheme, near the previous
iterate in the sense of Wasserstein, with entropic regularisation. All else here is ours, and its
numbers say nothing about the paper's.

Offline a velocity clones the data by flow matching, and critics learn the value of its flow by K
Euler steps. ``begin_online`` cuts it into K blocks T_k, copies of the net, block k at time k / K.
Online a path a_0 .. a_K of the cascade is drawn without a gradient, and block k alone descends

    -lambda Q + |T_k(a_k) - sg[previous iterate]|^2 / (2 eta) - alpha log |det dT_k / da|,
    lambda = sg[1 / mean |Q(s, clip(a_K))|],

its proximal step with a bound in the place of W2 (``flows.blocks``). No gradient enters another
block, so that intermediate values of one block alone are kept. What the abstract leaves open are
parts:

    previous   previous_map: T_k as it was ``inner`` updates ago, which keeps what was cloned;
               previous_law: a_k itself, the law before the block, as in the scheme for densities
    judge      finished_action: Q of a_K, its gradient handed to T_k(a_k) as it is;
               own_action: Q of T_k(a_k) itself, of whose like the critics have seen nothing
    improve    stepwise: the above; end_to_end: a control, one -lambda Q of the finished action and
               all restraints summed, with gradients through all blocks

Each block moves by about eta lambda grad Q in one proximal step, so the action by K times that.
Time 0 is noise and time 1 the action.
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
from flowpolicy.flows import (
    Blocks,
    Flow,
    FlowMap,
    Integrated,
    Iterate,
    Judge,
    Map,
    Value,
    Volume,
    cut,
    finished_action,
    previous_map,
    probed_volume,
    proximity,
)
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, minimum

sg = jax.lax.stop_gradient

Improvement = Callable[["SWFP", Key, Blocks, Blocks, Critic, Transition], tuple[Blocks, Metrics]]
"""``(config, key, blocks, previous, critic, batch)`` to a gradient, shaped as blocks; metrics."""


def restraint(
    config: "SWFP", key: Key, block: Map, old: Map, a: Vector, moved: Vector
) -> tuple[Scalar, Metrics]:
    """The terms of a proximal step beside Q, of one sample: ``moved`` is T_k(a)."""
    anchor = config.previous(old, a)
    near = proximity(moved, anchor, config.eta)
    metrics = {"swfp/proximity": near, "swfp/moved": jnp.mean(jnp.square(moved - anchor))}
    if not config.alpha:
        return near, metrics
    volume = config.volume(key, block, a)
    return near - config.alpha * volume, metrics | {"swfp/volume": volume}


def block_loss(
    config: "SWFP", key: Key, q: Value, block: Map, old: Map, a: Vector, end: Vector
) -> tuple[Scalar, Metrics]:
    """The proximal step of one block in one state, of one sample.

    ``q`` is the normalised critic, ``end`` the finished action of the path that ``a`` is on.
    """
    moved = block(a)
    held, metrics = restraint(config, key, block, old, a, moved)
    return held - config.judge(q, moved, end), metrics


def normaliser(
    config: "SWFP", critic: Critic, end: Float[Array, "batch d"], obs: Observation
) -> tuple[Scalar, Metrics]:
    """lambda = sg[1 / mean |Q(s, clip(a_K))|] over a batch."""
    q = jax.vmap(lambda s, a: config.aggregate(critic(s, jnp.clip(a, -1.0, 1.0))))(obs, end)
    scale = sg(1.0 / jnp.mean(jnp.abs(q)))
    return scale, {"swfp/q": jnp.mean(q), "swfp/scale": scale}


def normalised(config: "SWFP", critic: Critic, scale: Scalar, s: Observation) -> Value:
    """lambda Q(s, clip( . )): 0 is its slope in entries that have left the box."""
    return lambda a: scale * config.aggregate(critic(s, jnp.clip(a, -1.0, 1.0)))


def summary(metrics: Metrics) -> Metrics:
    """Means over blocks and batch; how far blocks moved as a root mean square over entries."""
    means = jax.tree.map(jnp.mean, metrics)
    return means | {"swfp/moved": jnp.sqrt(means["swfp/moved"])}


@register("stepwise")
def stepwise(
    config: "SWFP", key: Key, blocks: Blocks, previous: Blocks, critic: Critic, batch: Transition
) -> tuple[Blocks, Metrics]:
    """Every block by its own loss, one after the other: the room of one block's gradient."""
    key_noise, key_volume = jax.random.split(key)
    noise = jax.random.normal(key_noise, batch.action.shape)
    path = jax.vmap(blocks.path)(noise, batch.obs)  # numbers: one block is differentiated
    scale, said = normaliser(config, critic, path[:, -1], batch.obs)

    def one(block: tuple[Key, FlowMap, FlowMap, Scalar, Array]) -> tuple[FlowMap, Metrics]:
        key, flow, old, begin, inputs = block

        def loss(flow: FlowMap) -> tuple[Scalar, Metrics]:
            def sample(key: Key, a: Vector, end: Vector, s: Observation) -> tuple[Scalar, Metrics]:
                q = normalised(config, critic, scale, s)
                new, before = blocks.block(flow, begin, s), blocks.block(old, begin, s)
                return block_loss(config, key, q, new, before, a, end)

            keys = jax.random.split(key, inputs.shape[0])
            value, metrics = jax.vmap(sample)(keys, inputs, path[:, -1], batch.obs)
            return jnp.mean(value), metrics | {"swfp/loss": value}

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(flow)
        return gradient, jax.tree.map(jnp.mean, metrics)

    keys, inputs = jax.random.split(key_volume, blocks.count), jnp.swapaxes(path[:, :-1], 0, 1)
    gradient, metrics = jax.lax.map(one, (keys, blocks.each, previous.each, blocks.times, inputs))
    return dataclasses.replace(blocks, each=gradient), summary(metrics) | said


@register("end_to_end")
def end_to_end(
    config: "SWFP", key: Key, blocks: Blocks, previous: Blocks, critic: Critic, batch: Transition
) -> tuple[Blocks, Metrics]:
    """A control: -lambda Q(a_K) and the restraints of all blocks, by back-propagation through all.

    ``config.judge`` has no part in it.
    """
    key_noise, key_volume = jax.random.split(key)
    noise = jax.random.normal(key_noise, batch.action.shape)
    end = jax.vmap(blocks.path)(noise, batch.obs)[:, -1]
    scale, said = normaliser(config, critic, end, batch.obs)

    def loss(blocks: Blocks) -> tuple[Scalar, Metrics]:
        def sample(key: Key, a: Vector, s: Observation) -> tuple[Scalar, Metrics]:
            path = blocks.path(a, s)

            def one(
                key: Key, flow: FlowMap, old: FlowMap, begin: Scalar, a: Vector, moved: Vector
            ) -> tuple[Scalar, Metrics]:
                new, before = blocks.block(flow, begin, s), blocks.block(old, begin, s)
                return restraint(config, key, new, before, a, moved)

            keys = jax.random.split(key, blocks.count)
            held, metrics = jax.vmap(one)(
                keys, blocks.each, previous.each, blocks.times, path[:-1], path[1:]
            )
            return jnp.sum(held) - normalised(config, critic, scale, s)(path[-1]), metrics

        keys = jax.random.split(key_volume, batch.reward.shape[0])
        value, metrics = jax.vmap(sample)(keys, noise, batch.obs)
        return jnp.mean(value), metrics | {"swfp/loss": value}

    (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(blocks)
    return gradient, summary(metrics) | said


@register("swfp")
@dataclasses.dataclass(frozen=True)
class SWFP:
    """Stepwise flow policy, reconstructed from its abstract; every default is ours."""

    chunk: int = 5
    """h, actions of a chunk, executed open loop."""
    discount: float = 0.99
    """gamma, of one environment step."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts (``whole_chunks``, ``shorter_returns``)."""
    blocks: int = 10
    """K, Euler steps of the flow and blocks it is cut into, at least 2."""
    eta: float = 0.01
    """Length of a proximal step, above 0, in units of 1 / mean |Q| of the batch."""
    alpha: float = 1e-3
    """Weight of the entropy, at least 0, in units of mean |Q|; with 0 no volume is computed."""
    inner: int = 50
    """Updates of one proximal step, at least 2, counted from the cut; then the previous iterate is
    the present one."""
    previous: Iterate = previous_map
    """What W2 keeps a block near: itself before the step, or ``previous_law``, what goes in."""
    judge: Judge = finished_action
    """Which action a block is valued by: the finished one, or ``own_action``."""
    volume: Volume = probed_volume()
    """log |det dT/da| of the entropy: ``probed_volume``, or ``exact_volume`` for few entries."""
    improve: Improvement = stepwise
    """How gradients are taken online; ``end_to_end`` is a control."""
    act: Refiner = OneStep()
    """Behaviour and evaluation: a sample of the flow."""
    bootstrap: Refiner = OneStep()
    """The next action in the TD target."""
    aggregate: Aggregate = minimum
    """Value of an action by the ensemble, everywhere."""
    ensemble: int = 2
    """Critics."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]."""
    optimiser: Adam = Adam()
    """Optimiser of the flow before it is cut."""
    block_optimiser: Adam = Adam()
    """Optimiser of the blocks, begun anew when the flow is cut; a clipped norm is that of all."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None that of the flow."""
    actor: Any = MLPVelocity()
    """Net of the velocity, and so of each block: a net configuration. The abstract's blocks are
    small; ours have the size of what they are cut from."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("swfp", self.chunk, self.discount)
        if self.blocks < 2:
            raise InvalidConfig(
                f"swfp.blocks must be at least 2, got {self.blocks}: a flow in one Euler step "
                "carries noise to the data's mean, and there is no cascade (ours has 10)"
            )
        if not (0 < self.eta < math.inf and 0 <= self.alpha < math.inf):
            raise InvalidConfig(
                "swfp needs eta above 0 and alpha at least 0, both finite, got "
                f"{self.eta} and {self.alpha}: with eta 0 nothing may move, and a negative alpha "
                "would let a block collapse without bound (ours are 0.01 and 0.001)"
            )
        if self.inner < 2:
            raise InvalidConfig(
                f"swfp.inner must be at least 2, got {self.inner}: the first update leaves the "
                "previous iterate, where the pull back to it is 0, so that with one update the "
                "trust region would hold nothing (ours has 50)"
            )
        check_critic("swfp", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "SWFPAgent":
        """The agent of the offline phase, before any update."""
        key_flow, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return SWFPAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            policy=Trainable.create(flow, self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


class Cascade(eqx.Module):
    """The blocks under training, and as they were when this proximal step began.

    count: updates since the flow was cut, where the first step begins
    """

    blocks: Trainable[Blocks]
    previous: Blocks
    count: Int[Array, ""]


class SWFPAgent(Agent):
    """Offline the policy is a flow as it was trained, online a cascade of its blocks."""

    config: SWFP = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    policy: Trainable[FlowMap] | Cascade
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the flow and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["SWFPAgent", Metrics]:
        """One step of the critic, then one of the flow or, once it is cut, of every block."""
        key_next, key_policy = jax.random.split(key)
        config = self.config
        critic, learned = self.critic.learn(
            key_next, config.bootstrap, config.aggregate, self.flow(), batch
        )
        agent = dataclasses.replace(self, critic=critic, count=self.count + 1)
        if isinstance(self.policy, Cascade):
            policy, said = agent._descend(key_policy, self.policy, batch)
        else:
            policy, said = self.cloning.step(key_policy, self.policy, batch, self.count)
        return dataclasses.replace(agent, policy=policy), learned | said

    def begin_online(self, key: Key) -> "SWFPAgent":
        """Cuts the flow into blocks, once; the whole flow and its optimiser's state are let go."""
        del key
        if isinstance(self.policy, Cascade):
            return self
        flow, blocks = self.policy.model, self.config.blocks
        # Cut twice, because the loop donates its buffers and none may be given away twice.
        trained = Trainable.create(cut(flow, blocks), self.config.block_optimiser)
        cascade = Cascade(trained, cut(flow, blocks), jnp.zeros((), jnp.int32))
        return dataclasses.replace(self, policy=cascade)

    def flow(self) -> Flow:
        """The flow by K Euler steps, or its blocks."""
        if isinstance(self.policy, Cascade):
            return self.policy.blocks.model
        return Integrated(self.policy.model, self.config.blocks)

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)

    def _descend(self, key: Key, cascade: Cascade, batch: Transition) -> tuple[Cascade, Metrics]:
        config, blocks, previous = self.config, cascade.blocks, cascade.previous
        gradient, metrics = config.improve(
            config, key, blocks.model, previous, self.critic.online.model, batch
        )
        blocks, count = blocks.step(gradient), cascade.count + 1
        done = count % config.inner == 0
        previous = jax.tree.map(lambda new, old: jnp.where(done, new, old), blocks.model, previous)
        return Cascade(blocks, previous, count), metrics
