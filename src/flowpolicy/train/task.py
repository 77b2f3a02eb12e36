"""What the loop asks of a task: rows, environments, names. Implementations live above it."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.shards import Shards
from flowpolicy.envs.base import Env
from flowpolicy.errors import MissingData
from flowpolicy.parts import register


@runtime_checkable
class Task(Protocol):
    """Where rows and environments come from."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def playable(self) -> bool:
        """Whether ``env`` gives an environment."""
        ...

    def dataset(self) -> Dataset | None:
        """The offline rows, or None for a purely online task."""
        ...

    def env(self) -> Env:
        """A new environment; ``MissingData`` where the task has none."""
        ...


@runtime_checkable
class GivesShards(Protocol):
    """A task whose data may come in many files, of which one is trained on at a time."""

    def shards(self, first: Dataset) -> Shards | None:
        """A new reader of them; ``first`` is what ``dataset`` gave, the first file's rows. None
        where the data is one file, or ``first`` is not of this task.
        """
        ...


@runtime_checkable
class Normalises(Protocol):
    """A task with reference returns, by which returns are normalised."""

    def normalised(self, returns: float, length: float) -> float:
        """The score of the mean ``returns`` of episodes of mean ``length``; ``InvalidData`` where
        there are no references after all.
        """
        ...


@runtime_checkable
class Physical(Protocol):
    """A task that may be a robot: its environment is there once, and cannot be put back."""

    @property
    def physical(self) -> bool:
        """Whether it is. Then ``env`` is asked once, nothing is played beside anything else, and no
        recorded action is played again."""
        ...


def is_physical(task: Task) -> bool:
    """Whether ``task`` says that it is a robot."""
    return isinstance(task, Physical) and task.physical


def env_to_show(task: Task) -> Env:
    """An environment to be played for a picture; ``MissingData`` where there is none, or a robot,
    which no picture moves."""
    if is_physical(task):
        raise MissingData(f"{task.name} is a robot, and nothing is played on it for a report")
    return task.env()


@dataclasses.dataclass(frozen=True)
class Entry:
    """Neighbouring entries of an observation's field: what they are, how many, in what unit."""

    name: str
    size: int
    unit: str


@runtime_checkable
class TellsFields(Protocol):
    """A task that tells what its observations hold; packages pass it on."""

    @property
    def control_interval(self) -> float | None:
        """Seconds between two actions, where there is a clock."""
        ...

    def fields(self) -> Mapping[str, tuple[Entry, ...]]:
        """By field, its entries in order; the field of a plain vector is ``obs``."""
        ...


@register("rows_only")
@dataclasses.dataclass(frozen=True)
class RowsOnly:
    """A task that is a data set and nothing else: it trains offline and is not evaluated."""

    name: str = "own data"
    """What reports call it."""

    @property
    def playable(self) -> bool:
        """False."""
        return False

    def dataset(self) -> Dataset | None:
        """The rows are given to the run by hand, not found again from its folder."""
        return None

    def env(self) -> Env:
        """There is none."""
        raise MissingData(
            f"the task {self.name!r} has no environment, so nothing can be evaluated on it; "
            "give train(..., task=...) one to evaluate or to train online"
        )
