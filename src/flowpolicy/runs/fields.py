"""What the entries of OGBench's observations are, where they are known: the cube tasks."""

import re
from collections.abc import Mapping

from flowpolicy.train.task import Entry

CUBES = {"single": 1, "double": 2, "triple": 3, "quadruple": 4, "octuple": 8}
ARM_INTERVAL = 0.05
"""Seconds between two actions of OGBench's arm (cube, scene, puzzle)."""

_POSITION = "ten times metres, from (0.425, 0, 0)"
_ARM = (
    Entry("joint positions", 6, "rad"),
    Entry("joint velocities", 6, "rad/s"),
    Entry("gripper position", 3, _POSITION),
    Entry("cosine and sine of the gripper's yaw", 2, "1"),
    Entry("gripper opening", 1, "3 where closed, 0 where open"),
    Entry("gripper contact", 1, "0 to 1"),
)


def ogbench_fields(task: str) -> Mapping[str, tuple[Entry, ...]]:
    """By field, the entries of a cube task's observation; empty for other tasks."""
    found = re.match("cube-([a-z]+)", task)
    if found is None or found[1] not in CUBES:
        return {}
    cubes = [
        entry
        for i in range(CUBES[found[1]])
        for entry in (
            Entry(f"cube {i} position", 3, _POSITION),
            Entry(f"cube {i} orientation, quaternion", 4, "1"),
            Entry(f"cube {i} cosine and sine of the yaw", 2, "1"),
        )
    ]
    return {"obs": (*_ARM, *cubes)}


def ogbench_interval(task: str) -> float | None:
    """Seconds between two actions of an arm's task; None where it is not known here."""
    return ARM_INTERVAL if re.match("cube|scene|puzzle", task) else None
