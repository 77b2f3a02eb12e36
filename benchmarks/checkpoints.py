"""What a checkpoint costs at the paper's size: ``python -m benchmarks.checkpoints``.

FMQ's agents as on its page, optimisers and targets included, cube-single's shapes, and a journal
of a million online rows; nothing is trained. Training waits while the state is copied and the
thread is told (blocking); the rest is written meanwhile (background).
"""

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import flowpolicy as fp
from benchmarks import measure
from flowpolicy import runs
from flowpolicy.data.dataset import Dataset
from flowpolicy.envs.base import Env, Step
from flowpolicy.parts import register
from flowpolicy.train import checkpoint, journal
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.journal import record_type, to_records
from flowpolicy.train.loop import Loop
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.prepare import prepare
from flowpolicy.train.watch import Silent
from flowpolicy.types import Rows

RUN, OBS, ACTION = "fmq/cube-single-task1", 28, 5
ROWS, AT_ONCE, SAVES, RESTORES = 1_000_000, 5, 30, 5
LOG_LINES = 20_000
"""Lines of ``metrics.jsonl``: those of two million updates."""
UPDATE_MS = 1.0
"""Milliseconds of an update that the share is told for: those of a fast accelerator."""


class Still:
    """An environment of cube-single's shapes in which nothing moves."""

    name, obs_shape, action_size, max_steps = "still", (OBS,), ACTION, 200

    def reset(self, seed: int) -> Any:
        """Zeros."""
        return np.zeros(OBS, np.float32)

    def step(self, action: np.ndarray) -> Step:
        """Zeros."""
        return Step(np.zeros(OBS, np.float32), 0.0, False, False, False)

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to free."""


@register("still")
@dataclasses.dataclass(frozen=True)
class StillTask:
    """Made-up rows, and ``Still``."""

    name, playable = "still", False

    def dataset(self) -> Dataset:
        """Gaussian numbers."""
        return Dataset.from_rows(_rows(1_000), {})

    def env(self) -> Env:
        """A new environment."""
        return Still()


def _rows(count: int) -> Rows:
    draws = np.random.default_rng(0)
    obs = draws.standard_normal((2, count, OBS), np.float32)
    action = draws.uniform(-1, 1, (count, ACTION)).astype(np.float32)
    no = np.zeros(count, bool)
    last = np.arange(count) == count - 1
    return Rows(obs[0], action, -np.ones(count, np.float32), no, last, obs[1])


def main(results: Path | None = None) -> None:
    """Measures, prints, writes ``results/checkpoints-<device>.json``."""
    machine = measure.machine()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        found = _saves(out) | _restores(out)
    share = found["blocking_ms"]["p50"] / (UPDATE_MS * RunConfig(agent=None).spacing)
    lines = [
        measure.wanted("blocking, p50 ms", found["blocking_ms"]["p50"], 50.0, at_most=True),
        measure.wanted("blocking, p99 ms", found["blocking_ms"]["p99"], 50.0, at_most=True),
        measure.wanted("share of training", share, 0.01, at_most=True),
        measure.wanted(
            "journal read, ms", found["journal_read_ms"]["median"], 1000.0, at_most=True
        ),
    ]
    path = measure.write(
        "checkpoints",
        {
            "benchmark": "checkpoints",
            "machine": machine,
            "protocol": f"{RUN}, observation {OBS}, action {ACTION}, {ROWS} rows in the journal, "
            f"{LOG_LINES} lines of metrics; {SAVES} saves one after the other, each with new rows; "
            f"the share is that of an update of {UPDATE_MS} ms and the default interval",
            "results": {**found, "share": round(share, 6)},
            "wanted": lines,
        },
        results,
    )
    rows = [(name, value) for name, value in found.items()]
    measure.show("a checkpoint at the paper's size", ("what", "measured"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _loop(out: Path) -> Loop:
    task = StillTask()
    config = dataclasses.replace(runs.get(RUN).config, task=task)
    folder = RunFolder(out)
    rows, hardware = task.dataset(), Hardware()
    parts = prepare(config, task, rows, folder, Silent(), record={}, start=None, hardware=hardware)
    return Loop(parts)


def _saves(out: Path) -> dict[str, Any]:
    """Size, and times of the two halves of a save; the rows go in first."""
    loop = _loop(out)
    loop.learner.begin_online()
    loop.folder.append_metrics(
        [{"phase": "offline", "number": i, "x": "." * 600} for i in range(LOG_LINES)]
    )
    (rows,) = loop.journals
    tick = to_records(rows.kind, _rows(AT_ONCE), AT_ONCE)
    began = time.perf_counter()
    for _ in range(ROWS // AT_ONCE):
        rows.append(tick)
    written = time.perf_counter() - began
    loop.save()
    loop.keeper.wait()
    blocking, background = [], []
    for _ in range(SAVES):
        rows.append(tick)
        loop.learner.updates += 1
        jax.block_until_ready(loop.learner.agents)
        began = time.perf_counter()
        loop.save()
        blocking.append(time.perf_counter() - began)
        loop.keeper.wait()
        background.append(time.perf_counter() - began - blocking[-1])
    path = checkpoint.checkpoints(loop.folder.checkpoints)[-1]
    size = {file.name: file.stat().st_size for file in path.iterdir()}
    loop.close()
    return {
        "state_mb": round(size["state.safetensors"] / 1e6, 1),
        "checkpoint_mb": round(sum(size.values()) / 1e6, 1),
        "row_bytes": rows.kind.itemsize,
        "journal_mb": round(ROWS * rows.kind.itemsize / 1e6, 1),
        "journal_append_s": round(written, 3),
        "journal_append_us_per_tick": round(1e6 * written * AT_ONCE / ROWS, 2),
        "blocking_ms": _percentiles(blocking),
        "background_ms": _percentiles(background),
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ms = 1e3 * np.asarray(seconds)
    return {
        "p50": round(float(np.median(ms)), 2),
        "p99": round(float(np.percentile(ms, 99)), 2),
        "max": round(float(ms.max()), 2),
    }


class Reached(Exception):
    """Training would begin here."""


class Begins(Silent):
    """Stops a run where its training begins."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Throws ``Reached``."""
        raise Reached


def _restores(out: Path) -> dict[str, Any]:
    """Seconds of resuming: in parts, and all of it up to the first update to be compiled."""
    names = ("checkpoint_read", "journal_read", "restore")
    times: dict[str, list[float]] = {f"{name}_ms": [] for name in names}
    folder, kind = RunFolder(out), record_type(_rows(1))
    path, dataset = checkpoint.checkpoints(folder.checkpoints)[-1], StillTask().dataset()
    for _ in range(RESTORES):
        marks = [time.perf_counter()]
        (cursor,) = checkpoint.read(path).meta["journals"]
        marks.append(time.perf_counter())
        journal.read(folder.journal(0), kind, cursor)
        marks.append(time.perf_counter())
        with contextlib.suppress(Reached):
            fp.resume(out, dataset, watch=Begins())
        marks.append(time.perf_counter())
        for values, seconds in zip(times.values(), np.diff(marks), strict=True):
            values.append(float(seconds))
    return {name: measure.spread(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
