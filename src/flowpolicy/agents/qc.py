"""QC: Q-chunking with a flow policy and best-of-N (Li et al. 2025).

A velocity clones the data's chunks by flow matching. Candidates are its Euler steps from noise,
the critic ranks them, and the best one both acts and stands in the TD target: there is no other
policy. Online the same update goes on with the union of offline and online rows.

    QC      chunks of h actions, N = 32 (the paper: 16 on robomimic, 64 on puzzles)
    BFN     ``bfn()``: single actions, N = 4
    BFN-n   ``bfn_n()``: single actions with n-step returns, N = 4

With N = 1 it is flow cloning. Numbers are those of the paper's Tables 3 to 5, or of the released
code where a field says so. The code adds both losses up for one Adam; no parameter occurs in both,
so one step for each is the same. Its critic's target follows the parameters from before the update,
ours the new ones.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from flowpolicy.agents.base import Agent, Memory, check_chunk
from flowpolicy.agents.cloning import Cloning, flow_matching_terms
from flowpolicy.agents.td import TDCritic, check_critic
from flowpolicy.data.chunk import View, Views, n_step_returns, whole_chunks
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, FlowMap, Integrated
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity, Trainable
from flowpolicy.parts import register
from flowpolicy.refine import BestOfN, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector
from flowpolicy.values import Aggregate, Critic, mean


@register("qc")
@dataclasses.dataclass(frozen=True)
class QC:
    """Q-chunking: flow cloning, and the best of N by the critic."""

    chunk: int = 5
    """h, rows of a transition; all their actions are executed open loop, save with
    ``n_step_returns``. The paper has 5 (Tables 3 to 5), and tries 1 to 50."""
    discount: float = 0.99
    """gamma, of one environment step (Tables 3 to 5)."""
    ends: Views = whole_chunks
    """What a chunk is worth that an episode's end cuts: nothing to the critic, as in the paper, or
    its shorter return (``shorter_returns``). BFN-n has ``n_step_returns``."""
    steps: int = 10
    """Euler steps from noise to an action (Tables 3 to 5)."""
    act: Refiner = BestOfN(32)
    """Behaviour and evaluation. N in the paper (Tables 3 to 5): 32 on cube and scene, 64 on puzzle,
    16 on robomimic."""
    bootstrap: Refiner = BestOfN(32)
    """The next action in the TD target; the paper's N is that of ``act``."""
    aggregate: Aggregate = mean
    """Value in the TD target and in ranking. The code takes the mean in both."""
    ensemble: int = 2
    """K, critics (Tables 3 to 5; the paper also tries 10)."""
    tau: float = 0.005
    """Share of the new parameters in the target critic's Polyak average, in (0, 1] (Tables 3 to
    5)."""
    optimiser: Adam = Adam()
    """Optimiser of the velocity (Tables 3 to 5)."""
    critic_optimiser: Adam | None = None
    """Optimiser of the critics; where None the one above, as in the code."""
    actor: Any = MLPVelocity()
    """Net of the velocity: a net configuration; 4 x 512 in the code."""
    critic: Any = MLPCritic()
    """Net of one critic: a net configuration; 4 x 512 in the code."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_chunk("qc", self.chunk, self.discount)
        if self.steps < 1:
            raise InvalidConfig(f"qc.steps must be at least 1, got {self.steps}")
        check_critic("qc", self.tau, self.ensemble, self.aggregate)

    @property
    def view(self) -> View:
        """What ``ends`` makes of h rows."""
        return self.ends(self.chunk, self.discount)

    def init(self, key: Key, spec: Spec) -> "QCAgent":
        """The agent before any update."""
        key_flow, key_critic = jax.random.split(key)
        size = self.view.chunk * spec.action
        flow = FlowMap(self.actor.init(key_flow, spec, size), size)
        critic = Critic.create(key_critic, self.ensemble, lambda k: self.critic.init(k, spec, size))
        return QCAgent(
            config=self,
            cloning=Cloning(flow_matching_terms(), spec.offline_updates),
            actor=Trainable.create(flow, self.optimiser),
            critic=TDCritic.create(critic, self.critic_optimiser or self.optimiser, self.tau),
            count=jnp.zeros((), jnp.int32),
        )


def bfn(n: int = 4, **fields: Any) -> QC:
    """BFN, best of ``n`` single actions: QC with h = 1 (Li et al. 2025)."""
    return QC(chunk=1, act=BestOfN(n), bootstrap=BestOfN(n), **fields)


def bfn_n(n: int = 4, horizon: int = 5, **fields: Any) -> QC:
    """BFN-n, best of ``n`` single actions with returns of ``horizon`` rows (Li et al. 2025)."""
    ranked = BestOfN(n)
    return QC(chunk=horizon, ends=n_step_returns, act=ranked, bootstrap=ranked, **fields)


class QCAgent(Agent):
    """Clones with a velocity and learns the critic of its best-of-N, offline and online alike."""

    config: QC = eqx.field(static=True)
    cloning: Cloning = eqx.field(static=True)
    actor: Trainable[FlowMap]
    critic: TDCritic
    count: Int[Array, ""]

    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """``config.act`` on the integrated velocity and the critic."""
        return self.config.act(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def update(self, key: Key, batch: Transition) -> tuple["QCAgent", Metrics]:
        """One step of the critic and one of the velocity."""
        key_next, key_flow = jax.random.split(key)
        config = self.config
        critic, metrics = self.critic.learn(
            key_next, config.bootstrap, config.aggregate, self.flow(), batch
        )
        actor, flow_metrics = self.cloning.step(key_flow, self.actor, batch, self.count)
        agent = type(self)(config, self.cloning, actor, critic, self.count + 1)
        return agent, metrics | flow_metrics

    def flow(self) -> Flow:
        """The velocity, integrated in ``config.steps`` Euler steps."""
        return Integrated(self.actor.model, self.config.steps)

    def teacher(self) -> FlowMap:
        """The flow whose velocity a flow map may learn (``distilled``)."""
        return self.actor.model

    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregate of the online critics."""
        return self.critic.value(self.config.aggregate, obs, action)
