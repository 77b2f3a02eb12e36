"""Looking at a data file: what is in it (``info``), and what is wrong with it (``check``)."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data import own
from flowpolicy.data.actions import ActionScaling, AsRecorded
from flowpolicy.data.columns import verify
from flowpolicy.data.dataset import MIN_ROWS
from flowpolicy.data.describe import Description, describe
from flowpolicy.data.npz import Arrays, read_npz, sha256
from flowpolicy.data.ogbench import problems_in_file, task_successes
from flowpolicy.data.record import promised_sum, read_record
from flowpolicy.data.recording import Recording
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData, UnknownName

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
    if arrays["terminals"].ndim != 1:
        shape = arrays["terminals"].shape
        raise InvalidData(f"{path}: terminals must have shape (rows,), got {shape}")
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


def examine(
    path: str | Path,
    *,
    actions: ActionScaling = AsRecorded(),
    chunk: int = 0,
    fields: tuple[str, ...] = (),
    subset: str = "",
) -> tuple[FileCheck, Description | None]:
    """``check`` of a data set of any kind that ``load_data`` reads, and what it holds.

    actions: in whose units actions are judged
    chunk:   the length of chunks that is meant to be trained with; 0 for none in particular
    fields, subset: as for ``load_data``

    The description is None where the file cannot be read, or its arrays have no common length.
    Raises ``MissingData`` where there is nothing, ``MissingExtra``, and ``InvalidConfig`` and
    ``UnknownName`` for the arguments.
    """
    path = Path(path)
    if chunk < 0:
        raise InvalidConfig(f"chunk must be at least 0, which is none in particular, got {chunk}")
    if not path.exists():
        raise MissingData(f"{path}: there is no such file or folder")
    try:
        kind = own.kind(path)
        first = check(path) if kind == "npz" else FileCheck(path, (), ())
        with own.recording(path, fields=fields, subset=subset) as found:
            units, problems = _problems(found, actions, kind, first)
            if kind == "rows":
                problems += verify(path)
            if not _describable(found):
                return FileCheck(path, tuple(problems), first.remarks), None
            told = describe(found, units, _horizons(chunk))
    except (CorruptFile, InvalidData) as error:
        return FileCheck(path, (str(error),), ()), None
    problems += _kept_problems(told, chunk)
    return FileCheck(path, tuple(problems), (*first.remarks, *_remarks(told, chunk))), told


def _problems(
    found: Recording, actions: ActionScaling, kind: str, first: FileCheck
) -> tuple[ActionUnits | None, list[str]]:
    """The units, where there are any, and everything that forbids training in them."""
    try:
        units = found.units(actions)
    except InvalidData as error:
        return None, [*first.problems, str(error)]
    problems = found.problems(units)
    if kind != "npz":
        return units, problems
    theirs = [re.sub(r"\b(\w+)", lambda m: _NPZ.get(m[0], m[0]), p) for p in problems]
    if not units.change_nothing:
        theirs += [p for p in first.problems if not p.startswith("actions must lie")]
        return units, list(dict.fromkeys(theirs))
    return units, list(dict.fromkeys([*first.problems, *theirs]))


_NPZ = {
    "obs": "observations",
    "next_obs": "next_observations",
    "action": "actions",
    "reward": "rewards",
    "terminated": "masks",
    "ended": "terminals",
}


def _describable(found: Recording) -> bool:
    leaves = found.obs.values() if isinstance(found.obs, Mapping) else (found.obs,)
    vectors = [found.reward, found.ended, found.terminated]
    vectors += [] if found.success is None else [found.success]
    arrays = (*leaves, found.action, *vectors)
    lengths = {len(a) if a.ndim and a.dtype.kind in "biuf" else 0 for a in arrays}
    shaped = found.action.ndim == 2 and all(a.ndim == 1 for a in vectors)
    return shaped and len(lengths) == 1 and 0 not in lengths


def _horizons(chunk: int) -> tuple[int, ...]:
    return tuple(sorted({1, 5, 8, 16, chunk} - {0}))


def _kept_problems(told: Description, chunk: int) -> list[str]:
    """What is wrong with the rows that are left where each trajectory's last one is dropped."""
    left = sum(told.kept)
    if left < MIN_ROWS <= told.rows:
        return [
            f"too few rows: at least {MIN_ROWS} are needed, and {left} of {told.rows} are left, as "
            "a trajectory's last row is dropped unless it terminates or has a next observation"
        ]
    fit = next((fit for fit in told.chunks if fit.horizon == chunk), None)
    if fit is None or fit.share > 0:
        return []
    longest = f"the longest has {max(told.kept)} rows that are trained on"
    return [f"no trajectory is as long as a chunk of {chunk}: {longest}"]


def _remarks(told: Description, chunk: int) -> list[str]:
    """What does not forbid training and should be known."""
    found = [f"it has no {name}" + _MEANS.get(name, "") for name in told.about.get("missing", ())]
    unread = told.about.get("unread", ())
    if unread:
        found.append(f"not read: {', '.join(unread)}")
    left_out = told.about.get("left_out", ())
    if left_out:
        found.append(f"left out, as no row of numbers: {', '.join(left_out)}")
    if told.lost_rewards:
        found.append(
            f"{told.lost_rewards} trajectories end in a row with another reward than the row "
            "before, which is dropped: it neither terminates nor has an observation after it"
        )
    if told.duplicate_episodes:
        found.append(f"{told.duplicate_episodes} trajectories are there more than once")
    found += _reward_remarks(told)
    for fit in told.chunks:
        if fit.horizon == chunk and fit.short_episodes:
            found.append(f"{fit.short_episodes} trajectories are shorter than a chunk of {chunk}")
    return found


def _reward_remarks(told: Description) -> list[str]:
    """Whether values can differ from row to row."""
    reward = told.columns["reward"]
    if reward.low == reward.high and not reward.not_finite:
        # What is not 0 adds up, so that with ends of its own it says how soon they come.
        timed = reward.low != (0.0,) and told.tells_success
        left = "how soon a row terminates" if timed else "cloning"
        return [f"every reward is {reward.low[0]:g}: nothing but {left} can be learned"]
    if len({*told.returns}) == 1 and not told.tells_success:
        return ["every trajectory has the same return: nothing but cloning can be learned"]
    return []


_MEANS = {
    "rewards": ": every reward is 0",
    "next.reward": ": every reward is 0",
    "masks": ": no row terminates",
    "dones": ": no row terminates",
    "next_observations": ": the last row of each trajectory is dropped unless it terminates",
    "next_obs": ": the last row of each trajectory is dropped unless it terminates",
    "next.done": ": next.success terminates, or nothing",
    "next.success": ": success is told by next.done, or not at all",
}


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
