"""Collecting OGBench's data with its scripted oracles, in several processes."""

import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowpolicy.data.npz import read_npz, sha256, write_npz
from flowpolicy.data.sets import DataSet, find_set
from flowpolicy.data.storage import storing
from flowpolicy.errors import FlowPolicyError, InvalidConfig
from flowpolicy.simulators import gymnasium_with_ogbench

FORMAT = "flowpolicy-data-1"

WORKER = Path(__file__).resolve().with_name("play.py")

PACKAGES = ("flowpolicy", "ogbench", "mujoco", "gymnasium", "numpy", "scipy")
"""What rows of OGBench depend on."""

Progress = Callable[[int, int], None]


class CollectionFailed(FlowPolicyError, RuntimeError):
    """A worker stopped; the message holds the end of what it said."""


def collect(
    name: str,
    rows: int,
    out: str | Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    kind: str = "",
    episode_steps: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Collects at least ``rows`` transitions of ``name`` and writes them to ``out`` (an npz).

    ``name`` and ``kind`` are those of ``find_set``: ``cube-single`` and ``noisy``, or
    ``cube-single-noisy``. Whole episodes of ``episode_steps`` rows (default: as many as the
    authors') are played; as the loaders drop each episode's last row, an episode gives
    ``episode_steps - 1`` transitions. A fiftieth as many episodes (at least one) go to ``-val.npz``
    beside it, and a ``.json`` beside it tells how all was made; that record is returned. Every row
    is a function of (name, kind, seed, split, episode), not of ``workers`` (default: one for each
    core). ``progress(rows done, rows in all)`` is called in this thread.
    An existing ``out`` is an ``InvalidConfig`` unless ``overwrite``; ``StorageFailed`` where the
    disk refuses.
    """
    wanted = collected(name, kind)
    out, episode_steps = Path(out), episode_steps or wanted.steps
    check_workers(workers)
    plan = _plan(rows, out, seed, episode_steps, overwrite)
    workers = min(workers or _cores(), len(plan))
    with storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".collect-", dir=out.parent.resolve())
    with temporary as folder:
        arguments = [wanted.environment, wanted.kind, str(episode_steps), str(seed), folder]
        replies = _run_workers(arguments, plan, workers, progress, episode_steps)
        record = {
            "format": FORMAT,
            "source": "flowpolicy collect",
            "environment": wanted.environment,
            "dataset": wanted.name,
            "arguments": {"rows": rows, "seed": seed, "episode_steps": episode_steps},
            "retried_episodes": sum(reply["retries"] for reply in replies),
            "versions": versions(),
            "files": {},
        }
        with storing(out):
            _put(Path(folder), plan, record, out)
    return record


def check_workers(workers: int | None) -> None:
    """Raises ``InvalidConfig`` unless there is a number of processes, or None is asked for."""
    if workers is not None and workers < 1:
        raise InvalidConfig(f"workers must be at least 1, or not given: one a core; got {workers}")


def collected(name: str, kind: str = "") -> DataSet:
    """The data set of that name and kind, which can be made here.

    Raises what ``find_set`` does, and ``InvalidConfig`` where it cannot.
    """
    if name.startswith("robomimic-"):
        raise InvalidConfig(
            f"{name} is not of OGBench: its demonstrations are collected by flowpolicy data "
            f"demonstrate {name.removeprefix('robomimic-')}"
        )
    found = find_set(name, kind)
    if not found.collectable:
        raise InvalidConfig(
            f"{found.name}: its rows were made by learned experts that are not in the ogbench "
            f"package; it can only be downloaded: flowpolicy data download {found.name[:-3]}"
        )
    if found.shards:
        raise InvalidConfig(
            f"{found.name} comes in {found.shards} files and is not collected as a whole; collect "
            f"{found.environment} with a seed for each file"
        )
    return found


def versions(*packages: str) -> dict[str, str]:
    """Versions of ``packages``; of those that OGBench's rows depend on where none are given."""
    found = {}
    for package in packages or PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _plan(
    rows: int, out: Path, seed: int, episode_steps: int, overwrite: bool
) -> list[tuple[int, int]]:
    """Which episodes are played: (split, index) with split 0 for training, 1 for validation."""
    if rows < 1:
        raise InvalidConfig(f"rows must be at least 1, got {rows}")
    if seed < 0:
        raise InvalidConfig(f"seed must not be negative, got {seed}")
    if episode_steps < 2:
        raise InvalidConfig(f"episode_steps must be at least 2, got {episode_steps}")
    if out.suffix != ".npz":
        raise InvalidConfig(f"out must end in .npz, got {out.name!r}")
    if out.exists() and not overwrite:
        raise InvalidConfig(f"out: {out} is there already; choose another name or overwrite it")
    episodes = math.ceil(rows / (episode_steps - 1))
    validation = max(1, episodes // 50)
    return [(0, i) for i in range(episodes)] + [(1, i) for i in range(validation)]


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Reply(NamedTuple):
    answer: dict[str, Any]
    error: str


def _run_workers(
    arguments: list[str],
    plan: list[tuple[int, int]],
    workers: int,
    progress: Progress | None,
    episode_steps: int,
) -> list[dict[str, Any]]:
    tasks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    for task in plan:
        tasks.put(task)
    replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
    folder = Path(arguments[-1])
    children = [_start(arguments, folder / f"worker-{i}.log") for i in range(workers)]
    try:
        for i, child in enumerate(children):
            log = folder / f"worker-{i}.log"
            threading.Thread(target=_feed, args=(child, tasks, replies, log), daemon=True).start()
        answers = []
        for _ in plan:
            answer, error = replies.get()
            if error:
                raise CollectionFailed(f"collecting {arguments[0]}: a worker stopped: {error}")
            answers.append(answer)
            if progress is not None:
                progress(len(answers) * episode_steps, len(plan) * episode_steps)
        return answers
    finally:
        for child in children:
            child.kill()
            child.wait()


def _start(arguments: list[str], log: Path) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    # One thread each: the workers are the parallelism. And nothing is drawn that is not kept.
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if arguments[0].startswith("visual-"):
        gymnasium_with_ogbench()  # finds a way to draw, and says so in MUJOCO_GL
        environment["MUJOCO_GL"] = os.environ["MUJOCO_GL"]
    else:
        environment["MUJOCO_GL"] = "disable"
    with open(log, "w") as stderr:
        return subprocess.Popen(
            # -P keeps this folder, with its own ogbench.py, off the worker's module path.
            [sys.executable, "-P", str(WORKER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
            cwd=log.parent,  # where MuJoCo may leave its log
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
        )


def _feed(
    child: "subprocess.Popen[str]",
    tasks: "queue.SimpleQueue[tuple[int, int]]",
    replies: "queue.SimpleQueue[_Reply]",
    log: Path,
) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        while True:
            split, index = tasks.get_nowait()
            child.stdin.write(json.dumps({"split": split, "index": index}) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                break
            replies.put(_Reply(json.loads(line), ""))
    except queue.Empty:
        child.stdin.close()
        return
    except (OSError, ValueError):
        pass
    said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    replies.put(_Reply({}, f"exit status {child.wait()}; it said:\n{said}"))


def _put(parts: Path, plan: list[tuple[int, int]], record: dict[str, Any], out: Path) -> None:
    """Joins the episodes in ``parts``, completes the record, and gives all their final names."""
    for split, suffix in ((1, "-val.npz"), (0, ".npz")):
        indices = [index for s, index in plan if s == split]
        record["files"][out.stem + suffix] = _join(parts, split, indices, parts / suffix)
    write_text(parts / ".json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    for suffix in (".json", "-val.npz", ".npz"):
        os.replace(parts / suffix, out.with_name(out.stem + suffix))


def _join(parts: Path, split: int, indices: list[int], path: Path) -> dict[str, Any]:
    episodes = [read_npz(parts / f"{split}-{index}.npz") for index in indices]
    arrays = {name: np.concatenate([e[name] for e in episodes]) for name in episodes[0]}
    write_npz(path, arrays)
    return {
        "sha256": sha256(path),
        "rows": len(arrays["terminals"]),
        "episodes": len(indices),
    }


def write_text(path: Path, text: str) -> None:
    """Writes and flushes; the file is on the disk when this returns."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
