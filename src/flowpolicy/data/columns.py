"""Folders of columns: one ``.npy`` file each, written block by block and opened without reading.

``columns.json`` beside them says how many rows there are, what the columns are, the SHA-256 of each
one's values, and whatever else was to be said. A column of a mapping is called ``obs.state``.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.npz import UNREADABLE, read_header
from flowpolicy.data.storage import storing
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData
from flowpolicy.readers import Limits, inside, read_object

FORMAT = "flowpolicy-columns-1"
ABOUT = "columns.json"
HEADER = 256
"""Bytes before the values; the header is written last, when the number of rows is known."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_BLOCK = 2**24

Columns = dict[str, np.ndarray]
Tree = np.ndarray | Mapping[str, np.ndarray]


class Writer:
    """Appends rows to the columns of a folder. The first block decides names, dtypes and shapes."""

    def __init__(self, folder: Path, final: Path) -> None:
        """Nothing is written yet; ``about`` is what ``columns.json`` is to say beside columns.
        ``final`` is where ``folder`` is going to be, as errors say.
        """
        self.about: dict[str, Any] = {}
        self.rows = 0
        self._folder, self._final = folder, final
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._files: dict[str, Any] = {}
        self._sums: dict[str, Any] = {}

    def append(self, block: Mapping[str, np.ndarray]) -> None:
        """Adds a block; ``InvalidData`` where it is not like the first one, ``StorageFailed``."""
        kinds = {name: (array.dtype, array.shape[1:]) for name, array in block.items()}
        if not self._files:
            self._begin(kinds)
        for name in sorted(set(kinds) ^ set(self._kinds)):
            raise InvalidData(f"{name} is in some episodes and missing in others")
        for name, kind in kinds.items():
            if kind != self._kinds[name]:
                told = " and ".join(f"{d} {s}" for d, s in (self._kinds[name], kind))
                raise InvalidData(f"{name} is not alike in all episodes: {told}")
        lengths = {name: len(array) for name, array in block.items()}
        if len(set(lengths.values())) != 1:
            raise InvalidData(f"columns of one episode must have the same rows, got {lengths}")
        for name, array in block.items():
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            with storing(self._final):
                self._files[name].write(data)
            self._sums[name].update(data)
        self.rows += next(iter(lengths.values()))

    def _begin(self, kinds: dict[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
        for name, (dtype, _) in kinds.items():
            if not _NAME.fullmatch(name):
                raise InvalidData(f"{name[:80]!r} is no name of a column")
            if dtype.kind not in "biuf":
                raise InvalidData(f"{name} must hold plain numbers, got dtype {dtype}")
            with storing(self._final):
                self._files[name] = open(self._folder / f"{name}.npy", "wb")
                self._files[name].write(bytes(HEADER))
            self._sums[name] = hashlib.sha256()
        self._kinds = kinds

    def finish(self) -> None:
        """Writes headers and ``columns.json`` and waits for the disk."""
        if not self.rows:
            raise InvalidData("there are no rows")
        for name, file in self._files.items():
            dtype, shape = self._kinds[name]
            file.seek(0)
            file.write(_header(dtype, (self.rows, *shape)))
            file.flush()
            os.fsync(file.fileno())
        sums = {name: total.hexdigest() for name, total in self._sums.items()}
        said = {"format": FORMAT, "rows": self.rows, "sha256": sums, "about": self.about}
        with open(self._folder / ABOUT, "w", encoding="utf-8") as file:
            json.dump(said, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """A writer of ``folder``, which appears whole when the block ends, or not at all.

    Raises ``InvalidConfig`` where something is there already, ``StorageFailed`` where the disk
    refuses, and what ``Writer`` raises.
    """
    check_free(folder)
    with storing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent)
    temporary = Path(beside)
    writer = Writer(temporary, folder)
    try:
        yield writer
        with storing(folder):
            writer.finish()
            writer.close()
            os.replace(temporary, folder)
            _flush(folder.parent)
    finally:
        writer.close()
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raises ``InvalidConfig`` where something is there already."""
    if os.path.lexists(folder):
        raise InvalidConfig(f"{folder} exists already; choose another folder or remove it")


def is_columns(folder: Path) -> bool:
    """Whether ``folder`` is meant as one of columns, sound or not."""
    return os.path.lexists(folder / ABOUT)


def open_columns(folder: Path, limits: Limits = Limits()) -> tuple[Columns, dict[str, Any]]:
    """The columns of ``folder``, mapped into memory and read when they are used, and ``about``.

    Names, headers and sizes are checked, the values are not: ``verify`` compares their sums.
    Raises ``MissingData`` or ``CorruptFile`` naming the file.
    """
    said = read_object(inside(folder, ABOUT), limits)
    names, rows, about = said.get("sha256"), said.get("rows"), said.get("about")
    if said.get("format") != FORMAT or not isinstance(names, dict) or not isinstance(about, dict):
        raise CorruptFile(f"{folder / ABOUT} is not a record of format {FORMAT}")
    if type(rows) is not int or rows < 1 or not names:
        raise CorruptFile(f"{folder / ABOUT}: rows and columns must be there, got {rows!r} rows")
    columns = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise CorruptFile(f"{folder / ABOUT}: {name[:80]!r} is no name of a column")
        columns[name] = _mapped(inside(folder, f"{name}.npy"), rows)
    return columns, about


def verify(folder: Path, limits: Limits = Limits()) -> list[str]:
    """Reads every value: which columns are not those that were written, as sentences."""
    columns, _ = open_columns(folder, limits)
    sums = read_object(folder / ABOUT, limits)["sha256"]
    troubles = []
    for name, column in columns.items():
        total = hashlib.sha256()
        values = column.reshape(-1).view(np.uint8)
        for start in range(0, len(values), _BLOCK):
            total.update(values[start : start + _BLOCK].data)
        if total.hexdigest() != sums[name]:
            troubles.append(f"{name}.npy was changed after it was written (SHA-256 differs)")
    return troubles


def flat(name: str, tree: Tree) -> Columns:
    """An observation tree as columns: ``obs``, or ``obs.<field>`` for each field."""
    if isinstance(tree, Mapping):
        return {f"{name}.{field}": np.asarray(array) for field, array in tree.items()}
    return {name: np.asarray(tree)}


def tree_of(columns: Mapping[str, np.ndarray], name: str) -> Any:
    """Inverse of ``flat``; None where there is no such column."""
    if name in columns:
        return columns[name]
    fields = {c.partition(".")[2]: a for c, a in columns.items() if c.startswith(f"{name}.")}
    return fields or None


def _mapped(path: Path, rows: int) -> np.ndarray:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            shape, fortran, dtype = read_header(file, size)
            offset = file.tell()
        if fortran or not shape or shape[0] != rows or dtype.kind not in "biuf":
            raise ValueError(f"{dtype} {shape} is no column of {rows} rows")
        column = np.memmap(path, dtype, "r", offset, shape) if size > offset else np.zeros(shape)
        if dtype.kind == "b" and column.view(np.uint8).max() > 1:
            raise ValueError("flags that are neither 0 nor 1")
    except FileNotFoundError:
        raise MissingData(f"{path} does not exist") from None
    except UNREADABLE as error:
        raise CorruptFile(f"{path} cannot be read ({error or type(error).__name__})") from None
    return column


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    room = HEADER - 10
    return b"\x93NUMPY\1\0" + room.to_bytes(2, "little") + text.encode().ljust(room - 1) + b"\n"


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
