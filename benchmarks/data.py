"""Rows per second: loaded from every format, and drawn into batches from device, host and disk."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.measure import Blocks, interleave, machine, show, spread, write
from flowpolicy.data.chunk import ChunkView
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.host import HostWindows, asked
from flowpolicy.data.mapped import map_rows, write_rows
from flowpolicy.data.own import load_data
from flowpolicy.data.replay import UniformDraw, sample
from flowpolicy.runs.tasks import OGBench
from flowpolicy.types import Rows

EPISODE, OBS, ACTION = 200, 28, 5
BATCH, HORIZON, UPDATES = 256, 5, 100
FRAME, STACK = (64, 64, 3), 3
FRAME_ROWS, FRAME_UPDATES = 4_000, 5
"""Of pixels, drawn one row at a time as FQL does. On the device, and mapped, every row has its
stack; in memory a frame is kept once."""


def _arrays(rows: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    last = np.arange(rows) % EPISODE == EPISODE - 1
    return {
        "obs": draws.standard_normal((rows, OBS), np.float32),
        "action": np.clip(draws.standard_normal((rows, ACTION), np.float32), -1, 1),
        "reward": np.zeros(rows, np.float32),
        "last": last,
    }


def _npz(path: Path, a: dict[str, np.ndarray]) -> None:
    np.savez(path, observations=a["obs"], actions=a["action"], terminals=a["last"])


def _hdf5(path: Path, a: dict[str, np.ndarray]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = "{}"
        for i in range(len(a["last"]) // EPISODE):
            here = slice(i * EPISODE, (i + 1) * EPISODE)
            demo = data.create_group(f"demo_{i}")
            demo["actions"], demo["rewards"] = a["action"][here], a["reward"][here]
            demo["dones"] = np.zeros(EPISODE, np.int64)
            demo.create_group("obs")["object"] = a["obs"][here]


def _lerobot(folder: Path, a: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("meta/episodes/chunk-000", "data/chunk-000"):
        (folder / name).mkdir(parents=True)
    sizes = {"observation.state": OBS, "action": ACTION}
    features = {n: {"dtype": "float32", "shape": [size]} for n, size in sizes.items()}
    info = json.dumps({"codebase_version": "v3.0", "features": features})
    (folder / "meta" / "info.json").write_text(info)
    rows, count = len(a["last"]), len(a["last"]) // EPISODE
    vector = lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])  # noqa: E731
    table = {
        "observation.state": vector(a["obs"]),
        "action": vector(a["action"]),
        "frame_index": np.arange(rows) % EPISODE,
        "episode_index": np.arange(rows) // EPISODE,
    }
    pq.write_table(pa.table(table), folder / "data" / "chunk-000" / "file-000.parquet")
    meta = {"episode_index": np.arange(count), "length": np.full(count, EPISODE)}
    pq.write_table(pa.table(meta), folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")


def _touched(data: Dataset) -> float:
    return sum(float(np.sum(x)) for x in jax.tree.leaves(data.rows))


def loading(folder: Path, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds from a path to checked rows, every value looked at; files lie in the page cache."""
    arrays = _arrays(rows)
    makers: dict[str, Callable[..., None]] = {"npz": _npz, "hdf5": _hdf5, "lerobot": _lerobot}
    suffix = {"npz": ".npz", "hdf5": ".hdf5", "lerobot": ""}
    works = []
    for name, make in makers.items():
        make(folder / f"a{suffix[name]}", arrays)
        works.append((name, folder / f"a{suffix[name]}"))
    write_rows(folder / "rows", [load_data(folder / "a.npz")])
    works.append(("mapped", folder / "rows"))
    return {n: _timed(lambda p=path: load_data(p), rows, repeats) for n, path in works}


def _timed(load: Callable[[], Dataset], rows: int, repeats: int) -> dict[str, Any]:
    """The quickest of some tries; processor time is that of this process and its children."""
    tries = []
    for _ in range(repeats):
        began, used = time.perf_counter(), os.times()
        _touched(load())
        wall = time.perf_counter() - began
        tries.append((wall, sum(os.times()[:4]) - sum(used[:4])))
    wall, cpu = (min(column) for column in zip(*tries, strict=True))
    return {
        "repeats": repeats,
        "wall_ms": spread([w for w, _ in tries]),
        "rows_per_second": round(rows / wall),
        "rows_per_cpu_second": round(rows / max(cpu, 0.01)),
    }


def drawing(folder: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds for the windows of one update, of a block of ``UPDATES``."""
    mapped = map_rows(folder / "rows").rows
    return _drawn(jax.tree.map(np.array, mapped), mapped, HORIZON, UPDATES, repeats)


def frames(folder: Path, rows: int, repeats: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """``loading`` and ``drawing`` of frames: a file like those of OGBench's visual tasks."""
    draws = np.random.default_rng(0)
    last = np.arange(rows) % EPISODE == EPISODE - 1
    path = folder / "visual-cube-single-play-v0.npz"
    np.savez(
        path,
        observations=draws.integers(0, 256, (rows, *FRAME), np.uint8),
        actions=draws.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        qpos=draws.uniform(-0.5, 0.5, (rows, 21)).astype(np.float32),
        terminals=last,
    )
    task = OGBench("visual-cube-single-task1", file=str(path), stack=STACK)
    memory = task.dataset()
    write_rows(folder / "frames", [Dataset(jax.tree.map(np.asarray, memory.rows), memory.info)])
    mapped = map_rows(folder / "frames")
    loaded = {
        "frames, npz": _timed(task.dataset, rows, repeats),
        "frames, mapped": _timed(lambda: map_rows(folder / "frames"), rows, repeats),
    }
    return loaded, _drawn(memory.rows, mapped.rows, 1, FRAME_UPDATES, repeats)


def _drawn(memory: Rows, mapped: Rows, horizon: int, updates: int, repeats: int) -> dict[str, Any]:
    device = jax.tree.map(lambda x: jax.numpy.asarray(np.asarray(x)), memory)
    view, keys = ChunkView(horizon), jax.random.split(jax.random.key(0), updates)

    def one(key: Any) -> Any:
        each = jax.random.split(key, BATCH)
        return jax.vmap(lambda k: sample(k, device, None, view, UniformDraw()))(each)

    drawn = jax.jit(lambda ks: jax.lax.map(one, ks))
    works = {"device": lambda: drawn(keys)}
    for name, rows in (("memory", memory), ("mapped", mapped)):
        windows = HostWindows(rows, horizon=horizon, batch=BATCH, draw=UniformDraw())
        works[name] = lambda w=windows: w(asked(keys))
    for work in works.values():
        jax.block_until_ready(work())
    blocks = [(Blocks(updates), work) for work in works.values()]
    interleave(repeats, blocks)
    found = {}
    for name, (block, _) in zip(works, blocks, strict=True):
        summary = block.summary()
        rate = BATCH * horizon / summary["wall_ms"]["median"] * 1e3
        found[name] = summary | {"rows_per_second": round(rate)}
    return found


def main(rows: int = 100_000, repeats: int = 5, results: Path | None = None) -> None:
    """Measures, prints, writes."""
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        loaded = loading(Path(folder), rows, repeats)
        drawn = drawing(Path(folder), repeats)
        pixels, drawn_pixels = frames(Path(folder), min(rows, FRAME_ROWS), repeats)
    columns = ("format", "rows/s", "rows/s of CPU")
    show(f"loading {rows:,} rows of {OBS} + {ACTION}", columns, [
        (n, f["rows_per_second"], f["rows_per_cpu_second"])
        for n, f in (loaded | pixels).items()
    ])  # fmt: skip
    for what, found in ((f"{BATCH} x {HORIZON} states", drawn),
                        (f"{BATCH} stacks of {STACK} frames", drawn_pixels)):  # fmt: skip
        show(f"windows of {what}, an update", ("rows lie", "wall ms", "CPU ms", "rows/s"), [
            (n, f["wall_ms"]["median"], f["cpu_ms"]["median"], f"{f['rows_per_second']:,}")
            for n, f in found.items()
        ])  # fmt: skip
    content = {
        "machine": about, "rows": rows, "frame_rows": min(rows, FRAME_ROWS),
        "loading": loaded | pixels, "drawing": drawn, "drawing_frames": drawn_pixels,
    }  # fmt: skip
    print(write("data", content, results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    main(chosen.rows, chosen.repeats, chosen.results)
