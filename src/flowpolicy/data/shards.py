"""A data set in many files of one kind, of which one is trained on at a time (OGBench's 100M sets).

QC's code replaces the rows every so many updates by those of the next file, in the order of the
files' names, and begins again after the last.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowpolicy.data.ahead import Ahead
from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData


def shard_files(folder: str | Path) -> tuple[Path, ...]:
    """The npz files of a folder in the order of their names, without those of validation."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingData(f"{folder}: there is no such folder")
    found = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith("-val"))
    if not found:
        raise MissingData(f"{folder} holds no npz files")
    return tuple(found)


class Shards:
    """The rows of one file after the other; the next file is read while one is in use.

    Two files are in memory at most. Which rows belong to an update is a function of its number.
    """

    def __init__(
        self, files: tuple[Path, ...], every: int, load: Callable[[Path], Dataset]
    ) -> None:
        """``load`` reads one file (``load_data``, or ``ogbench.load`` with a task), which stays for
        ``every`` updates. Nothing is read yet.
        """
        if not files or every < 1:
            raise InvalidConfig(
                f"shards need at least one file and every >= 1, got {len(files)} files and {every}"
            )
        self._files, self._every, self._load = files, every, load
        self._like: tuple[Any, int] | None = None
        self._ahead: Ahead[int, Dataset] = Ahead(self._read, self._following)
        self._present: tuple[int, Dataset] | None = None

    def number(self, update: int) -> int:
        """Which file belongs to ``update``, counted from 0."""
        return update // self._every % len(self._files)

    def rows(self, update: int) -> Dataset:
        """The data set of ``update``; the same object as long as the file is the same.

        Raises what ``load`` does, and ``InvalidData`` for a file whose observations or actions are
        not shaped like those of the first one that was read.
        """
        number = self.number(update)
        if self._present is None or self._present[0] != number:
            self._present = None  # frees its memory before the next but one is read
            self._present = number, self._ahead(number)
        return self._present[1]

    def close(self) -> None:
        """Waits for the file that is being read."""
        self._ahead.close()

    def _following(self, number: int) -> int | None:
        return (number + 1) % len(self._files) if len(self._files) > 1 else None

    def _read(self, number: int) -> Dataset:
        path = self._files[number]
        data = self._load(path)
        like = (data.obs_shape, data.action_size)
        self._like = self._like or like
        if like != self._like:
            raise InvalidData(
                f"{path}: observations and actions are {like}, in the files before {self._like}"
            )
        return data
