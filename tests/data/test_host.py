"""Rows on the host: the batches of rows on the device, to the bit, whatever was foreseen."""

import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.own_files import write_own_npz
from flowpolicy.data.ahead import Ahead
from flowpolicy.data.chunk import ChunkView, ShorterReturnView
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.host import HostWindows, asked
from flowpolicy.data.mapped import map_rows, write_rows
from flowpolicy.data.own import load_data
from flowpolicy.data.replay import OfflineShare, Ring, UniformDraw, choose, made, sample
from flowpolicy.data.shards import Shards, shard_files
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData

ROWS, H, BATCH = 57, 3, 16


def _data(rows: int = ROWS, seed: int = 0) -> Dataset:
    draws = np.random.default_rng(seed)
    return Dataset.from_arrays(
        obs={"a": draws.normal(size=(rows, 3)), "b": draws.normal(size=(rows,))},
        action=draws.uniform(-1, 1, (rows, 2)),
        reward=draws.normal(size=rows),
        terminated=np.arange(rows) % 19 == 18,
        truncated=np.arange(rows) % 7 == 6,
    )


def _ring(capacity: int, written: int) -> Ring:
    data = _data(40, seed=1).rows
    ring = Ring.create(data, capacity)
    for start in range(0, written, 4):
        some = jax.tree.map(lambda x, s=start: x[s : s + 4], data)
        ring = ring.insert(some, jnp.int32(min(4, written - start)))
    return ring


@pytest.mark.parametrize("view", [ChunkView(H, 0.9), ShorterReturnView(H, 0.9)])
@pytest.mark.parametrize(
    ("draw", "ring"),
    [(UniformDraw(), None), (UniformDraw(), (10, 7)), (OfflineShare(0.5), (10, 27))],
)
def test_batches_are_those_of_the_device(tmp_path: Path, view, draw, ring):
    """Mapped rows, several updates, with and without online rows (a ring that is full, one not)."""
    data = _data()
    write_rows(tmp_path / "rows", [data])
    mapped = map_rows(tmp_path / "rows").rows
    ring = None if ring is None else _ring(*ring)
    online = None if ring is None else (int(ring.oldest), int(ring.written - ring.oldest))
    keys = jax.random.split(jax.random.key(3), 4)

    def on_device(rows, ring, key):
        keys = jax.random.split(key, BATCH)
        return jax.vmap(lambda k: sample(k, rows, ring, view, draw))(keys)

    def from_host(windows, ring, key):
        keys = jax.random.split(key, BATCH)
        counts = None if ring is None else (ring.oldest, ring.written - ring.oldest)

        def one(k, rows, exists):
            return made(choose(k, len(data), counts, draw), (rows, exists), ring, view)

        return jax.vmap(one)(keys, windows.rows, windows.exists)

    there = jax.tree.map(jnp.asarray, data.rows)
    wanted = jax.jit(jax.vmap(on_device, (None, None, 0)))(there, ring, keys)
    windows = HostWindows(mapped, horizon=H, batch=BATCH, draw=draw)(asked(keys, online))
    found = jax.jit(jax.vmap(from_host, (0, None, 0)))(windows, ring, keys)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert len(np.unique(np.asarray(wanted.reward))) > BATCH  # not all the same sample


def test_a_replay_of_nothing():
    with pytest.raises(InvalidConfig, match="offline rows, a ring"):
        choose(jax.random.key(0), 0, None, UniformDraw())


def test_what_was_foreseen_is_computed_once_and_in_another_thread():
    calls: list[tuple[int, str]] = []

    def square(x: int) -> int:
        calls.append((x, threading.current_thread().name))
        if x == 5:
            raise ValueError("five")
        return x * x

    ahead = Ahead(square, lambda x: None if x == 9 else x + 1)
    assert [ahead(x) for x in (1, 2, 3)] == [1, 4, 9]
    assert ahead(7) == 49  # not foreseen
    assert ahead(4) == 16
    with pytest.raises(ValueError, match="five"):
        ahead(5)
    assert ahead(9) == 81  # and nothing after it
    ahead.close()
    asked_for = [x for x, _ in calls]
    assert [asked_for.count(x) for x in (1, 2, 3, 7, 9)] == [1] * 5
    assert 10 not in asked_for
    assert all(name.startswith("flowpolicy-ahead") for _, name in calls)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        write_own_npz(tmp_path / f"s-{i}.npz", rewards=np.full(30, float(i), np.float32))
        write_own_npz(tmp_path / f"s-{i}-val.npz")
    return tmp_path


def test_shards_rotate(folder: Path):
    files = shard_files(folder)
    assert [path.name for path in files] == ["s-0.npz", "s-1.npz", "s-2.npz"]
    loads: list[Path] = []

    def load(path: Path) -> Dataset:
        loads.append(path)
        return load_data(path)

    shards = Shards(files, 10, load)
    for update in range(0, 75, 3):
        assert set(shards.rows(update).rows.reward) == {float(update // 10 % 3)}, update
    assert shards.rows(70) is shards.rows(79)
    assert set(shards.rows(15).rows.reward) == {1.0}  # going back is no matter
    shards.close()
    assert len(loads) <= 12


def test_shards_that_do_not_fit(folder: Path, tmp_path: Path):
    write_own_npz(folder / "s-1.npz", observations=np.zeros((30, 9), np.float32))
    shards = Shards(shard_files(folder), 10, load_data)
    shards.rows(0)
    with pytest.raises(InvalidData, match=r"s-1\.npz: observations and actions are"):
        shards.rows(10)
    shards.close()
    with pytest.raises(InvalidConfig, match="every >= 1"):
        Shards(shard_files(folder), 0, load_data)
    with pytest.raises(MissingData, match="no such folder"):
        shard_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData, match="no npz"):
        shard_files(tmp_path / "empty")
