"""Guards, in the graph: which updates are bad, and why.

An optimiser does not follow a gradient that is not finite, or whose norm is not below its limit
(``nets.Trainable``): model, moments and counters stay, whatever else of the update goes on. The
guards keep those limits, and tell every bad update by its fault. What is done about them is the
business of ``sentinel``.

The thresholds are ours; no paper gives any. ``benchmarks`` holds what the guards cost.
"""

import dataclasses
import enum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flowpolicy.agents.base import Agent
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import LARGEST, Trainable
from flowpolicy.parts import register
from flowpolicy.types import Metrics, Scalar, Transition

TARGET_MEAN = "critic/target_mean"
"""An agent that reports its critics' mean target by this name has it held against the range."""
TARGET_STILL = "critic/target_still"
"""1 where a target network did not follow; an agent that reports it is told when it never does."""


@register("guard")
@dataclasses.dataclass(frozen=True)
class Guard:
    """When an update is bad, and what so many of them are worth."""

    in_a_row: int = 10
    """Bad updates in a row after which a seed has diverged. With one seed the run goes back to its
    newest good checkpoint and on with other random numbers; with several the seed is frozen."""
    rollbacks: int = 3
    """How often a run goes back before it ends as diverged."""
    value_margin: float = 1.0
    """How far the critics' mean target may leave the range of possible values, the rewards' over
    1 - gamma, in units of that range's length (at least ``SMALLEST_RANGE``)."""
    norm_factor: float = 1000.0
    """A gradient whose norm is so many times the usual one is not followed. The usual one counts
    as at least 1 and as at least the possible values' range, so that a first reward, after many
    updates without any, is no fault."""
    norm_memory: int = 100
    """Updates over which the usual norm, a geometric mean, forgets."""
    value_limit: float = 1e6
    """Largest |reward| / (1 - gamma). Beyond it neighbouring numbers of float32 are 0.06 or more
    apart, and differences between values drown. Data are refused, online rows end the run."""
    reproductions: int = 5
    """Bad updates that are written down to be looked at, at most; those a seed diverges by are."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if min(self.in_a_row, self.norm_memory) < 1 or min(self.rollbacks, self.reproductions) < 0:
            raise InvalidConfig(
                "guard needs in_a_row and norm_memory >= 1, rollbacks and reproductions >= 0, got "
                f"{self.in_a_row}, {self.norm_memory}, {self.rollbacks} and {self.reproductions}"
            )
        if not (self.value_margin >= 0 and self.norm_factor > 1 and self.value_limit > 0):
            raise InvalidConfig(
                "guard needs value_margin >= 0, norm_factor > 1 and value_limit > 0, got "
                f"{self.value_margin}, {self.norm_factor} and {self.value_limit}"
            )


class Fault(enum.IntFlag):
    """What is wrong with an update, causes before consequences; one may have several."""

    DATA = 1
    DISCOUNT = 2
    SCALE = 4
    TARGET = 8
    LOSS = 16
    GRADIENT = 32
    VALUE = 64
    ACTION = 128


class Bounds(eqx.Module):
    """What is possible, given the rewards so far.

    low, high: of the critics' mean target; norm: the least that a usual gradient counts as
    """

    low: Float[Array, "*seeds"]
    high: Float[Array, "*seeds"]
    norm: Float[Array, "*seeds"]


class Report(eqx.Module):
    """What the guards saw in a block of updates.

    faults:  per update, 0 where it was good
    first:   the first bad update, counted from the block's beginning
    metrics: those of that update
    batch:   its batch; zeros where no update was bad
    """

    faults: Int[Array, "*seeds count"]
    first: Int[Array, "*seeds"]
    metrics: Metrics
    batch: Transition


def trainables(agent: Any) -> dict[str, Trainable[Any]]:
    """What an agent trains, by where it is: ``{"actor": ..., "critic.online": ...}``."""
    found = jax.tree_util.tree_flatten_with_path(agent, is_leaf=_is_trainable)[0]
    return {
        jax.tree_util.keystr(path).lstrip("."): node for path, node in found if _is_trainable(node)
    }


def examine(
    guard: Guard, bounds: Bounds, agent: Agent, batch: Transition, metrics: Metrics
) -> tuple[Agent, Metrics, Int[Array, ""]]:
    """One update of one seed, after it: the agent with its limits moved on, the metrics and the
    gradients' norms, and the faults.
    """
    trained = trainables(agent)
    norms = jnp.stack([node.norm for node in trained.values()])
    limits = jnp.stack([node.limit for node in trained.values()])
    finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
    target = metrics.get(TARGET_MEAN, jnp.zeros(()))
    seen: dict[Fault, Bool[Array, ""]] = {
        Fault.DATA: ~jnp.isfinite(jnp.stack([batch.reward, batch.discount])).all(),
        Fault.DISCOUNT: (batch.discount > 1.0).any(),
        Fault.TARGET: metrics.get(TARGET_STILL, jnp.zeros(())) > 0.0,
        Fault.LOSS: ~finite | (norms >= LARGEST).any(),
        Fault.GRADIENT: ((norms >= limits) & (norms < LARGEST)).any(),
        Fault.VALUE: (target < bounds.low) | (target > bounds.high),
    }
    faults = sum((int(f) * yes.astype(jnp.int32) for f, yes in seen.items()), jnp.int32(0))
    agent = jax.tree.map(
        lambda node: _moved(guard, bounds.norm, node) if _is_trainable(node) else node,
        agent,
        is_leaf=_is_trainable,
    )
    return agent, metrics | {f"gradient/{k}": node.norm for k, node in trained.items()}, faults


def _is_trainable(node: Any) -> bool:
    return isinstance(node, Trainable)


def _moved(guard: Guard, least: Scalar, node: Trainable[Any]) -> Trainable[Any]:
    """The limit goes with the norms that were followed, geometrically."""
    # Below the largest float, which would mean that no gradient was seen yet.
    wanted = jnp.minimum(guard.norm_factor * jnp.maximum(node.norm, least), 0.5 * LARGEST)
    share = 1.0 / guard.norm_memory
    moved = jnp.exp((1.0 - share) * jnp.log(node.limit) + share * jnp.log(wanted))
    moved = jnp.where(node.limit < LARGEST, moved, wanted)
    return dataclasses.replace(node, limit=jnp.where(node.norm < node.limit, moved, node.limit))
