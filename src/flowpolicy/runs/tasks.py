"""Tasks as data: where the rows and the environments of a run come from."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from flowpolicy.data import ogbench
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.sets import task_name
from flowpolicy.data.shards import Shards, first_of, shard_files
from flowpolicy.envs.base import Env
from flowpolicy.envs.make import make_env
from flowpolicy.envs.stacked import Stacked
from flowpolicy.envs.toy import MODES, PointMass, TwoModes, point_mass_data, two_mode_data
from flowpolicy.envs.ways import TwoWays, two_ways_data
from flowpolicy.parts import describe, register
from flowpolicy.runs.fields import ogbench_fields, ogbench_interval
from flowpolicy.train.given import check_least
from flowpolicy.train.task import Entry


@register("ogbench")
@dataclasses.dataclass(frozen=True)
class OGBench:
    """A single task of OGBench, with its play or navigation data."""

    task: str = "cube-single-task1"
    """Environment and task, as in cube-double-task3; with a word for its data where that is not
    play or navigate, as in cube-double-noisy-task3 or antmaze-large-stitch-task3."""
    rows: int = 0
    """Rows of the collected file that is meant; where it is not there, and with 0, the official one
    is. With 0 and no official one it is the collected one of most rows. The run's record names the
    file."""
    file: str = ""
    """A data file of yours, or a folder of them; empty for the usual places."""
    timing: Literal["pre", "post", "mixed"] = "pre"
    """Whether reward and success are those of the state before the action ("pre", OGBench 1.2.0
    and newer) or after it ("post"). "mixed" is OGBench 1.1.2, under which the papers' numbers were
    made: its data are labelled before the action, its environments after it."""
    sparse: bool = False
    """Whether every step before the whole task is done has reward -1, however much of it is done
    (QC: scene and puzzle-3x3)."""
    stack: int = 3
    """Frames of a visual task that are seen at a time (FQL: 3)."""
    rotate: int = 1_000
    """Updates after which the next file of a set of many is trained on (QC: 1 000), offline and
    online, from the next block of updates on. Normalisers are fitted to the first file alone."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, rows=0, stack=1, rotate=1)

    @property
    def name(self) -> str:
        """The task."""
        return self.task

    @property
    def playable(self) -> bool:
        """True."""
        return True

    def dataset(self) -> Dataset:
        """The rows with this task's rewards, of many files those of the first; ``MissingData`` says
        how to make them.
        """
        if self._sharded:
            return first_of(self._files(), self._load)
        return self._load(Path(self.file or ogbench.find(self.task, self.rows or None)))

    def shards(self, first: Dataset) -> Shards | None:
        """The files of a set of many, or those in the folder ``file``, one after the other."""
        if not self._sharded or "shards" not in first.info:
            return None
        return Shards(self._files(), self.rotate, self._load, first)

    @property
    def _sharded(self) -> bool:
        named = task_name(self.task)
        return Path(self.file).is_dir() if self.file else named is not None and named.sharded

    def _files(self) -> tuple[Path, ...]:
        return shard_files(self.file) if self.file else ogbench.find_shards(self.task)

    def _load(self, path: Path) -> Dataset:
        timing = "post" if self.timing == "post" else "pre"
        return ogbench.load(
            path, self.task, reward_timing=timing, sparse=self.sparse, stack=self.stack
        )

    def env(self) -> Env:
        """A new environment."""
        timing = "pre" if self.timing == "pre" else "post"
        env = make_env(self.task, success_timing=timing, sparse=self.sparse)
        return Stacked(env, self.stack) if self.task.startswith("visual-") else env

    @property
    def control_interval(self) -> float | None:
        """Seconds between two actions, where it is known."""
        return ogbench_interval(self.task)

    def fields(self) -> Mapping[str, tuple[Entry, ...]]:
        """What the entries of an observation are, where it is known."""
        return ogbench_fields(self.task)


@register("point_mass")
@dataclasses.dataclass(frozen=True)
class PointMassTask:
    """The toy task of ``envs.toy``, with rows of a wandering behaviour made on the spot."""

    rows: int = 5_000
    """Offline rows."""
    seed: int = 0
    """Seed of the rows."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, rows=1, seed=0)

    @property
    def name(self) -> str:
        """point-mass."""
        return "point-mass"

    @property
    def playable(self) -> bool:
        """True."""
        return True

    def dataset(self) -> Dataset:
        """The rows, the same for the same seed."""
        return _point_mass_rows(self.rows, self.seed)

    def env(self) -> Env:
        """A new environment."""
        return PointMass()


@register("two_modes")
@dataclasses.dataclass(frozen=True)
class TwoModesTask:
    """The two-mode bandit of ``envs.toy``, with rows cloned from half of each mode."""

    low: float = 0.6
    """What the mode at (-0.5, 0) is worth, the one at (0.5, 0) being worth 1."""
    rows: int = 2_000
    """Offline rows."""
    seed: int = 0
    """Seed of the rows."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, rows=1, seed=0)

    @property
    def name(self) -> str:
        """equal-modes or unequal-modes."""
        return "equal-modes" if self.low == 1.0 else "unequal-modes"

    @property
    def modes(self) -> tuple[tuple[float, float], ...]:
        """Centres in action space, for the count of modes kept."""
        return MODES

    @property
    def playable(self) -> bool:
        """True."""
        return True

    def dataset(self) -> Dataset:
        """The rows, the same for the same seed."""
        arrays = two_mode_data(self.rows, self.seed, low=self.low)
        return Dataset.from_arrays(**arrays, info={"source": describe(self)})

    def env(self) -> Env:
        """A new environment."""
        return TwoModes(self.low)


@register("two_ways")
@dataclasses.dataclass(frozen=True)
class TwoWaysTask:
    """The task of ``envs.ways``, with scripted demonstrations of both ways."""

    episodes: int = 200
    """Demonstrations, of 20 actions each."""
    seed: int = 0
    """Seed of the demonstrations."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, episodes=1, seed=0)

    @property
    def name(self) -> str:
        """two-ways."""
        return "two-ways"

    @property
    def playable(self) -> bool:
        """True."""
        return True

    def dataset(self) -> Dataset:
        """The rows, the same for the same seed."""
        arrays = two_ways_data(self.episodes, self.seed)
        return Dataset.from_arrays(**arrays, info={"source": describe(self)})

    def env(self) -> Env:
        """A new environment."""
        return TwoWays()


@functools.lru_cache(maxsize=4)
def _point_mass_rows(rows: int, seed: int) -> Dataset:
    arrays = point_mass_data(rows, seed)
    return Dataset.from_arrays(**arrays, info={"source": f"point_mass(rows={rows}, seed={seed})"})
