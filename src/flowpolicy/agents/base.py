"""What an agent is: a frozen pytree that acts, explores and is updated.

The training loop, evaluation and ``Policy`` know this page and no concrete agent.
"""

import abc
from typing import Any, Protocol, runtime_checkable

import equinox as eqx

from flowpolicy.data.chunk import View
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow
from flowpolicy.refine import Cost, Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Spec, Transition, Vector

Memory = Any  # a pytree; empty unless a method streams its actions or keeps history

REFINABLE = (
    "decision_flow", "distilled", "fmq", "fpmd", "fql", "gfp", "ifql", "mvp", "qam", "qc", "swfp",
)  # fmt: skip
"""Agents of the library that have both a flow and a critic."""


def lacking(agent: str, what: str) -> InvalidConfig:
    """The error of an agent that is asked for its ``what`` (flow, critic) and has none."""
    return InvalidConfig(
        f"{agent} has no {what}; refiners draw from a flow, and all but one_step rank or climb "
        f"with a critic. Agents that have both: {', '.join(REFINABLE)}"
    )


def check_chunk(agent: str, chunk: int, discount: float) -> None:
    """Raises ``InvalidConfig`` where an agent's chunk has no action or its discount is none."""
    if chunk < 1:
        raise InvalidConfig(
            f"{agent}.chunk must be at least 1 (the papers have 1 and 5, QC tries up to 50), "
            f"got {chunk}"
        )
    if not 0 <= discount < 1:
        raise InvalidConfig(
            f"{agent}.discount must be in [0, 1) (the papers have 0.99 to 0.999), got {discount}"
        )


class Agent(eqx.Module):
    """Parameters, optimiser state and counters of one method. All leaves are arrays.

    Methods see one observation and return the flattened chunk, D = view.chunk * action size,
    in [-1, 1]; ``update`` sees a batch. Keys come first and are used once. The caller jits.
    """

    def memory(self) -> Memory:
        """The memory before the first observation of an episode; empty unless overridden."""
        return ()

    @abc.abstractmethod
    def act(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """The chunk to execute, in behaviour and in evaluation."""

    def explore(self, key: Key, obs: Observation, memory: Memory) -> tuple[Vector, Memory]:
        """The chunk to execute while collecting; that of ``act`` unless overridden."""
        return self.act(key, obs, memory)

    def cost(self, refiner: Refiner) -> Cost:
        """What an action by ``refiner`` takes of the flow; one evaluation where there is none."""
        try:
            return refiner.cost(self.flow())
        except InvalidConfig:
            return Cost(policy=1, critic=0, gradients=0, depth=1)

    @abc.abstractmethod
    def update(self, key: Key, batch: Transition) -> tuple["Agent", Metrics]:
        """One gradient step on a batch (leading axis on every leaf)."""

    def begin_online(self, key: Key) -> "Agent":
        """The agent of the online phase; itself unless overridden."""
        del key
        return self

    @abc.abstractmethod
    def flow(self) -> Flow:
        """The flow that refiners draw from; raises ``lacking`` where there is none."""

    @abc.abstractmethod
    def value(self, obs: Observation, action: Vector) -> Scalar:
        """The aggregated critic that ranks actions; raises ``lacking`` where there is none."""


@runtime_checkable
class AgentConfig(Protocol):
    """A frozen dataclass, registered as a part, that builds an agent."""

    @property
    def view(self) -> View:
        """The batch view the agent wants; holds the chunk's length and the one discount."""
        ...

    @property
    def act(self) -> Refiner:
        """How the agent acts."""
        ...

    def init(self, key: Key, spec: Spec) -> Agent:
        """The agent of the offline phase, before any update."""
        ...


@runtime_checkable
class ReadsUnits(Protocol):
    """A configuration whose agents may read observations in the units of actions."""

    @property
    def reads_units(self) -> bool:
        """Whether they do, so that no normaliser may come between."""
        ...
