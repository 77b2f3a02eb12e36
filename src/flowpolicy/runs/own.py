"""A data set of one's own as a task: by its path, so that a run finds its rows again."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from flowpolicy.data.actions import ActionScaling, AsRecorded
from flowpolicy.data.columns import is_columns
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.own import load_data
from flowpolicy.data.shards import Shards, first_of, shard_files
from flowpolicy.deploy.units import RECORD, ActionUnits, read_units
from flowpolicy.envs.base import Env
from flowpolicy.envs.units import InUnits
from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.runs.farama import Gymnasium, Minari
from flowpolicy.train.given import check_least
from flowpolicy.train.task import RowsOnly, Task, is_physical


@register("own_data")
@dataclasses.dataclass(frozen=True)
class OwnData:
    """Rows of yours, in any format of ``load_data``, and an environment where there is one."""

    path: str
    """The file or the folder. The npz files of a folder are trained on one after the other."""
    actions: ActionScaling = AsRecorded()
    """How recorded actions become [-1, 1]: ``as_recorded``, ``action_min_max``,
    ``action_mean_std``. The units are kept with the run and in its packages."""
    reward_shift: float = 0.0
    """Added to every reward; -1 makes a success of 1 the -1 and 0 of QC and FMQ."""
    fields: tuple[str, ...] = ()
    """Observations that are read, all vectors where empty (HDF5, LeRobot)."""
    subset: str = ""
    """A filter key of the file, as in mask/train (HDF5)."""
    rotate: int = 1_000
    """Updates after which the next file of a folder of npz files is trained on, from the next block
    of updates on; at least ``run.block``. Normalisers are fitted to the first file alone."""
    world: Any = None
    """A task whose environment is played; its actions are in the data's units. None trains
    offline and evaluates nothing."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not self.path:
            raise InvalidConfig("own_data.path must name a file or a folder, got an empty text")
        check_least(self, rotate=1)
        if self.world is not None and not isinstance(self.world, Task):
            raise InvalidConfig(f"own_data.world must be a task, got {self.world!r}")
        if isinstance(self.world, Gymnasium | Minari) and self.actions != AsRecorded():
            raise InvalidConfig(
                "own_data.world must take actions in the data's units where these are scaled, "
                f"and {self.world.name} takes those of [-1, 1], scaled to a box of its own; give a "
                "task of yours whose environment does"
            )
        if self._sharded and self.actions != AsRecorded():
            raise InvalidConfig(
                "own_data.actions must be as_recorded() for a folder of npz files, as what is "
                f"fitted to one does not fit the next; got {self.actions}"
            )

    @property
    def name(self) -> str:
        """The file's name, or that of the world."""
        return Path(self.path).name if self.world is None else self.world.name

    @property
    def playable(self) -> bool:
        """Whether there is a world."""
        return self.world is not None and self.world.playable

    @property
    def physical(self) -> bool:
        """Whether the world is a robot."""
        return self.world is not None and is_physical(self.world)

    def dataset(self) -> Dataset:
        """The rows, of many files those of the first; raises what ``load_data`` does."""
        return _load(self, stamp(self.path))

    def shards(self, first: Dataset) -> Shards | None:
        """The npz files of a folder, one after the other."""
        if not self._sharded or "shards" not in first.info:
            return None
        return Shards(shard_files(self.path), self.rotate, self.read, first)

    def read(self, path: str | Path) -> Dataset:
        """The rows of one file, as ``load_data`` reads them."""
        return load_data(
            path,
            actions=self.actions,
            reward_shift=self.reward_shift,
            fields=self.fields,
            subset=self.subset,
        )

    @property
    def _sharded(self) -> bool:
        folder = Path(self.path)
        marked = (folder / "meta").is_dir() or is_columns(folder)
        return folder.is_dir() and not marked and any(folder.glob("*.npz"))

    def env(self) -> Env:
        """A new environment, in the units of the data; ``MissingData`` without a world."""
        if self.world is None:
            return RowsOnly(self.name).env()
        env = self.world.env()
        told = self.dataset().info.get(RECORD)
        units = ActionUnits.unchanged(env.action_size)
        if told is not None:
            units = read_units(told, env.action_size, self.path)
        return env if units.change_nothing else InUnits(env, units)


def stamp(path: str) -> tuple[int, int]:
    """Bytes of the file ``path``, or of all files in that folder, and a hash of their names, sizes
    and times of change; another when a file is.
    """
    files = [Path(path), *sorted(Path(path).rglob("*"))]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    told = tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)
    return sum(size for _, size, _ in told), hash(told)


@functools.lru_cache(maxsize=1)
def _load(task: OwnData, stamp: tuple[int, int]) -> Dataset:
    del stamp
    if task._sharded:
        return first_of(shard_files(task.path), task.read)
    return task.read(task.path)
