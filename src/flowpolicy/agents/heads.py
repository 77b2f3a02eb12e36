"""Heads: what acts in the place of a flow that a critic has adapted, as QAM's variants have it.

``flow_head`` is the flow itself, ``one_step_head`` an actor of one step that is distilled from it
(QAM-F), ``edit_head`` a bounded change of its actions (QAM-E; both Li and Levine 2026). A head's
configuration builds its state, which learns by itself: nothing of it reaches the flow.
"""

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowpolicy.agents.one_step import OneStepFlow, distillation
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, Integrated
from flowpolicy.nets import Adam, MLPGaussian, MLPOneStep, TanhGaussian, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import Cost, Refiner, from_noise
from flowpolicy.refine.core import Q
from flowpolicy.types import (
    Key,
    Metrics,
    Observation,
    Scalar,
    Spec,
    Transition,
    Vector,
    flatten_obs,
)
from flowpolicy.values import Critic

sg = jax.lax.stop_gradient


@runtime_checkable
class HeadState(Protocol):
    """A pytree of what a head has learned."""

    def flow(self, flow: Integrated) -> Flow:
        """What acts, made of the adapted flow."""
        ...

    def refiner(self, refiner: Refiner) -> Refiner:
        """``refiner`` with whatever the head draws for each action; called on ``flow``'s result."""
        ...

    def learn(
        self, key: Key, flow: Integrated, critic: Critic, batch: Transition
    ) -> tuple["HeadState", Metrics]:
        """One gradient step."""
        ...


@runtime_checkable
class Head(Protocol):
    """A frozen dataclass that builds a head for chunks of ``size`` numbers."""

    def init(self, key: Key, spec: Spec, size: int, optimiser: Adam) -> HeadState:
        """The head before any update."""
        ...


@register("flow_head")
@dataclasses.dataclass(frozen=True)
class FlowHead:
    """The flow acts itself: QAM."""

    def init(self, key: Key, spec: Spec, size: int, optimiser: Adam) -> "Unheaded":
        """Nothing to learn."""
        del key, spec, size, optimiser
        return Unheaded()


class Unheaded(eqx.Module):
    """The state of ``flow_head``: none."""

    def flow(self, flow: Integrated) -> Flow:
        """The flow."""
        return flow

    def refiner(self, refiner: Refiner) -> Refiner:
        """The refiner."""
        return refiner

    def learn(
        self, key: Key, flow: Integrated, critic: Critic, batch: Transition
    ) -> tuple["Unheaded", Metrics]:
        """Nothing."""
        del key, flow, critic, batch
        return self, {}


@register("one_step_head")
@dataclasses.dataclass(frozen=True)
class OneStepHead:
    """FQL's actor on the adapted flow: alpha |mu - sg[clip(flow)]|^2 - mean_k Q_k(s, clip(mu))."""

    alpha: float = 300.0
    """Weight of the distillation, above 0. QAM-F: 300 on scene and cube-triple, 30 on
    cube-quadruple, antmaze and humanoidmaze, 3 on puzzle-4x4; elsewhere QAM was as good."""
    actor: Any = MLPOneStep()
    """Net of mu: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 < self.alpha < math.inf:
            raise InvalidConfig(
                "one_step_head.alpha must be above 0 and finite (the paper has 3 to 300), got "
                f"{self.alpha}; the paper's 0 stands for QAM without this actor, which is flow_head"
            )

    def init(self, key: Key, spec: Spec, size: int, optimiser: Adam) -> "OneStepState":
        """The head before any update."""
        actor = Trainable.create(self.actor.init(key, spec, size), optimiser)
        return OneStepState(self, actor)


class OneStepState(eqx.Module):
    """The actor mu(s, z) under training."""

    config: OneStepHead = eqx.field(static=True)
    actor: Trainable[Any]

    def flow(self, flow: Integrated) -> Flow:
        """mu as a flow (``OneStepFlow``); from later times the adapted flow goes on."""
        return OneStepFlow(self.actor.model, flow)

    def refiner(self, refiner: Refiner) -> Refiner:
        """The refiner: mu draws nothing but its noise."""
        return refiner

    def learn(
        self, key: Key, flow: Integrated, critic: Critic, batch: Transition
    ) -> tuple["OneStepState", Metrics]:
        """One step down the loss."""
        noise = jax.random.normal(key, batch.action.shape)

        def one(mu: Any, z: Vector, s: Observation) -> tuple[Scalar, Scalar]:
            distance, action = distillation(mu, flow, z, s)
            return distance, jnp.mean(critic(s, jnp.clip(action, -1.0, 1.0)))

        def loss(mu: Any) -> tuple[Scalar, Metrics]:
            distance, q = jax.tree.map(
                jnp.mean, jax.vmap(lambda z, s: one(mu, z, s))(noise, batch.obs)
            )
            return self.config.alpha * distance - q, {"head/distillation": distance, "head/q": q}

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(self.actor.model)
        return dataclasses.replace(self, actor=self.actor.step(gradient)), metrics


@register("edit_head")
@dataclasses.dataclass(frozen=True)
class EditHead:
    """clip(a + scale e), a an action of the flow, clipped, e ~ a tanh-Gaussian of s and a.

    e climbs the critics' mean at a temperature that keeps its entropy; the TD target holds no
    entropy. What acts draws e anew for each call, in evaluation too.
    """

    scale: float = 0.1
    """The most that an entry is changed by, in (0, 2]. QAM-E: 0.1 on puzzle-3x3, cube-triple,
    cube-quadruple, antmaze and humanoidmaze, 0.9 on puzzle-4x4; elsewhere QAM was as good."""
    entropy: float = -0.5
    """Target entropy of e per entry of the chunk, in nats, below the 0.69 of a uniform entry."""
    temperature: float = 1.0
    """Temperature at the start, above 0."""
    net: Any = MLPGaussian()
    """Net of e's law: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        positive = 0 < self.scale <= 2 and 0 < self.temperature < math.inf
        if not (positive and -math.inf < self.entropy < math.log(2.0)):
            raise InvalidConfig(
                "edit_head needs scale in (0, 2] (the paper has 0.1 and 0.9; 2 is the width of the "
                "box), temperature > 0 (1) and an entropy (-0.5) below the 0.69 nats of a uniform "
                f"entry, all finite, got {self.scale}, {self.temperature} and "
                f"{self.entropy}; the paper's scale of 0 stands for QAM, which is flow_head"
            )

    def init(self, key: Key, spec: Spec, size: int, optimiser: Adam) -> "EditState":
        """The head before any update."""
        # The net sees the flow's action beside the observation.
        seen = dataclasses.replace(spec, obs={"action": (size,), "obs": (spec.obs_size,)})
        return EditState(
            config=self,
            net=Trainable.create(self.net.init(key, seen, size), optimiser),
            temperature=Trainable.create(jnp.log(jnp.float32(self.temperature)), optimiser),
        )


def edit_law(net: Any, a: Vector, s: Observation) -> TanhGaussian:
    """The law of e at one action of the flow."""
    return net({"action": a, "obs": flatten_obs(s)})


class Edited(eqx.Module):
    """A flow whose actions are edited where it ends; earlier points of it are not.

    One ``noise``, that of the edit, for all actions that are drawn from it.
    """

    base: Integrated
    net: Any
    noise: Vector
    scale: float = eqx.field(static=True)

    @property
    def action(self) -> int:
        """Size of the action."""
        return self.base.action

    def nfe(self, r: float) -> int:
        """The flow's, and one of the edit's net."""
        return self.base.nfe(r) + 1

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``."""
        point = self.base.flow(r, t, a, s)
        inside = jnp.clip(point, -1.0, 1.0)
        law = edit_law(self.net, inside, s)
        e = jnp.tanh(law.mean + jnp.exp(law.log_std) * self.noise)
        return jnp.where(t < 1.0, point, jnp.clip(inside + self.scale * e, -1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class SampledEdit:
    """A refiner whose candidates are all edited by one draw, anew at each call."""

    refiner: Refiner

    @property
    def nfe(self) -> int:
        """The refiner's."""
        return self.refiner.nfe

    def cost(self, flow: Flow) -> Cost:
        """The refiner's."""
        return self.refiner.cost(flow)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """One action of ``flow``, an ``Edited``."""
        key_edit, key_refine = jax.random.split(key)
        noise = jax.random.normal(key_edit, (flow.action,))
        return self.refiner(key_refine, dataclasses.replace(flow, noise=noise), q, s)  # pyright: ignore[reportArgumentType, reportCallIssue]


class EditState(eqx.Module):
    """The law of the edit under training, and the logarithm of its temperature."""

    config: EditHead = eqx.field(static=True)
    net: Trainable[Any]
    temperature: Trainable[Array]

    def flow(self, flow: Integrated) -> Flow:
        """The flow, edited by the middle of the law: no noise."""
        return Edited(flow, self.net.model, jnp.zeros(flow.action), self.config.scale)

    def refiner(self, refiner: Refiner) -> Refiner:
        """``refiner`` on an edit that is drawn."""
        return SampledEdit(refiner)

    def learn(
        self, key: Key, flow: Integrated, critic: Critic, batch: Transition
    ) -> tuple["EditState", Metrics]:
        """One step of the law and one of the temperature."""
        config, alpha = self.config, jnp.exp(self.temperature.model)
        keys = jax.random.split(key, batch.reward.shape[0])

        def loss(net: Any) -> tuple[Scalar, tuple[Scalar, Scalar]]:
            terms = jax.vmap(lambda k, s: edit_terms(k, config, net, flow, critic, s))
            q, entropy = jax.tree.map(jnp.mean, terms(keys, batch.obs))
            return -q - alpha * entropy, (q, entropy)

        (_, (q, entropy)), gradient = jax.value_and_grad(loss, has_aux=True)(self.net.model)
        target = config.entropy * batch.action.shape[-1]
        slope = jax.grad(lambda log: jnp.exp(log) * (sg(entropy) - target))
        temperature = self.temperature.step(slope(self.temperature.model))
        metrics = {"head/q": q, "head/entropy": entropy, "head/temperature": alpha}
        state = dataclasses.replace(self, net=self.net.step(gradient), temperature=temperature)
        return state, metrics


def edit_terms(
    key: Key, config: EditHead, net: Any, flow: Integrated, critic: Critic, s: Observation
) -> tuple[Scalar, Scalar]:
    """mean_k Q_k at one edited action of the flow, and -log of the edit's density.

    The caller differentiates by ``net`` alone; the flow's action carries no gradient.
    """
    key_flow, key_edit = jax.random.split(key)
    a = sg(jnp.clip(from_noise(key_flow, flow, s), -1.0, 1.0))
    e, log_prob = edit_law(net, a, s).sample(key_edit)
    q = critic(s, jnp.clip(a + config.scale * e, -1.0, 1.0))
    return jnp.mean(q), -jnp.sum(log_prob)
