"""Recorded actions brought into [-1, 1]: how the units of a data set are chosen."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flowpolicy.data.blocks import blocks, finite
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.parts import register


@runtime_checkable
class ActionScaling(Protocol):
    """Chooses the units of actions (rows, size), all of them finite."""

    def units(self, action: np.ndarray) -> ActionUnits:
        """The units."""
        ...


@register("as_recorded")
@dataclasses.dataclass(frozen=True)
class AsRecorded:
    """Actions as they are; those outside [-1, 1] are an error of the data."""

    def units(self, action: np.ndarray) -> ActionUnits:
        """Units that change nothing."""
        return ActionUnits.unchanged(action.shape[1])


@register("action_min_max")
@dataclasses.dataclass(frozen=True)
class ActionMinMax:
    """The least and the greatest recorded value of each entry become -1 and 1."""

    def units(self, action: np.ndarray) -> ActionUnits:
        """Units that leave no recorded action outside."""
        low, high = (_finite(f(action, axis=0)) for f in (np.min, np.max))
        return _between((low + high) / 2.0, (high - low) / 2.0)


@register("action_mean_std")
@dataclasses.dataclass(frozen=True)
class ActionMeanStd:
    """So many standard deviations around each entry's mean become [-1, 1]; the rest is clipped."""

    deviations: float = 3.0
    """Standard deviations that are 1. Recorded actions beyond are lost: ``data check`` counts
    them."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.deviations <= 0:
            raise InvalidConfig(
                f"action_mean_std.deviations must be above 0, got {self.deviations}"
            )

    def units(self, action: np.ndarray) -> ActionUnits:
        """Units by mean and standard deviation."""
        # What comes of an overflow is not finite, and refused.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = _finite(np.mean(action, axis=0, dtype=np.float64))
            # numpy's own std would make an array of deviations of the size of all actions.
            squares = sum(np.sum(np.square(block - mean), axis=0) for block in blocks(action))
        return _between(mean, self.deviations * np.sqrt(_finite(squares / len(action))))


def _finite(given: Any) -> np.ndarray:
    values = np.asarray(given, np.float64)
    if not finite(values).all():
        raise InvalidData("action must be finite before it can be scaled")
    return values


def _between(shift: np.ndarray, scale: np.ndarray) -> ActionUnits:
    return ActionUnits(tuple(map(float, shift)), tuple(map(float, scale)))
