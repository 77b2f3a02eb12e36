"""Demonstrations that are written are those that are read, and nothing half-written stays."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.demos import ARGS, demonstration
from flowpolicy.data.demonstrations import RECORD, writing
from flowpolicy.data.own import load_data
from flowpolicy.errors import MissingExtra, StorageFailed

h5py = pytest.importorskip("h5py")


def test_what_is_written_is_read(tmp_path: Path):
    episodes = [demonstration(3 + i, i) for i in range(11)]
    path = tmp_path / "new" / "a.hdf5"
    with writing(path, ARGS) as writer:
        for episode in episodes:
            writer.append(episode)
        writer.record = {"seed": 0}
        assert not path.exists()
    assert (writer.rows, writer.episodes) == (sum(range(3, 14)), 11)
    data = load_data(path, fields=("object", "robot0_eef_pos"))
    assert (len(data), data.episodes) == (writer.rows, 11)
    assert data.info["env_args"] == ARGS
    rows = data.rows
    wanted = np.concatenate([e.next_obs["robot0_eef_pos"] for e in episodes])
    np.testing.assert_array_equal(rows.next_obs["robot0_eef_pos"], wanted.astype(np.float32))
    wanted = np.concatenate([e.action for e in episodes])
    np.testing.assert_array_equal(rows.action, wanted.astype(np.float32))
    np.testing.assert_array_equal(rows.terminated, rows.ended)
    np.testing.assert_array_equal(rows.reward, rows.ended.astype(np.float32))
    valid = load_data(path, subset="valid")
    assert valid.episodes == 1
    np.testing.assert_array_equal(valid.rows.action, episodes[9].action.astype(np.float32))
    assert load_data(path, subset="train").episodes == 10
    with h5py.File(path) as file:
        assert json.loads(file["data"].attrs[RECORD]) == {"seed": 0}
        assert file["data"].attrs["total"] == writer.rows
        np.testing.assert_array_equal(file["data/demo_10/states"], episodes[10].states)
    assert [p.name for p in path.parent.iterdir()] == ["a.hdf5"]


def test_after_an_exception_the_old_file_is_there(tmp_path: Path):
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"old")
    halves = demonstration(3, 0)._replace(states=np.array([None, 1], object))
    with pytest.raises(TypeError), writing(path, ARGS) as writer:
        writer.append(halves)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(StorageFailed, match=r"a\.hdf5 could not be written"),
        writing(tmp_path / "file" / "a.hdf5", ARGS),
    ):
        pass
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with (
        pytest.raises(MissingExtra, match=r"flowpolicy\[robomimic\]"),
        writing(tmp_path / "a.hdf5", ARGS),
    ):
        pass
