"""OGBench's data sets by name: what they are of, how large they are, and who can make them.

Sizes and kinds are those of the commands that OGBench's authors published for their data, and of
the sets of a hundred files that came with "Horizon Reduction Makes RL Scalable" (Park et al. 2025).
"""

import dataclasses
import re
from typing import NamedTuple

from flowpolicy.errors import InvalidConfig, unknown_name

KINDS = ("play", "noisy", "navigate", "stitch", "explore")
"""Words for how data came about: an open-loop plan, or a noisy closed-loop one, for the arm; for
mazes long walks to goals, short ones, or random ones."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set of OGBench.

    environment: as in ``cube-single``, or ``visual-cube-single`` for frames
    kind:        one of ``KINDS``
    episodes:    of the training file, or of all files together; a tenth as many validate
    steps:       rows of an episode; one of them has no successor and is no transition
    shards:      numbered files that it comes in; 0 for a single one
    official:    whether OGBench's server has it; else it can only be collected
    """

    environment: str
    kind: str
    episodes: int
    steps: int
    shards: int = 0
    official: bool = True

    @property
    def name(self) -> str:
        """As in ``cube-single-play-v0`` and ``cube-octuple-play-100m-v0``."""
        size = f"-{self.transitions // 10**6}m" if self.shards else ""
        return f"{self.environment}-{self.kind}{size}-v0"

    @property
    def transitions(self) -> int:
        """Rows that have a successor, in the training files."""
        return self.episodes * (self.steps - 1)

    @property
    def collectable(self) -> bool:
        """Whether the oracle that makes such rows is in the ogbench package. That of ants and
        humanoids is a policy that its authors trained and keep apart."""
        return re.match("(visual-)?(cube|scene|puzzle)|pointmaze", self.environment) is not None


class TaskName(NamedTuple):
    """What a task's name says; ``kind`` is empty where it names no kind of data."""

    environment: str
    kind: str
    sharded: bool
    number: int


_ARM = {
    "cube-single": 1000,
    "cube-double": 1000,
    "cube-triple": 3000,
    "cube-quadruple": 5000,
    "scene": 1000,
    "puzzle-3x3": 1000,
    "puzzle-4x4": 1000,
    "puzzle-4x5": 3000,
    "puzzle-4x6": 5000,
}
_WALKS = {
    "navigate": {
        "pointmaze-medium": (1000, 1001),
        "pointmaze-large": (1000, 1001),
        "pointmaze-giant": (500, 2001),
        "pointmaze-teleport": (1000, 1001),
        "antmaze-medium": (1000, 1001),
        "antmaze-large": (1000, 1001),
        "antmaze-giant": (500, 2001),
        "antmaze-teleport": (1000, 1001),
        "humanoidmaze-medium": (1000, 2001),
        "humanoidmaze-large": (1000, 2001),
        "humanoidmaze-giant": (1000, 4001),
        "antsoccer-arena": (1000, 1001),
        "antsoccer-medium": (4000, 1001),
    },
    "stitch": {
        "pointmaze-medium": (5000, 201),
        "pointmaze-large": (5000, 201),
        "pointmaze-giant": (5000, 201),
        "pointmaze-teleport": (5000, 201),
        "antmaze-medium": (5000, 201),
        "antmaze-large": (5000, 201),
        "antmaze-giant": (5000, 201),
        "antmaze-teleport": (5000, 201),
        "humanoidmaze-medium": (5000, 401),
        "humanoidmaze-large": (5000, 401),
        "humanoidmaze-giant": (10_000, 401),
        "antsoccer-arena": (5000, 201),
        "antsoccer-medium": (8000, 501),
    },
    "explore": {
        "antmaze-medium": (10_000, 501),
        "antmaze-large": (10_000, 501),
        "antmaze-teleport": (10_000, 501),
    },
}
_SHARDED = (
    "cube-triple",
    "cube-quadruple",
    "cube-octuple",
    "puzzle-4x4",
    "puzzle-4x5",
    "puzzle-4x6",
)
_TASK = re.compile(
    rf"(?P<environment>[a-z0-9-]+?)(-(?P<kind>{'|'.join(KINDS)}))?(?P<size>-100m)?(-singletask)?"
    r"-task(?P<number>[0-9]+)(-v0)?"
)


def _all() -> dict[str, DataSet]:
    arm = [DataSet(env, kind, n, 1001) for env, n in _ARM.items() for kind in ("play", "noisy")]
    # Of eight cubes there is a set of a hundred files alone; a smaller one is of our making.
    arm += [DataSet("cube-octuple", kind, 1000, 1001, official=False) for kind in KINDS[:2]]
    mazes = [
        DataSet(env, kind, *size) for kind, sizes in _WALKS.items() for env, size in sizes.items()
    ]
    frames = [
        dataclasses.replace(found, environment=f"visual-{found.environment}")
        for found in (*arm, *mazes)
        if found.official and re.match("cube|scene|puzzle|antmaze|humanoid", found.environment)
    ]
    sharded = [DataSet(env, "play", 100_000, 1001, shards=100) for env in _SHARDED]
    sharded.append(DataSet("humanoidmaze-giant", "navigate", 25_000, 4001, shards=100))
    return {found.name: found for found in (*arm, *mazes, *frames, *sharded)}


SETS = _all()
"""Every data set, by its name."""

ENVIRONMENTS = tuple(
    dict.fromkeys(s.environment for s in SETS.values() if not s.environment.startswith("visual-"))
)
"""Environments with state observations, each with five tasks. ``humanoidmaze-teleport``, which
OGBench 1.2.2 registers and MuJoCo cannot compile, is not among them."""


def find_set(text: str, kind: str = "", *, sharded: bool = False) -> DataSet:
    """The data set called ``text``: by its own name, with or without ``-v0``, or by its
    environment's, whose kind is then ``kind``, or play for the arm and navigate for mazes.

    Raises ``UnknownName`` with the nearest names, ``InvalidConfig`` where there is no such kind of
    data for the environment, or ``text`` says another one.
    """
    name = text.removesuffix("-v0")
    found = SETS.get(f"{name}-v0")
    if found is not None and kind in ("", found.kind):
        return found
    if found is not None:
        raise InvalidConfig(f"kind must be {found.kind!r} for {text}, or not given, got {kind!r}")
    there = {
        s.kind: s for s in SETS.values() if s.environment == name and bool(s.shards) == sharded
    }
    if not there:
        raise unknown_name("data set", text, [*SETS, *ENVIRONMENTS])
    wanted = kind or ("play" if "play" in there else "navigate")
    if wanted not in there:
        raise InvalidConfig(f"there is no {wanted} data for {name}; there is {', '.join(there)}")
    return there[wanted]


def task_name(text: str) -> TaskName | None:
    """What ``cube-single-task1`` and OGBench's longer ways to write it say; None for other text."""
    found = _TASK.fullmatch(text)
    if found is None:
        return None
    size = found["size"] is not None
    return TaskName(found["environment"], found["kind"] or "", size, int(found["number"]))
