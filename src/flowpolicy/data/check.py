"""Looking at a data file: what is in it (``info``), and what is wrong with it (``check``)."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.npz import Arrays, read_npz, sha256
from flowpolicy.data.ogbench import problems_in_file, task_successes
from flowpolicy.data.record import promised_sum, read_record
from flowpolicy.errors import CorruptFile, InvalidData, UnknownName

TASKS = range(1, 6)


@dataclasses.dataclass(frozen=True)
class ArrayInfo:
    """One array of a file; the ranges are per entry of a row, over all rows."""

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """What a data file holds.

    transitions: rows that have a successor, which is what training sees
    success_rows: for each task of its environment, the rows at the goal; empty where the
        environment is unknown
    record: how it was collected, as the ``.json`` beside it says, or None
    """

    path: Path
    bytes: int
    rows: int
    episodes: int
    transitions: int
    arrays: dict[str, ArrayInfo]
    environment: str | None
    success_rows: dict[str, int]
    record: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class FileCheck:
    """What is wrong with a data file: ``problems`` forbid training on it, ``remarks`` do not."""

    path: Path
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def info(path: str | Path) -> FileInfo:
    """Describes an OGBench npz. Raises ``MissingData``, ``CorruptFile``, or ``InvalidData`` where
    it lacks the arrays that every such file has.
    """
    path = Path(path)
    arrays = read_npz(path)
    for name in ("observations", "actions", "terminals"):
        if name not in arrays:
            raise InvalidData(f"{path}: {name} is missing; it holds {', '.join(arrays)}")
    last = arrays["terminals"].astype(bool)
    if len(last):
        last[-1] = True
    record = read_record(path)
    environment = _environment(path, record)
    return FileInfo(
        path=path,
        bytes=path.stat().st_size,
        rows=len(last),
        episodes=int(last.sum()),
        transitions=int((~last).sum()),
        arrays={name: _describe(array) for name, array in arrays.items()},
        environment=environment,
        success_rows=_success_rows(arrays, environment),
        record=record,
    )


def check(path: str | Path) -> FileCheck:
    """Looks for everything that training would refuse, without stopping at the first.

    Raises ``MissingData`` where there is no such file.
    """
    path = Path(path)
    remarks: list[str] = []
    try:
        arrays = read_npz(path)
    except CorruptFile as error:
        return FileCheck(path, (str(error),), ())
    problems, record = problems_in_file(arrays), None
    try:
        record = read_record(path)
    except CorruptFile as error:
        problems.append(str(error))
    if record is None:
        remarks.append("no record beside it says how it was made")
    else:
        promised = promised_sum(record, path)
        if promised is None:
            remarks.append(f"the record beside it does not know {path.name}")
        elif promised != sha256(path):
            problems.append("its bytes are not those that were collected (SHA-256 differs)")
    if not path.stem.endswith("-val") and not path.with_name(f"{path.stem}-val.npz").is_file():
        remarks.append(f"{path.stem}-val.npz is not beside it, which ogbench's loader asks for")
    remarks += _goal_remarks(arrays, _environment(path, record)) if not problems else []
    return FileCheck(path, tuple(problems), tuple(remarks))


def _goal_remarks(arrays: Arrays, environment: str | None) -> list[str]:
    if environment is None:
        return ["neither its name nor a record tells its environment; give the task when loading"]
    return [
        f"no row is at the goal of {task}: its rewards say nothing about success"
        for task, rows in _success_rows(arrays, environment).items()
        if rows == 0
    ]


def _environment(path: Path, record: dict[str, Any] | None) -> str | None:
    if record is not None:
        return record["environment"]
    found = re.match(r"(.+?)-(play|noisy|navigate|stitch|explore)-v0", path.stem)
    return found[1] if found else None


def _success_rows(arrays: Arrays, environment: str | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    if environment is None:
        return counts
    for number in TASKS:
        try:
            reached = task_successes(environment, number)(arrays)
        except (UnknownName, InvalidData):
            continue
        counts[f"{environment}-task{number}"] = int(reached.all(axis=1).sum())
    return counts


def _describe(array: np.ndarray) -> ArrayInfo:
    if array.size == 0 or array.ndim == 0:
        return ArrayInfo(array.shape, str(array.dtype), (), ())
    flat = array.reshape(len(array), -1)
    return ArrayInfo(
        shape=array.shape,
        dtype=str(array.dtype),
        low=tuple(float(x) for x in flat.min(axis=0)),
        high=tuple(float(x) for x in flat.max(axis=0)),
    )
