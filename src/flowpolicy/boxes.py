"""Boxes of actions: an environment's own units, and [-1, 1], in which everything here is."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from flowpolicy.errors import InvalidConfig


def all_finite(action: np.ndarray) -> bool:
    """Whether every entry of ``action`` (a,) is a finite number.

    The sum of squares is the fastest way to meet what is not; only where it overflows all is seen.
    """
    return math.isfinite(action.dot(action)) or bool(np.isfinite(action).all())


@dataclasses.dataclass(frozen=True, eq=False)
class ActionBox:
    """The actions between ``low`` and ``high`` (a,), in the environment's own units."""

    low: np.ndarray
    high: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    shape: tuple[int, ...]
    """Of one action as the environment has it."""

    @classmethod
    def of(cls, low: Any, high: Any, owner: str) -> "ActionBox":
        """Checks bounds of one shape; ``owner`` is what the ``InvalidConfig`` error calls them.

        Every bound must be finite: where an entry has none there is nothing to scale to.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if low.shape != high.shape or low.size < 1:
            raise InvalidConfig(
                f"{owner}: an action needs at least one entry, and as many lower as upper bounds, "
                f"got shapes {low.shape} and {high.shape}"
            )
        wrong = ~(np.isfinite(low) & np.isfinite(high) & (low < high))
        if wrong.any():
            at = int(np.flatnonzero(wrong.ravel())[0])
            raise InvalidConfig(
                f"{owner}: every entry of an action needs finite bounds, the lower below the "
                f"upper, but entry {at} has {low.ravel()[at]} and {high.ravel()[at]}; wrap the "
                "environment so that its actions are bounded"
            )
        # Halves first: the width of a box may be more than a float holds.
        middle, half = low / 2 + high / 2, high / 2 - low / 2
        return cls(low.ravel(), high.ravel(), middle.ravel(), half.ravel(), low.shape)

    @property
    def size(self) -> int:
        """Numbers in one action."""
        return self.low.size

    def astype(self, dtype: np.dtype) -> "ActionBox":
        """The box whose numbers, and so those of ``from_unit``, are of ``dtype``."""
        low, high = self.low.astype(dtype), self.high.astype(dtype)
        return ActionBox(low, high, self.middle.astype(dtype), self.half.astype(dtype), self.shape)

    def from_unit(self, action: np.ndarray) -> np.ndarray:
        """``action`` (..., a) in [-1, 1], beyond which it is clipped, in the box's own units."""
        moved = action if self.is_unit else self.middle + self.half * action
        return np.minimum(np.maximum(moved, self.low), self.high)

    @functools.cached_property
    def is_unit(self) -> bool:
        """Whether the box is [-1, 1] in every entry."""
        return bool(np.all(self.low == -1.0) and np.all(self.high == 1.0))

    def to_unit(self, action: np.ndarray) -> np.ndarray:
        """The inverse of ``from_unit``; what lies outside the box lies outside [-1, 1]."""
        return (action - self.middle) / self.half
