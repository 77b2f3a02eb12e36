"""LeRobotDataset v3: a folder of Parquet files, read with pyarrow, without torch.

``meta/info.json`` names the features, ``meta/episodes/*/*.parquet`` the episodes' lengths, and
``data/chunk-*/file-*.parquet`` holds the frames of all episodes in order. Videos and images are
left out. Runs in the process of ``data.foreign``, a few thousand frames at a time.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # pyright: ignore[reportMissingImports]
import pyarrow.parquet as pq  # pyright: ignore[reportMissingImports]

from flowpolicy.data.columns import Columns, flat
from flowpolicy.data.foreign import Emit
from flowpolicy.errors import CorruptFile, MissingData, unknown_name
from flowpolicy.readers import Limits, inside, read_object

ACTION, EPISODE, FRAME = "action", "episode_index", "frame_index"
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
FRAMES = 4096
"""Frames that are unpacked together."""
_NUMBERS = re.compile(r"(float|u?int)\d+|bool")


class _Plan(NamedTuple):
    """What is read: fields and their sizes, flags and rewards that are there, and what is not."""

    sizes: dict[str, int]
    fields: list[str]
    extras: list[str]
    left_out: list[str]


def read(folder: Path, options: Mapping[str, Any], limits: Limits, emit: Emit) -> dict[str, Any]:
    """Emits the frames of ``folder`` in order and tells of the set.

    options: ``fields``, the observations that are wanted (``observation.state``), all that are
             vectors of numbers where empty

    ``next.done`` stops the value; without it ``next.success`` does, and without both no frame does.
    An episode's last frame ends a trajectory. Raises ``MissingData`` or ``CorruptFile`` naming file
    and column, ``UnknownName`` for a field.
    """
    info = read_object(_path(folder, "meta", "info.json"), limits)
    plan = _plan(folder, info, list(options.get("fields", ())))
    files = [_open(path, limits) for path in _files(folder / "data")]
    meta = [_open(path, limits) for path in _files(folder / "meta" / "episodes")]
    rows = sum(file.metadata.num_rows for _, file in files)
    _check_size(folder, plan, files, rows, limits)
    episodes = _Episodes(folder, _lengths(meta, limits), rows)
    for path, file in files:
        for batch in _batches(path, file, [*plan.sizes, EPISODE, FRAME]):
            emit(_block(path, batch, plan, episodes))
    return {
        "source": "lerobot",
        "environment": "",
        "robot": str(info.get("robot_type") or ""),
        "fps": info.get("fps"),
        "fields": plan.fields,
        "left_out": plan.left_out,
        "missing": [name for name in (REWARD, DONE, SUCCESS) if name not in plan.extras],
    }


def _path(folder: Path, *names: str) -> Path:
    """A file of the folder; no part of the way to it may be a link."""
    for name in names:
        folder = inside(folder, name)
    return folder


def _plan(folder: Path, info: dict[str, Any], wanted: list[str]) -> _Plan:
    source = folder / "meta" / "info.json"
    version, features = info.get("codebase_version"), info.get("features")
    if not isinstance(version, str) or not version.startswith("v3."):
        raise CorruptFile(
            f"{source}: codebase_version must be v3.x, got {str(version)[:20]!r}; LeRobot's own "
            "converter brings older sets to v3.0"
        )
    if not isinstance(features, dict):
        raise CorruptFile(f"{source}: features must map names to what they are")
    sizes = {n: _size(source, n, f) for n, f in features.items() if _is_read(n)}
    known = {name: size for name, size in sizes.items() if size}
    if ACTION not in known:
        raise CorruptFile(f"{source}: features has no action that is a vector of numbers")
    observed = [name for name in known if name.startswith("observation.")]
    for name in wanted:
        if name not in observed:
            raise unknown_name("observation field", name, observed)
    fields = wanted or observed
    if not fields:
        raise CorruptFile(f"{source}: features has no observation.* that is a vector of numbers")
    extras = [name for name in (REWARD, DONE, SUCCESS) if known.get(name) == 1]
    left_out = [n for n in sizes if n.startswith("observation.") and n not in fields]
    return _Plan({n: known[n] for n in (ACTION, *fields, *extras)}, fields, extras, left_out)


def _is_read(name: str) -> bool:
    return name.startswith("observation.") or name in (ACTION, REWARD, DONE, SUCCESS)


def _size(source: Path, name: str, feature: Any) -> int:
    """Entries of a feature; 0 where it is not a vector of numbers."""
    told = feature if isinstance(feature, dict) else {}
    dtype, shape = told.get("dtype"), told.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise CorruptFile(f"{source}: features.{name[:80]} must have a dtype and a shape")
    if not _NUMBERS.fullmatch(dtype) or len(shape) > 1:
        return 0
    size = shape[0] if shape else 1
    if type(size) is not int or not 0 < size < 2**20:
        raise CorruptFile(f"{source}: features.{name[:80]} has the shape {str(shape)[:40]}")
    return size


def _files(folder: Path) -> list[Path]:
    """``chunk-*/file-*.parquet`` in the order of their numbers."""
    found = {}
    if not folder.is_dir() or folder.is_symlink():
        raise MissingData(f"{folder} is not there; a LeRobotDataset of version 3 has it")
    for chunk in folder.iterdir():
        chunk_number = re.fullmatch(r"chunk-(\d{1,9})", chunk.name)
        for file in _path(folder, chunk.name).iterdir() if chunk_number else ():
            number = re.fullmatch(r"file-(\d{1,9})\.parquet", file.name)
            if chunk_number and number:
                place = int(chunk_number[1]), int(number[1])
                found[place] = _path(folder, chunk.name, file.name)
    if not found:
        raise MissingData(f"{folder} holds no chunk-*/file-*.parquet")
    return [found[place] for place in sorted(found)]


def _open(path: Path, limits: Limits) -> tuple[Path, pq.ParquetFile]:
    if not path.is_file():
        raise CorruptFile(f"{path} is not a regular file")
    try:
        file = pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CorruptFile(f"{path} cannot be read ({error})") from None
    if file.metadata.num_row_groups > limits.members:
        raise CorruptFile(f"{path} has {file.metadata.num_row_groups:,} row groups")
    return path, file


def _check_size(
    folder: Path, plan: _Plan, files: list[tuple[Path, pq.ParquetFile]], rows: int, limits: Limits
) -> None:
    unpacked = 8 * rows * (sum(plan.sizes.values()) + 2)
    packed = sum(path.stat().st_size for path, _ in files)
    most = min(limits.rows_bytes, max(limits.npz_free_bytes, limits.rows_ratio * packed))
    if rows < 1 or unpacked > most:
        raise CorruptFile(f"{folder}: {packed:,} bytes tell of {rows:,} frames, {unpacked:,} bytes")


def _lengths(meta: list[tuple[Path, pq.ParquetFile]], limits: Limits) -> dict[int, int]:
    lengths: dict[int, int] = {}
    for path, file in meta:
        if file.metadata.num_rows > limits.members:
            raise CorruptFile(f"{path} tells of {file.metadata.num_rows:,} episodes")
        for batch in _batches(path, file, [EPISODE, "length"]):
            index, length = (_dense(path, batch, name, 1)[:, 0] for name in (EPISODE, "length"))
            lengths.update(zip(index.tolist(), length.tolist(), strict=True))
    return lengths


class _Episodes:
    """Which episode and frame each row must be, as ``meta/episodes`` has it."""

    def __init__(self, folder: Path, lengths: dict[int, int], rows: int) -> None:
        told = sum(lengths.values())
        odd = [i for i, n in lengths.items() if type(i) is not int or type(n) is not int or n < 1]
        if odd or told != rows:
            raise CorruptFile(
                f"{folder / 'meta' / 'episodes'}: length must be whole numbers above 0 whose sum "
                f"is the frames of data, {rows:,}; got {told:,}"
            )
        index = np.asarray(sorted(lengths), np.int64)
        length = np.asarray([lengths[i] for i in index.tolist()], np.int64)
        self._index = np.repeat(index, length)
        self._frame = np.arange(rows) - np.repeat(np.cumsum(length) - length, length)
        self._ended = np.append(self._frame[1:] == 0, True)
        self._at = 0

    def ended(self, path: Path, index: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Whether each of the next rows is its episode's last; ``CorruptFile`` for other rows."""
        here = slice(self._at, self._at + len(index))
        wrong = (index != self._index[here]) | (frame != self._frame[here])
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise CorruptFile(
                f"{path}: row {self._at + row} of the set is frame {frame[row]} of episode "
                f"{index[row]}, and meta/episodes has frame {self._frame[here][row]} of episode "
                f"{self._index[here][row]} there"
            )
        self._at += len(index)
        return self._ended[here]


def _batches(path: Path, file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    known = file.schema_arrow.names
    for name in names:
        if name not in known:
            raise CorruptFile(f"{path}: the column {name} is missing; it has {', '.join(known)}")
    try:
        yield from file.iter_batches(FRAMES, columns=names, use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CorruptFile(f"{path} cannot be read ({error})") from None


def _block(path: Path, batch: pa.RecordBatch, plan: _Plan, episodes: _Episodes) -> Columns:
    values = {name: _dense(path, batch, name, size) for name, size in plan.sizes.items()}
    index, frame = (_dense(path, batch, name, 1)[:, 0] for name in (EPISODE, FRAME))
    rows = len(index)
    stops = values.get(DONE, values.get(SUCCESS, np.zeros((rows, 1), bool)))
    obs = {name: values[name] for name in plan.fields}
    block = {
        **flat("obs", obs if len(obs) > 1 else values[plan.fields[0]]),
        "action": values[ACTION],
        "reward": values.get(REWARD, np.zeros((rows, 1), np.float32))[:, 0],
        "terminated": _flags(path, DONE, stops),
        "ended": episodes.ended(path, index, frame),
    }
    if SUCCESS in values:
        block["success"] = _flags(path, SUCCESS, values[SUCCESS])
    return block


def _flags(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    if not np.isin(values, (0, 1)).all():
        raise CorruptFile(f"{path}: {name} must hold flags, 0 or 1")
    return values[:, 0].astype(bool)


def _dense(path: Path, batch: pa.RecordBatch, name: str, size: int) -> np.ndarray:
    """A column as (rows, size); ``CorruptFile`` where rows differ in length or miss a value."""
    column = batch.column(batch.schema.get_field_index(name))
    rows, missing = len(column), column.null_count
    while isinstance(column.type, pa.ExtensionType):
        column = column.storage
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        if (lengths != size).any():
            raise CorruptFile(f"{path}: {name} must have {size} numbers in every row")
        column = column.flatten()
    elif pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    missing += column.null_count
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if missing or len(column) != rows * size or not (number or pa.types.is_boolean(column.type)):
        raise CorruptFile(
            f"{path}: {name} must have {size} numbers in every row, got {column.type} with "
            f"{missing} values missing"
        )
    return column.to_numpy(zero_copy_only=False).reshape(rows, size)
