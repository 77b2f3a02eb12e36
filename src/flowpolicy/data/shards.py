"""A data set in many files of one kind, of which one is trained on at a time (OGBench's 100M sets).

QC's code replaces the rows every so many updates by those of the next file, in the order of the
files' names, and begins again after the last. It does so offline, and online keeps the last file
that was trained on; here files go on changing online.

All files have as many rows as the first one, so that no program is compiled anew: of a longer file
the first so many, of a shorter one its first ones again after its last.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

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


def first_of(files: tuple[Path, ...], load: Callable[[Path], Dataset]) -> Dataset:
    """The rows of the first file, by which normalisers are fitted, and in ``info`` names and bytes
    of all of them.
    """
    data = load(files[0])
    sizes = {path.name: path.stat().st_size for path in files}
    return dataclasses.replace(data, info={**data.info, "shards": sizes})


def check_same_files(info: Mapping[str, Any], recorded: Mapping[str, Any], source: str) -> None:
    """Raises ``InvalidData`` where the files that ``info`` tells of are not those recorded.

    Names and sizes are compared; their rows, as they are many, are not. ``source`` is what the
    message calls the run that recorded them.
    """
    ours, theirs = info.get("shards", {}), recorded.get("shards", {})
    other = sorted(set(ours.items()) ^ set(theirs.items()))
    if other:
        raise InvalidData(
            f"{source} was trained on other files: {other[0][0]} is new, gone or of another size; "
            "give the files it was trained on, or start a new run"
        )


class Shards:
    """The rows of one file after the other; the next file is read while one is in use.

    Two files are in memory at most, and the first one where it is given. Which rows belong to an
    update is a function of its number.
    """

    def __init__(
        self,
        files: tuple[Path, ...],
        every: int,
        load: Callable[[Path], Dataset],
        first: Dataset | None = None,
    ) -> None:
        """``load`` reads one file (``load_data``, or ``ogbench.load`` with a task), which stays for
        ``every`` updates. ``first`` are the rows of the first file, where they are read already.
        Nothing is read yet.
        """
        if not files or every < 1:
            raise InvalidConfig(
                f"shards need at least one file and every >= 1, got {len(files)} files and {every}"
            )
        self._files, self._every, self._load = files, every, load
        self._first = first
        self._like = None if first is None else (first.obs_shape, first.action_size)
        self._size = 0 if first is None else len(first)
        self._ahead: Ahead[int, Dataset] = Ahead(self._read, self._following)
        self._present: tuple[int, Dataset] | None = None

    def __len__(self) -> int:
        """Number of files."""
        return len(self._files)

    @property
    def every(self) -> int:
        """Updates that belong to one file before the next one's."""
        return self._every

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
        if number == 0 and self._first is not None:
            return self._first
        path = self._files[number]
        data = self._load(path)
        like = (data.obs_shape, data.action_size)
        self._like, self._size = self._like or like, self._size or len(data)
        if like != self._like:
            raise InvalidData(
                f"{path}: observations and actions are {like}, in the files before {self._like}"
            )
        return data if len(data) == self._size else of_size(data, self._size)


def of_size(data: Dataset, size: int) -> Dataset:
    """The first ``size`` rows of ``data``, which begin again after the last if they are fewer."""
    places = np.arange(size) % len(data)
    rows = jax.tree.map(lambda column: column[places], data.rows)
    ended = np.array(rows.ended)
    ended[-1] = True  # what follows, if anything does, is another trajectory
    return dataclasses.replace(data, rows=dataclasses.replace(rows, ended=ended))
