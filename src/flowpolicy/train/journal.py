"""The journal: online rows on disk, in the order in which they were made, one journal per seed.

A journal is a folder of segments; a segment is a row of records of one size, nothing else. Which
segments belong to a checkpoint, how many of their rows, and the SHA-256 of these, is its ``Cursor``
and is written in the checkpoint: bytes behind it are of no consequence, and bytes before it are
checked before a record is believed.
"""

import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy.errors import CorruptFile
from flowpolicy.readers import inside, read_bytes
from flowpolicy.train import durable
from flowpolicy.types import Rows

SEGMENT_BYTES, SEGMENT_ROWS = 16 * 2**20, 256
"""A segment is full at so many bytes, but holds so many rows at least."""
LARGEST = 2**30
"""Bytes of a segment that are read at most; 256 of the largest records are in one at least."""
NAME = re.compile(r"rows-(\d{12})\.bin")

ENDED = ".ended"
"""The field that says where a trajectory ends."""

Cursor = list[dict[str, Any]]
"""One mapping per segment, oldest first: file, first (row number), rows, sha256."""


def record_type(like: Rows) -> np.dtype:
    """The record of one row of ``like``, whose leaves have a leading axis. Little-endian."""
    fields = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
        kind = np.dtype(leaf.dtype).newbyteorder("<")
        fields.append((jax.tree_util.keystr(path), kind, tuple(leaf.shape[1:])))
    return np.dtype(fields)


def to_records(kind: np.dtype, rows: Rows, count: int) -> np.ndarray:
    """The first ``count`` of ``rows`` as records."""
    records = np.empty(count, kind)
    for path, leaf in jax.tree_util.tree_flatten_with_path(rows)[0]:
        records[jax.tree_util.keystr(path)] = leaf[:count]
    return records


def to_rows(records: np.ndarray, like: Rows) -> Rows:
    """Inverse of ``to_records``."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = [np.ascontiguousarray(records[jax.tree_util.keystr(path)]) for path, _ in paths]
    return jax.tree_util.tree_unflatten(structure, leaves)


class Segment:
    """A file of records that is, or was, written to."""

    def __init__(self, path: Path, first: int, rows: int, digest: "hashlib._Hash") -> None:
        """``first`` is the number of its first row; ``digest`` has seen its ``rows`` rows."""
        self.path, self.first, self.rows, self.digest = path, first, rows, digest

    def entry(self) -> dict[str, Any]:
        """What a cursor says of it."""
        return {
            "file": self.path.name,
            "first": self.first,
            "rows": self.rows,
            "sha256": self.digest.hexdigest(),
        }


class Journal:
    """Appends rows; reads those that a cursor speaks of."""

    def __init__(self, folder: Path, kind: np.dtype) -> None:
        """A journal of records of ``kind``; nothing is written yet."""
        self.folder, self.kind = folder, kind
        self._segments: list[Segment] = []
        self._handle: int | None = None
        self._unflushed: set[Path] = set()
        self._size = max(SEGMENT_BYTES // kind.itemsize, SEGMENT_ROWS)

    def go_on(self, segments: list[Segment]) -> None:
        """Appends after ``segments``, which are on disk."""
        self._segments = segments

    @property
    def rows(self) -> int:
        """Rows ever appended."""
        return self._segments[-1].first + self._segments[-1].rows if self._segments else 0

    def append(self, records: np.ndarray) -> None:
        """Hands records to the operating system; ``flush`` makes them durable."""
        while len(records):
            segment = self._open_segment()
            room = records[: self._size - segment.rows]
            data = room.tobytes()
            durable.write_all(self._handle or 0, data, segment.path)
            segment.digest.update(data)
            segment.rows += len(room)
            self._unflushed.add(segment.path)
            records = records[len(room) :]

    def _open_segment(self) -> Segment:
        full = bool(self._segments) and self._segments[-1].rows >= self._size
        if full:
            self.close()
        if full or not self._segments:
            durable.make_folder(self.folder)
            path = self.folder / f"rows-{self.rows:012d}.bin"
            self._segments.append(Segment(path, self.rows, 0, hashlib.sha256()))
        if self._handle is None:
            self._handle = durable.open_end(self._segments[-1].path)
        return self._segments[-1]

    def cursor(self, oldest: int) -> Cursor:
        """Where the journal ends now, and what of it holds row ``oldest`` or later ones."""
        self._segments = [
            s for s in self._segments if s.first + s.rows > oldest or s is self._segments[-1]
        ]
        return [segment.entry() for segment in self._segments]

    def unflushed(self) -> set[Path]:
        """Files that the disk may not have yet; from here on they are the caller's to flush."""
        found, self._unflushed = self._unflushed, set()
        return found

    def close(self) -> None:
        """Gives the open file back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def drop_before(folder: Path, row: int) -> None:
    """Removes segments of which every row is older than ``row``, but not the newest."""
    pairs = itertools.pairwise(segments_in(folder))
    old = [path for (_, path), (following, _) in pairs if following <= row]
    for path in old:
        durable.remove(path)
    if old:
        durable.flush_folder(folder)


def segments_in(folder: Path) -> list[tuple[int, Path]]:
    """First row and path of every segment in a folder, oldest first."""
    if not folder.is_dir():
        return []
    named = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in named if match)


def flush(files: set[Path]) -> None:
    """Makes rows and the names of their files durable."""
    for path in sorted(files):
        handle = durable.open_end(path)
        try:
            durable.flush(handle, path)
        finally:
            os.close(handle)
    for folder in sorted({path.parent for path in files}):
        durable.flush_folder(folder)


def read(folder: Path, kind: np.dtype, cursor: Cursor) -> tuple[np.ndarray, list[Segment]]:
    """The records a cursor speaks of, from its first row on, and its segments.

    Raises ``CorruptFile`` that names the file where bytes are missing or were altered, or where the
    cursor makes no sense. Nothing is changed.
    """
    parts, segments = [np.empty(0, kind)], []
    for entry in cursor:
        segment, data = _segment(folder, kind, entry)
        if segments and segment.first != segments[-1].first + segments[-1].rows:
            raise CorruptFile(f"{folder}: rows between two segments are missing")
        segments.append(segment)
        parts.append(np.frombuffer(data, kind))
    return np.concatenate(parts), segments


def _segment(folder: Path, kind: np.dtype, entry: dict[str, Any]) -> tuple[Segment, memoryview]:
    name, first, rows = str(entry.get("file")), entry.get("first"), entry.get("rows")
    if not (isinstance(first, int) and isinstance(rows, int) and min(first, rows) >= 0) or (
        name != f"rows-{first:012d}.bin"
    ):
        raise CorruptFile(f"{folder}: the checkpoint speaks of a segment {name!r}, which is none")
    path, size = inside(folder, name), rows * kind.itemsize
    data = memoryview(read_bytes(path, LARGEST))[:size]
    if len(data) < size:
        raise CorruptFile(f"{path} holds {len(data)} bytes, the checkpoint needs its first {size}")
    digest = hashlib.sha256(data)
    if digest.hexdigest() != entry.get("sha256"):
        raise CorruptFile(f"{path} was changed after it was written (SHA-256 differs)")
    return Segment(path, first, rows, digest), data


def cut(folder: Path, kind: np.dtype, segments: list[Segment]) -> None:
    """Makes the folder end where ``segments`` do: what was written later is removed.

    Segments from before stay: an older checkpoint may need them.
    """
    last = segments[-1] if segments else None
    for first, path in segments_in(folder):
        if last is None or first > last.first:
            durable.remove(path)
    if last is not None:
        durable.cut(last.path, last.rows * kind.itemsize)
    if folder.is_dir():
        durable.flush_folder(folder)
