"""OGBench's data files: where they lie, and a single task's rewards for their rows.

A file holds ``observations``, ``actions``, ``terminals`` and, for rewards, ``qpos``, ``qvel`` and
``button_states``; its rows belong to no task. Rewards count, below zero, the parts of the goal that
are not reached, and a row at the goal stops the value though the trajectory goes on.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.collect import versions
from flowpolicy.data.dataset import Dataset, problems_in
from flowpolicy.data.frames import are_frames, stacked
from flowpolicy.data.npz import Arrays, read_npz, sha256
from flowpolicy.data.record import promised_sum, read_record
from flowpolicy.data.sets import TaskName, find_set, task_name
from flowpolicy.data.shards import shard_files
from flowpolicy.errors import (
    CorruptFile,
    InvalidConfig,
    InvalidData,
    MissingData,
    UnknownName,
    unknown_name,
)
from flowpolicy.simulators import gymnasium_with_ogbench
from flowpolicy.types import Rows

Successes = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Which parts (rows, parts) of a goal hold in each row."""

TOLERANCE = 0.04
ROBOT_QPOS = 14
CUBE_QPOS = 7
BALL_QPOS = 15


def load(
    path: str | Path,
    task: str,
    *,
    reward_timing: str = "pre",
    sparse: bool = False,
    stack: int = 1,
) -> Dataset:
    """Reads an OGBench npz with the rewards of ``task`` (``cube-single-task1``).

    reward_timing: "pre" if a row's reward and termination are those of its state s, as OGBench
        labels its data and its environments since 1.2.0; "post" if those of s', the rule of the
        1.1.2 environments. Recorded in ``info``.
    sparse: every row before the whole task is done has reward -1, however much of it is done.
    stack: frames of a visual task that are seen at a time; they stay bytes, each kept once.

    Each trajectory's last row is dropped. ``terminated`` marks rows at the goal, ``ended`` ends
    of trajectories. Raises ``MissingData`` with the command that makes the file, ``CorruptFile``
    for a damaged one, or one that is not what the record beside it says, ``InvalidData`` for wrong
    contents, ``UnknownName`` for the task.
    """
    if reward_timing not in ("pre", "post"):
        raise InvalidConfig(f"reward_timing must be 'pre' or 'post', got {reward_timing!r}")
    path = Path(path)
    name = _parsed(task)
    environment, number = name.environment, name.number
    if not path.is_file():
        raise MissingData(
            f"{path}: there is no such file; {how_to_get(dataset_for(task), out=path)}"
        )
    successes = task_successes(environment, number)
    record, found = read_record(path), sha256(path)
    promised = None if record is None else promised_sum(record, path)
    if promised not in (None, found):
        raise CorruptFile(
            f"{path} is not the file that was collected: its SHA-256 is {found}, and the record "
            f"beside it promises {promised}"
        )
    arrays = read_npz(path)
    problems = problems_in_file(arrays)
    if problems:
        raise InvalidData(f"{path}: " + "; ".join(problems))
    try:
        reached = successes(arrays)
    except InvalidData as error:
        raise InvalidData(f"{path}: {error}") from None
    rows = _labelled(arrays, reached, reward_timing, sparse=sparse, stack=stack)
    info = {
        "source": "ogbench",
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": found,
        "task": f"{environment}-task{number}",
        "reward_timing": reward_timing,
        "sparse": sparse,
        "versions": versions(),
        "collected": record,
    }
    return Dataset.from_rows(rows, info)


def find_shards(task: str) -> tuple[Path, ...]:
    """The training files of a task whose data comes in many, such as
    ``cube-quadruple-play-100m-task1``; ``MissingData`` with the command that fetches them.
    """
    dataset = dataset_for(task)
    ours = default_path(dataset)
    folders = [ours.with_suffix(""), Path.home() / ".ogbench" / "data" / dataset]
    for folder in folders:
        if folder.is_dir():
            return shard_files(folder)
    places = ", ".join(str(folder) for folder in folders)
    raise MissingData(f"no data for {task} in {places}; {how_to_get(dataset)}")


def default_path(dataset: str, rows: int | None = None) -> Path:
    """Where the data set ``dataset`` (``cube-single-play-v0``) of that many rows is kept.

    The folder is ``$FLOWPOLICY_DATA``, else ``~/.flowpolicy/data``; nothing is created.
    """
    folder = Path(os.environ.get("FLOWPOLICY_DATA") or Path.home() / ".flowpolicy" / "data")
    return folder / (f"{dataset}.npz" if rows is None else f"{dataset}-{rows}.npz")


def or_most_rows(path: Path) -> Path:
    """``path``; where it is not there, the file ``<stem>-<rows>`` beside it of most rows."""
    if path.is_file():
        return path
    named = re.compile(rf"{re.escape(path.stem)}-(\d{{1,18}}){re.escape(path.suffix)}")
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    found = {int(match[1]): file for file in files if (match := named.fullmatch(file.name))}
    return found[max(found)] if found else path


def find(task: str, rows: int | None = None) -> Path:
    """The data file for ``task`` on this machine: ours of that many rows, the one without a number
    in its name, OGBench's own under ``~/.ogbench/data``; where no number is asked for, then ours of
    most rows. Raises ``MissingData`` with the command to make it.
    """
    dataset = dataset_for(task)
    candidates = [default_path(dataset, rows), default_path(dataset)]
    candidates.append(Path.home() / ".ogbench" / "data" / f"{dataset}.npz")
    if rows is None:
        candidates.append(or_most_rows(default_path(dataset)))
    for path in candidates:
        if path.is_file():
            return path
    places = ", ".join(str(path) for path in dict.fromkeys(candidates))
    raise MissingData(f"no data for {task} at {places}; {how_to_get(dataset, rows)}")


def dataset_of(environment: str, kind: str = "") -> str:
    """The name of an environment's data set, ``cube-single-play-v0``; raises as ``find_set``."""
    return find_set(environment, kind).name


def dataset_for(task: str) -> str:
    """The name of the data set that ``task`` is trained on: ``cube-single-noisy-v0`` for
    ``cube-single-noisy-task1``. Raises ``UnknownName``, or ``InvalidConfig`` for a kind of data
    that the environment does not have.
    """
    name = _parsed(task)
    return find_set(name.environment, name.kind, sharded=name.sharded).name


def how_to_get(dataset: str, rows: int | None = None, out: Path | None = None) -> str:
    """One sentence that says which command makes, or fetches, a data set; into ``out``, or where it
    is looked for.
    """
    found = find_set(dataset)
    there = "" if out is None else f" --out {shlex.quote(str(out))}"
    fetch = f"flowpolicy data download {dataset.removesuffix('-v0')}{there}"
    if found.shards or not found.collectable:
        return f"download it with: {fetch}"
    usual = dataset == dataset_of(found.environment)
    name = found.environment if usual else dataset.removesuffix("-v0")
    make = f"make it with: flowpolicy data collect {name} --rows {rows or 100_000}{there}"
    return (
        f"{make}, or download the official {found.transitions:,} rows with: {fetch}"
        if (found.official)
        else make
    )


def problems_in_file(arrays: Arrays) -> list[str]:
    """What is wrong with the arrays of an OGBench file, as sentences; empty if nothing."""
    missing = [n for n in ("observations", "actions", "terminals") if n not in arrays]
    if missing:
        return [f"{n} is missing; the file holds {', '.join(arrays) or 'nothing'}" for n in missing]
    ours = {
        "obs": arrays["observations"],
        "action": arrays["actions"],
        "ended": arrays["terminals"],
    }
    theirs = {"obs": "observations", "action": "actions", "ended": "terminals"}
    problems = [
        re.sub(r"\b(obs|action|ended)\b", lambda m: theirs[m[0]], problem)
        for problem in problems_in(ours)
    ]
    for name in ("qpos", "qvel", "button_states"):
        extra = arrays.get(name)
        if extra is None:
            continue
        if extra.ndim != 2 or len(extra) != len(arrays["observations"]):
            problems.append(f"{name} must have shape (rows, size), got {extra.shape}")
        elif not np.isfinite(extra).all():
            wrong = np.flatnonzero(~np.isfinite(extra).all(axis=1))
            problems.append(f"{name} is NaN or infinite in {len(wrong)} rows, first {wrong[:5]}")
    return problems


def task_successes(environment: str, number: int) -> Successes:
    """The goal of a task as a function of a file's rows, by OGBench's own definition of it.

    Raises ``UnknownName`` for an environment or a task that OGBench does not have; the function
    raises ``InvalidData`` where the rows lack what the goal is about.
    """
    gymnasium = gymnasium_with_ogbench()
    identifier = f"{environment.removeprefix('visual-')}-singletask-task{number}-v0"
    if identifier not in gymnasium.registry:
        raise _unknown(f"{environment}-task{number}")
    env = gymnasium.make(identifier, disable_env_checker=True).unwrapped
    goal = vars(env)["task_infos"][number - 1]
    if "maze" in environment or "soccer" in environment:
        start = BALL_QPOS if "soccer" in environment else 0
        return _position(start, np.asarray(goal["goal_xy"]), vars(env)["_goal_tol"])
    if "cube" in environment:
        return _cubes(goal["goal_xyzs"])
    if "puzzle" in environment:
        return _buttons(goal["goal_button_states"])
    return _scene(goal["goal"], vars(env)["_num_buttons"])


def _parsed(task: str) -> TaskName:
    found = task_name(task)
    if found is None:
        raise _unknown(task)
    return found


def _unknown(task: str) -> UnknownName:
    registry = gymnasium_with_ogbench().registry
    found = [re.fullmatch(r"(?!visual)(.+)-singletask(-task\d+)-v0", name) for name in registry]
    return unknown_name("task", task, [match[1] + match[2] for match in found if match])


def _labelled(
    arrays: Arrays, reached: np.ndarray, timing: str, *, sparse: bool, stack: int
) -> Rows:
    last = arrays["terminals"].astype(bool)
    last = np.append(last[:-1], True)
    # Rows with a successor, and the successors: aligned, as a trajectory's last row is no `here`.
    here = np.flatnonzero(~last)
    there = here + 1
    labels = reached[here if timing == "pre" else there]
    if sparse:
        labels = np.atleast_2d(labels.all(axis=1)).T
    seen = arrays["observations"]
    if are_frames(seen):
        obs, next_obs = stacked(seen, last, stack)
    else:
        obs, next_obs = seen[here], seen[there]
    return Rows(
        obs=obs,
        action=arrays["actions"][here],
        reward=(labels.sum(axis=1) - labels.shape[1]).astype(np.float32),
        terminated=np.asarray(labels.all(axis=1)),
        ended=last[there],
        next_obs=next_obs,
    )


def _column(arrays: Mapping[str, np.ndarray], name: str, width: int, *, exact: bool) -> np.ndarray:
    array = arrays.get(name)
    if array is None:
        raise InvalidData(f"{name} is missing, and without it rows cannot be given a task's reward")
    size = array.shape[1] if array.ndim == 2 else 0
    if size < width or (exact and size != width):
        raise InvalidData(
            f"{name} has {size} entries a row where the task needs {width}: "
            "the file belongs to another environment"
        )
    return array


def _position(start: int, goal: np.ndarray, tolerance: float) -> Successes:
    def successes(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        xy = _column(arrays, "qpos", start + 2, exact=False)[:, start : start + 2]
        return np.linalg.norm(xy - goal, axis=-1, keepdims=True) <= tolerance

    return successes


def _near(qpos: np.ndarray, goals: np.ndarray) -> np.ndarray:
    starts = ROBOT_QPOS + CUBE_QPOS * np.arange(len(goals))
    xyz = np.stack([qpos[:, start : start + 3] for start in starts], axis=1)
    return np.linalg.norm(goals - xyz, axis=-1) <= TOLERANCE


def _cubes(goals: np.ndarray) -> Successes:
    def successes(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        qpos = _column(arrays, "qpos", ROBOT_QPOS + CUBE_QPOS * len(goals), exact=True)
        return _near(qpos, goals)

    return successes


def _buttons(goals: np.ndarray) -> Successes:
    def successes(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return _column(arrays, "button_states", len(goals), exact=True) == goals

    return successes


def _scene(goal: Mapping[str, Any], buttons: int) -> Successes:
    drawer = ROBOT_QPOS + CUBE_QPOS * len(goal["block_xyzs"]) + buttons

    def successes(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        qpos = _column(arrays, "qpos", drawer + 2, exact=True)
        slides = np.array([goal["drawer_pos"], goal["window_pos"]])
        return np.concatenate(
            [
                _near(qpos, goal["block_xyzs"]),
                _buttons(goal["button_states"])(arrays),
                np.abs(qpos[:, drawer : drawer + 2] - slides) <= TOLERANCE,
            ],
            axis=1,
        )

    return successes
