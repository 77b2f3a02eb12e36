"""Phases and the configuration of a run, as data."""

import dataclasses
import math
from typing import Any, Literal

from flowpolicy.agents.base import ReadsUnits
from flowpolicy.data.augment import Augment
from flowpolicy.data.replay import Draw, UniformDraw
from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import describe, name_of, register
from flowpolicy.refine import Refiner
from flowpolicy.train.guards import Guard
from flowpolicy.train.normalise import Identity, MinMax, Standardise


@register("offline")
@dataclasses.dataclass(frozen=True)
class Offline:
    """Updates from the data set alone."""

    steps: int = 1_000_000
    """Updates."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.steps < 0:
            raise InvalidConfig(f"offline.steps must be at least 0, got {self.steps}")


@register("online")
@dataclasses.dataclass(frozen=True)
class Online:
    """Environment steps, with updates from offline and online rows."""

    env_steps: int = 1_000_000
    """Environment steps per seed."""
    updates_per_step: int | float = 1
    """UTD: a tick of h environment steps is followed by h times as many updates; where that is no
    whole number, by as many as bring their sum below it by less than one (0.2: one in five)."""
    start_after: int = 5_000
    """Environment steps before the first update."""
    random_steps: int = 0
    """Environment steps at first whose actions are uniform in the box and not the agent's (RLPD in
    QC's code: 5 000). A chunk that begins among them is random to its end."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        least = min(self.env_steps - 1, self.start_after, self.random_steps)
        if least < 0 or not 0 < self.updates_per_step < math.inf:
            raise InvalidConfig(
                "online needs env_steps >= 1 (else leave the phase out), start_after and "
                f"random_steps >= 0 and updates_per_step > 0, got {self.env_steps}, "
                f"{self.start_after}, {self.random_steps} and {self.updates_per_step}"
            )


Phase = Offline | Online


@register("evaluation")
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """When the policy is tried, and on how many episodes."""

    every: int = 100_000
    """Updates (offline) or environment steps (online) between evaluations; 0 for none between."""
    episodes: int = 50
    """Episodes of an evaluation within a phase."""
    final_episodes: int = 50
    """Episodes at the end of each phase; 0 for none."""
    side_by_side: int = 10
    """Environments stepped together, with one policy call for all of them."""
    refiners: tuple[Refiner, ...] = ()
    """Refiners that play the same episodes after the agent's own way of acting; training does not
    see them. FMQ + QGBS of FMQ's page is ``(qgbs(),)``."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.every < 0 or self.final_episodes < 0 or min(self.episodes, self.side_by_side) < 1:
            raise InvalidConfig(
                "evaluation needs every >= 0, final_episodes >= 0, episodes >= 1 and "
                f"side_by_side >= 1, got {self}"
            )
        labels = [describe(refiner) for refiner in self.refiners]
        if len(set(labels)) < len(labels):
            raise InvalidConfig(f"evaluation.refiners must be distinct, got {', '.join(labels)}")


@register("run")
@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes."""

    agent: Any
    """The method: an agent configuration."""
    task: Any = None
    """The task: where rows and environments come from."""
    phases: tuple[Phase, ...] = (Offline(), Online())
    """What happens, in order."""
    seeds: tuple[int, ...] = (0,)
    """One agent, ring and environment each, trained side by side."""
    batch: int = 256
    """Samples per update."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """To what the inputs of the updates' matrix products are rounded; sums, parameters and acting
    stay float32. "tensorfloat32" (10 bits of mantissa) is float32 where a device has none,
    "bfloat16" has 7. The papers' codes leave it to JAX's default, which differs by device."""
    capacity: int = 0
    """Online rows a ring holds; 0 for all rows the online phases make."""
    draw: Draw = UniformDraw()
    """How a batch chooses between offline and online rows."""
    normaliser: Identity | Standardise | MinMax = Identity()
    """What is done to observations before a net sees them."""
    augment: Augment | None = None
    """What is done to every sample of a batch before the normaliser: ``random_crop()`` for frames,
    as FQL's visual runs have it; None leaves them as they are."""
    evaluation: Evaluation = Evaluation()
    """When the policy is tried."""
    block: int = 100
    """Offline updates in one dispatch, and updates averaged into one line of the metrics."""
    checkpoint_every: int = 50_000
    """Updates that a kill costs at most, to a whole dispatch: a checkpoint is begun a twentieth
    earlier, is written beside training, and training waits where it is not there in time."""
    keep: int = 2
    """Checkpoints that stay, the newest ones."""
    keep_best: bool = True
    """Whether the state of the best evaluation within the run stays as well."""
    guard: Guard | None = Guard()
    """When an update is bad, and what so many of them lead to. None for no guards: the run ends
    when a mean of the metrics is not finite. Gradients that are not finite are never followed."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        least = min(self.batch, self.block, self.checkpoint_every, self.keep)
        if least < 1 or self.capacity < 0:
            raise InvalidConfig(
                "run needs batch, block, checkpoint_every, keep >= 1 and capacity >= 0, got "
                f"{self.batch}, {self.block}, {self.checkpoint_every}, {self.keep} and "
                f"{self.capacity}"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InvalidConfig(
                f"run.seeds must be distinct and in 0 .. 2**32 - 1, got {self.seeds}"
            )
        if not self.phases:
            raise InvalidConfig("run.phases must hold at least one phase")
        reads = isinstance(self.agent, ReadsUnits) and self.agent.reads_units
        if reads and self.normaliser != Identity():
            raise InvalidConfig(
                f"run.normaliser must be identity() for this {name_of(self.agent)}, which reads "
                f"entries of observations in the units of actions, got {describe(self.normaliser)}"
            )

    @property
    def offline_updates(self) -> int:
        """Updates of all offline phases."""
        return sum(p.steps for p in self.phases if isinstance(p, Offline))

    @property
    def spacing(self) -> int:
        """Updates from the beginning of one checkpoint to that of the next."""
        return self.checkpoint_every - self.checkpoint_every // 20

    @property
    def ring_capacity(self) -> int:
        """Rows of a ring; 0 where no phase is online."""
        steps = sum(p.env_steps for p in self.phases if isinstance(p, Online))
        return min(self.capacity or steps, steps)
