"""FPMD: one-step flow policy mirror descent (Chen et al. 2025), purely online.

Mirror descent makes pi(a | s) exp(Q(s, a) / lambda) of a policy pi. Flow matching on actions of pi
itself, weighted by exp(Q / lambda), learns that law without its partition function (states of high
value count more for it). Where the policy is nearly deterministic one Euler step is nearly exact:

    FPMD-R    ``fpmd_r()``: rectified flow, 20 Euler steps while training, one to act
    FPMD-M    ``fpmd_m()``: MeanFlow, one jump always; the equation with no sample on the diagonal

An update follows the released code: at each next observation the best of N particles, with
exploration noise added, stands in the TD target, and it is what the flow regresses, weighted. The
noise's standard deviation falls until its entropy is ``entropy``; there it is also the temperature.
Every sampler starts at ``start`` times the noise that the flow is trained from.

Where we deviate: weights are standardised as they were meant to be (``weigh``); noisy actions are
clipped to the box; the current policy collects, not its average; the critic steps before the
policy. The paper writes MeanFlow with the action at time 0; here noise is at 0.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, flow_matching_terms, weighted
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import (
    Flow,
    FlowMap,
    Moments,
    StandardisedWeights,
    Term,
    Triangle,
    Weighting,
    diagonal,
    equal_weights,
    mean_flow,
    released_weights,
    weight_metrics,
)
from flowpolicy.nets import Adam, MLPCritic, MLPFlow, MLPVelocity, Trainable
from flowpolicy.nets.optimise import either
from flowpolicy.parts import register
from flowpolicy.refine import BestOfN, OneStep, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, minimum

sg = jax.lax.stop_gradient

RELEASED = {
    "start": "0.5", "noise": "0.5", "reward_scale": "0.2, on pixels 1", "entropy": "-1.5 or -0.9",
    "steps": "20", "act_steps": "1", "noise_every": "250", "delay": "2", "memory": "0.001",
}  # fmt: skip
"""What the released runs have, for whoever is refused."""
SMALLEST_RELEASED_NOISE = 0.004
"""exp(3 * 0.1 / noise) must be a number of float32."""


@register("fpmd")
@dataclasses.dataclass(frozen=True)
class FPMD:
    """Flow policy mirror descent: weighted flow matching on the policy's own best actions."""

    chunk: int = 1
    """h, actions of a chunk, executed open loop."""
    discount: float = 0.99
    """gamma, of one environment step."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts (``whole_chunks``, ``shorter_returns``)."""
    terms: tuple[Term, ...] = flow_matching_terms()
    """Summands of the flow's loss: flow matching is FPMD-R, MeanFlow's equation FPMD-M."""
    steps: int = 20
    """Jumps from noise to an action while training and collecting, for a velocity Euler steps."""
    act_steps: int = 1
    """The same in evaluation."""
    start: float = 0.5
    """Standard deviation of the noise that samplers start from, above 0; 1 is the noise of the
    loss. Released: 0.5."""
    weigh: Weighting = StandardisedWeights()
    """Weights of the samples; ``released_weights`` is the code's formula and says what it does,
    ``equal_weights`` leaves the selection alone."""
    act: Refiner = OneStep()
    """Evaluation, by ``act_steps`` jumps and without noise."""
    bootstrap: Refiner = BestOfN(32)
    """The particle: the action collected, the next action in the TD target, and the flow's target.
    ``one_step()`` leaves mirror descent's weights alone."""
    noise: float = 0.5
    """Standard deviation of the exploration noise at the start, above 0 and at most 2, the width of
    the box."""
    entropy: float = -1.5
    """Entropy per entry, in nats, that the exploration noise goes to, of at least -10 and at most 2
    (a standard deviation of 1.8): here one of 0.054. Another default of the code has -0.9."""
    noise_every: int = 250
    """Updates from one step of the noise to the next."""
    delay: int = 2
    """Updates from one step of the policy to the next."""
    memory: float = 0.001
    """Share of a batch in the running moments of the values, in (0, 1]."""
    reward_scale: float = 0.2
    """Factor of rewards in the TD target, above 0; ``value`` tells in the rewards' own units."""
    aggregate: Aggregate = minimum
    """Value in the TD target, in ranking and in the weights."""
    ensemble: int = 2
    """K, critics."""
    tau: float = 0.0025
    """Share of the new parameters in the target critic's Polyak average, in (0, 1]; the code has
    0.005 at every second update."""
    optimiser: Adam = Adam(hold=25_000, anneal=50_000, floor=3e-5)
    """Optimiser of the policy; its steps are every ``delay``-th update."""
    critic_optimiser: Adam = Adam()
    """Optimiser of the critics."""
    noise_optimiser: Adam = Adam(rate=7e-3)
    """Optimiser of the noise."""
    actor: Any = MLPVelocity(width=256, depth=3)
    """Net of the flow: a net configuration. The code's has Mish, and embeds the time."""
    critic: Any = MLPCritic(width=256, depth=3)
    """Net of one critic: a net configuration. The code's has Mish and no LayerNorm."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("fpmd", self.chunk, self.discount)
        for field in ("start", "reward_scale"):
            self._require(field, 0 < getattr(self, field) < math.inf, "above 0 and finite")
        self._require("noise", 0 < self.noise <= 2, "above 0 and at most 2, the width of the box")
        for field in ("steps", "act_steps", "noise_every", "delay"):
            self._require(field, getattr(self, field) >= 1, "at least 1")
        self._require("entropy", -10 <= self.entropy <= 2, "in [-10, 2] nats an entry")
        self._require("memory", 0 < self.memory <= 1, "in (0, 1]")
        check_critic("fpmd", self.tau, self.ensemble, self.aggregate)
        self._check_terms()
        self._check_weights()

    def _check_terms(self) -> None:
        """The net has as many times as the equations that train it."""
        if not self.terms:
            raise InvalidConfig("fpmd.terms must hold at least one term: nothing trains the flow")
        jumps = any(term.residual is not diagonal for term in self.terms)
        if isinstance(self.actor, MLPVelocity) and jumps:
            raise InvalidConfig(
                "fpmd: mlp_velocity has one time, and terms off the diagonal train jumps between "
                "two; fpmd_m() has a net of two times, mlp_flow, fpmd_r() the diagonal alone"
            )
        if isinstance(self.actor, MLPFlow) and not jumps:
            raise InvalidConfig(
                "fpmd: mlp_flow acts by jumps between two times, and its terms train none of them; "
                "fpmd_r() has a net of one time, mlp_velocity, fpmd_m() MeanFlow's equation"
            )

    def _check_weights(self) -> None:
        """Something improves the policy, and no weight overflows by the settings alone."""
        if self.weigh is equal_weights and self.bootstrap in (OneStep(), BestOfN(1)):
            raise InvalidConfig(
                "fpmd: equal_weights with a bootstrap of one sample learn the policy's own actions "
                "and improve nothing; weigh them (standardised_weights()) or select them "
                "(best_of_n(n=32), as released)"
            )
        last = math.exp(self.entropy) / math.sqrt(2.0 * math.pi * math.e)
        least = min(self.noise, last)
        if self.weigh is released_weights and least < SMALLEST_RELEASED_NOISE:
            raise InvalidConfig(
                "fpmd: released_weights divide by the exploration noise, and overflow below "
                f"{SMALLEST_RELEASED_NOISE} of it; entropy must be above -4.1 and noise above "
                "that (the released runs end at an entropy of -1.5 or -0.9), got "
                f"{self.entropy} and {self.noise}"
            )

    def _require(self, field: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InvalidConfig(
                f"fpmd.{field} must be {allowed} (the released runs have {RELEASED[field]}), "
                f"got {getattr(self, field)}"
            )

    @property
    def view(self) -> View:
        """Chunks, weighted as ``ends`` says."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "FPMDAgent":
        """The agent before any update."""
        key_flow, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return FPMDAgent(
            config=self,
            cloning=Cloning(self.terms, spec.offline_updates),
            actor=Trainable.create(flow, self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser, self.tau),
            moments=Moments.create(),
            noise=Trainable.create(jnp.log(jnp.float32(self.noise)), self.noise_optimiser),
            count=jnp.zeros((), jnp.int32),
        )


def fpmd_r(**fields: Any) -> FPMD:
    """FPMD-R: rectified flow, 20 Euler steps while training and one to act."""
    return FPMD(**fields)


def fpmd_m(**fields: Any) -> FPMD:
    """FPMD-M: MeanFlow at a sorted pair of uniform times (no share of it on the diagonal, as
    released), one jump in training too."""
    own = {
        "terms": (Term(mean_flow, Triangle()),),
        "steps": 1,
        "actor": MLPFlow(width=256, depth=3),
    }
    return FPMD(**{**own, **fields})


class Jumps(eqx.Module):
    """A flow map by ``steps`` equal jumps, from noise that is ``start`` times as wide.

    Of a velocity each is an Euler step; of a flow map one is as good as many.
    """

    map: FlowMap
    steps: int = eqx.field(static=True)
    start: float = eqx.field(static=True)

    @property
    def action(self) -> int:
        """Size of the action."""
        return self.map.action

    def nfe(self, r: float) -> int:
        """One evaluation a jump, however short the rest of the way is."""
        del r
        return self.steps

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``; noise is narrowed."""
        dt = (t - r) / self.steps

        def jump(a: Vector, i: Scalar) -> tuple[Vector, None]:
            return self.map.flow(r + i * dt, r + (i + 1.0) * dt, a, s), None

        begin = jnp.where(r > 0, 1.0, self.start).astype(a.dtype) * a
        return jax.lax.scan(jump, begin, jnp.arange(self.steps, dtype=a.dtype))[0]


class FPMDAgent(Agent):
    """The flow, the critic, their values' moments, and the logarithm of the exploration noise."""

    config: FPMD = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    critic: TDCritic
    moments: Moments
    noise: Trainable[Array]
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the flow in ``act_steps`` jumps, without exploration noise."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def explore(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """The best particle and noise."""
        key_draw, key_noise = jax.random.split(key)
        best = self.config.bootstrap(key_draw, self._particles(), lambda a: self.value(obs, a), obs)
        return noisy(key_noise, self.noise.model, best), memory

    def update(self, key: Key, batch: Transition) -> tuple["FPMDAgent", Metrics]:
        """One step of the critic; of the policy and of the noise as often as they have them."""
        key_draw, key_noise, key_flow = jax.random.split(key, 3)
        config = self.config
        best = self.critic.next_action(
            key_draw, config.bootstrap, config.aggregate, self._particles(), batch
        )
        action = noisy(key_noise, self.noise.model, best)
        scaled = dataclasses.replace(batch, reward=config.reward_scale * batch.reward)
        critic, metrics = self.critic.update(config.aggregate, scaled, action)

        q = jax.vmap(lambda s, a: critic.value(config.aggregate, s, a))(batch.next_obs, action)
        share = jnp.where(self.count == 0, 1.0, config.memory)
        moments = self.moments.after(q, share)
        weights = sg(config.weigh(q, moments, jnp.exp(self.noise.model)))
        good = weighted(improved(batch, action), weights)
        actor, flow_metrics = either(
            self.count % config.delay == 0,
            lambda: self.cloning.step(key_flow, self.actor, good, self.count),
            lambda: (self.actor, self.cloning(key_flow, self.actor.model, good, self.count)[1]),
        )
        noise = either(
            self.count % config.noise_every == 0,
            lambda: self.noise.step(surplus(self.noise.model, config.entropy)),
            lambda: self.noise,
        )
        # Guards know values by the rewards' own units.
        for name in ("critic/target_mean", "critic/target_max"):
            metrics[name] = metrics[name] / config.reward_scale
        metrics |= flow_metrics | weight_metrics(weights)
        metrics |= {"fpmd/q": jnp.mean(q), "fpmd/noise": jnp.exp(self.noise.model)}
        rest = (critic, moments, noise, self.count + 1)
        return type(self)(config, self.cloning, actor, *rest), metrics

    def _particles(self) -> Jumps:
        return Jumps(self.actor.model, self.config.steps, self.config.start)

    def flow(self) -> Flow:
        """The flow by ``act_steps`` jumps."""
        return Jumps(self.actor.model, self.config.act_steps, self.config.start)

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics, in units of the rewards."""
        return self.critic.value(self.config.aggregate, obs, action) / self.config.reward_scale


def improved(batch: Transition, action: Float[Array, "batch d"]) -> Transition:
    """What the flow regresses: ``action`` at the next observations, all entries real."""
    return dataclasses.replace(batch, obs=batch.next_obs, action=action, mask=jnp.ones_like(action))


def noisy(key: Key, log_std: Scalar, action: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """``action`` with Gaussian noise, clipped to the box."""
    noise = jnp.exp(log_std) * jax.random.normal(key, action.shape)
    return jnp.clip(action + noise, -1.0, 1.0)


def surplus(log_std: Scalar, entropy: float) -> Scalar:
    """By how many nats an entry's noise exceeds ``entropy``: log std + log(2 pi e) / 2 - entropy.

    The released code steps the logarithm down this, as if it were a gradient.
    """
    return log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e) - entropy
