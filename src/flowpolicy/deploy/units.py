"""The units of actions: what [-1, 1] means to the robot, as numbers that travel with a policy."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.errors import CorruptFile
from flowpolicy.readers import read_object

RECORD = "action_units"
"""What it is called in the record of a data set, of a run, and in a package's ``action``."""


@dataclasses.dataclass(frozen=True)
class ActionUnits:
    """robot = shift + scale * box, entry by entry; box is the action in [-1, 1].

    shift, scale: one number an entry, in the robot's units; scale is at least 0, and an entry whose
                  scale is 0 never moves
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def unchanged(cls, size: int) -> "ActionUnits":
        """Actions of ``size`` entries that are in [-1, 1] already."""
        return cls((0.0,) * size, (1.0,) * size)

    @property
    def change_nothing(self) -> bool:
        """Whether robot and box are the same."""
        return not any(self.shift) and all(scale == 1.0 for scale in self.scale)

    def to_robot(self, action: np.ndarray) -> np.ndarray:
        """Actions (..., size) of a policy in the robot's units, float32."""
        shift, scale = (np.asarray(x, np.float64) for x in (self.shift, self.scale))
        return (shift + scale * np.clip(action, -1.0, 1.0)).astype(np.float32)

    def to_box(self, action: np.ndarray) -> np.ndarray:
        """Actions (..., size) of the robot in [-1, 1], float32; what lies outside is clipped.

        A value that is not finite stays one.
        """
        return np.clip(self.scaled(action), -1.0, 1.0).astype(np.float32)

    def scaled(self, action: np.ndarray) -> np.ndarray:
        """``to_box`` in float64, where what lies outside stays there."""
        shift, scale = (np.asarray(x, np.float64) for x in (self.shift, self.scale))
        moved = (np.asarray(action, np.float64) - shift) / np.where(scale > 0, scale, 1.0)
        return moved * (scale > 0)

    def record(self) -> dict[str, list[float]]:
        """Strict JSON."""
        return {"shift": list(self.shift), "scale": list(self.scale)}


def read_units(told: Any, size: int, source: str) -> ActionUnits:
    """Inverse of ``ActionUnits.record``; ``CorruptFile`` naming ``source`` otherwise."""
    shift, scale = (
        _numbers(told.get(name), size) if isinstance(told, Mapping) else None
        for name in ("shift", "scale")
    )
    if shift is None or scale is None:
        raise CorruptFile(f"{source}: {RECORD} must have {size} finite shifts and scales")
    if min(scale) < 0:
        raise CorruptFile(f"{source}: {RECORD}.scale must not be negative, got {min(scale)}")
    return ActionUnits(shift, scale)


def _numbers(values: Any, size: int) -> tuple[float, ...] | None:
    """``size`` finite numbers; None where they are anything else."""
    if not isinstance(values, list) or len(values) != size:
        return None
    if not all(type(x) in (int, float) and math.isfinite(x) for x in values):
        return None
    return tuple(map(float, values))


def action_units(folder: str | Path) -> ActionUnits:
    """Those of the policy in a run's folder, or in a package.

    Raises ``MissingData`` or ``CorruptFile`` naming the file.
    """
    path = Path(folder) / "config.json"
    told = read_object(path)
    for place in (told.get("action"), told.get("data")):  # of a package, of a run
        if isinstance(place, Mapping) and RECORD in place:
            return read_units(place[RECORD], _size(told, path), str(path))
    return ActionUnits.unchanged(_size(told, path))


def _size(told: Mapping[str, Any], path: Path) -> int:
    spec = told.get("spec")
    size = spec.get("action") if isinstance(spec, Mapping) else None
    if type(size) is not int or not 1 <= size <= 2**20:
        raise CorruptFile(f"{path} does not tell the size of an action")
    return size
