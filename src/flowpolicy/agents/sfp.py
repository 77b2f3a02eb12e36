"""SFP: streaming flow policy (Jiang et al., CoRL 2025). Actions are points of one flow trajectory.

A velocity v_theta(x, t | h) of the size of one action, not of a chunk, is learned around
demonstrated trajectories (``flows.streaming``), h being the last observations. To act, it is
integrated from the action that was executed last, and each action is executed as soon as it is
there; after ``execute`` of them the flow begins again with new observations (receding horizon).
Imitation alone: no critic, and the online phase goes on cloning what it is given.

Actions must be positions, or whatever else the next action is near to. Where a trajectory starts is
a part: ``last_action``, or ``measured`` entries of the observation, as in the released code.

The released code predicts 16 points, the first forced to the current position; those are the 15
actions here. Its net (a U-Net with FiLM), AdamW with warm-up and a cosine, and the averaged weights
it acts with are replaced by the library's MLP and Adam.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk, lacking
from flowpolicy.data.chunk import View
from flowpolicy.data.trajectory import TrajectoryView
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Stabilised, Tube, integrate, streaming_loss
from flowpolicy.nets import Adam, Fourier, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import Cost, OneStep, Refiner
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

Flat = Float[Array, "obs"]
Start = Callable[[Vector, Flat], Vector]
"""Where a trajectory starts: the last action and the flat observation to an action."""


@register("last_action")
def last_action(last: Vector, now: Flat) -> Vector:
    """The action executed last; 0 at an episode's start."""
    del now
    return last


@register("measured")
@dataclasses.dataclass(frozen=True)
class Measured:
    """Entries of the newest observation, which must be in the action's units (no normaliser)."""

    entries: tuple[int, ...] = ()
    """Of the flat observation, one for each entry of the action, from 0; its first ones where none
    are given."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if min(self.entries, default=0) < 0:
            raise InvalidConfig(
                f"measured.entries are entries of the observation, from 0, got {self.entries}"
            )

    def __call__(self, last: Vector, now: Flat) -> Vector:
        """The entries."""
        entries = self.entries or tuple(range(last.shape[0]))
        if len(entries) != last.shape[0] or max(entries) >= now.shape[0]:
            raise InvalidConfig(
                f"measured.entries must be {last.shape[0]} of the observation's "
                f"{now.shape[0]} entries, got {self.entries}"
            )
        return now[jnp.asarray(entries)]


@register("sfp")
@dataclasses.dataclass(frozen=True)
class SFP:
    """Streaming flow policy: imitation that emits each action as it is integrated."""

    chunk: int = 1
    """1, because every action is executed as soon as it exists."""
    horizon: int = 15
    """Actions of a trajectory; 15 follow the first of the released code's 16 points."""
    execute: int = 8
    """Actions executed before the flow begins again, at most ``horizon``; the released code's 8."""
    history: int = 2
    """Observations the flow is conditioned on; the released code's 2."""
    substeps: int = 1
    """Euler steps an action; the released code has 6 or 1."""
    tube: Tube = Stabilised()
    """The conditional flow: ``stabilised`` (deterministic) or ``latent`` (stochastic)."""
    start: Start = last_action
    """Where a trajectory starts: ``last_action``, or ``measured(entries=...)``."""
    spread: float = 1.0
    """Noise around the start when acting, over sigma_0, at least 0. The paper samples; its code
    begins at the start itself (0), which leaves ``stabilised`` without a choice among modes."""
    discount: float = 0.99
    """gamma of one environment step (unused by the loss; the batch view carries it)."""
    optimiser: Adam = Adam(rate=1e-4)
    """Optimiser of the velocity."""
    actor: Any = MLPVelocity(embed=Fourier())
    """Net of the velocity: a net configuration."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.chunk != 1:
            raise InvalidConfig(
                f"sfp.chunk must be 1, got {self.chunk}: it streams, so every action is executed "
                "as soon as it exists. What it predicts is horizon (15 after the first of the "
                "paper's 16 points), what it executes of that execute (8)"
            )
        check_chunk("sfp", self.chunk, self.discount)
        counts = min(self.horizon, self.history, self.substeps) >= 1
        if not (counts and 1 <= self.execute <= self.horizon and 0 <= self.spread < math.inf):
            raise InvalidConfig(
                "sfp needs horizon, history, substeps >= 1, execute in 1 .. horizon and "
                f"spread >= 0 and finite, got {self.horizon}, {self.history}, {self.substeps}, "
                f"{self.execute} and {self.spread} (released: 15, 2, 6 or 1, 8 and 0; the paper's "
                "spread is 1)"
            )
        # Of the action. A latent that is off its path comes back along 1 - (1 - sigma_1) t, a
        # line, which Euler steps follow to the end however steep it is for what is left of it.
        if self.tube.gain >= self.horizon * self.substeps:
            raise InvalidConfig(
                f"sfp.tube's gain must be below horizon * substeps = {self.horizon * self.substeps}"
                f", got {self.tube.gain}: an Euler step would go past the trajectory (the paper's "
                "gains: 0 to 2.5)"
            )

    @property
    def view(self) -> View:
        """Trajectories, with the history of observations."""
        return TrajectoryView(self.horizon, self.history, self.discount)

    @property
    def reads_units(self) -> bool:
        """Whether a trajectory starts where the observation says."""
        return isinstance(self.start, Measured)

    @property
    def act(self) -> Refiner:
        """One sample; nothing ranks."""
        return OneStep()

    def init(self, key: Key, spec: Spec) -> "SFPAgent":
        """The agent before any update."""
        size = self.tube.copies * spec.action
        seen = dataclasses.replace(spec, obs=(self.history * spec.obs_size,))
        flow = FlowMap(self.actor.init(key, seen, size), size)
        return SFPAgent(
            config=self,
            sizes=(spec.obs_size, spec.action),
            actor=Trainable.create(flow, self.optimiser),
            count=jnp.zeros((), jnp.int32),
        )


class Stream(eqx.Module):
    """What acting remembers.

    history: the last observations, flat, oldest first
    seen:    the history that the present trajectory was begun with
    state:   where the flow is
    last:    the action executed last
    count:   actions since the episode began
    """

    history: Float[Array, "k obs"]
    seen: Float[Array, "seen"]
    state: Float[Array, "x"]
    last: Float[Array, "a"]
    count: Int[Array, ""]


class SFPAgent(Agent):
    """The velocity, offline and online alike."""

    config: SFP = eqx.field(static=True)
    sizes: tuple[int, int] = eqx.field(static=True)
    actor: Trainable[FlowMap]
    count: Int[Array, ""]

    def memory(self) -> Stream:
        """Before an episode: the action 0, and nothing seen."""
        (obs, action), k = self.sizes, self.config.history
        return Stream(
            history=jnp.zeros((k, obs)),
            seen=jnp.zeros(k * obs),
            state=jnp.zeros(self.config.tube.copies * action),
            last=jnp.zeros(action),
            count=jnp.zeros((), jnp.int32),
        )

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """The next action: one segment of the flow, from a new start where one is due."""
        config, now = self.config, flatten_obs(obs)
        older = jnp.concatenate([memory.history[1:], now[None]])
        history = jnp.where(memory.count == 0, jnp.broadcast_to(now, older.shape), older)
        step = memory.count % config.execute
        start = config.tube.start(key, config.start(memory.last, now), config.spread)
        seen = jnp.where(step == 0, history.reshape(-1), memory.seen)
        state = jnp.where(step == 0, start, memory.state)

        t = step.astype(state.dtype) / config.horizon
        end = t + 1.0 / config.horizon
        state = integrate(self.actor.model, config.substeps, state, seen, start=t, end=end)
        action = jnp.clip(state[: self.sizes[1]], -1.0, 1.0)
        return action, Stream(history, seen, state, action, memory.count + 1)

    def cost(self, refiner: Refiner) -> Cost:
        """The Euler steps of an action; nothing ranks."""
        del refiner
        steps = self.config.substeps
        return Cost(policy=steps, critic=0, gradients=0, depth=steps)

    def update(self, key: Key, batch: Transition) -> tuple["SFPAgent", Metrics]:
        """One step of flow matching around the batch's trajectories."""
        keys = jax.random.split(key, batch.reward.shape[0])

        def loss(flow: FlowMap) -> Scalar:
            return jnp.mean(jax.vmap(lambda k, tr: sfp_loss(k, self.config, flow, tr))(keys, batch))

        value, gradient = jax.value_and_grad(loss)(self.actor.model)
        agent = dataclasses.replace(self, actor=self.actor.step(gradient), count=self.count + 1)
        return agent, {"flow/streaming": value}

    def flow(self) -> Flow:
        """There is none from noise to an action."""
        raise lacking("sfp", "flow from noise")

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """Imitation has no critic."""
        raise lacking("sfp", "critic")


def sfp_loss(key: Key, config: SFP, flow: FlowMap, sample: Transition) -> Scalar:
    """``streaming_loss`` of one transition of ``TrajectoryView``."""
    stack = jax.vmap(flatten_obs) if config.history > 1 else lambda s: flatten_obs(s)[None]
    history = stack(sample.obs)
    points = sample.action.reshape(config.horizon + 1, -1)
    points = points.at[0].set(config.start(points[0], history[-1]))
    mask = sample.mask.reshape(points.shape)[1:]
    return streaming_loss(key, config.tube, flow, points, mask, history.reshape(-1))
