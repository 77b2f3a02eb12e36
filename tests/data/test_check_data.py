"""What ``info`` tells of a file, and that ``check`` finds every trouble at once."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpolicy.data.check import check, info
from flowpolicy.data.npz import read_npz, write_npz
from flowpolicy.data.ogbench import load
from flowpolicy.errors import InvalidData, MissingData


def test_info(maze: Any):
    told = info(maze.path)
    assert (told.rows, told.episodes, told.transitions) == (903, 3, 900)
    assert told.bytes == maze.path.stat().st_size
    assert told.environment == "pointmaze-medium"
    assert told.record == maze.record
    arrays = read_npz(maze.path)
    actions = told.arrays["actions"]
    assert (actions.shape, actions.dtype) == ((903, 2), "float32")
    np.testing.assert_array_equal(actions.high, arrays["actions"].max(axis=0))
    np.testing.assert_array_equal(actions.low, arrays["actions"].min(axis=0))
    assert list(told.success_rows) == [f"pointmaze-medium-task{i}" for i in range(1, 6)]
    ends = read_npz(maze.path)["terminals"]
    for task, count in told.success_rows.items():
        inside = load(maze.path, task).rows.terminated.sum()
        assert 0 <= count - inside <= ends.sum()


def test_a_sound_file_has_no_problems(maze: Any):
    found = check(maze.path)
    assert found.sound
    goals = [remark for remark in found.remarks if "no row is at the goal" in remark]
    assert len(goals) == len(found.remarks)
    empty = [task for task, rows in info(maze.path).success_rows.items() if rows == 0]
    assert len(goals) == len(empty)


def test_all_problems_are_told(maze: Any, tmp_path: Path):
    arrays = read_npz(maze.path)
    arrays["observations"][5, 1] = np.nan
    arrays["actions"][7:9] = 3
    arrays["terminals"][:] = False
    path = tmp_path / "wrong.npz"
    write_npz(path, arrays)
    found = check(path)
    assert not found.sound
    assert len(found.problems) == 3
    assert any("observations is NaN or infinite in 1 row" in text for text in found.problems)
    assert any("actions must lie in [-1, 1]" in text for text in found.problems)
    assert any("no row ends an episode" in text for text in found.problems)
    assert any("no record" in text for text in found.remarks)
    assert any("wrong-val.npz is not beside it" in text for text in found.remarks)


def test_an_altered_file_is_found_by_its_sum(maze: Any, tmp_path: Path):
    path = tmp_path / maze.path.name
    arrays = read_npz(maze.path)
    arrays["actions"][0, 0] = 0.123
    write_npz(path, arrays)
    shutil.copy(maze.path.with_suffix(".json"), path.with_suffix(".json"))
    assert check(path).problems == (
        "its bytes are not those that were collected (SHA-256 differs)",
    )


def test_damaged_and_missing_files(maze: Any, tmp_path: Path):
    path = tmp_path / "cut.npz"
    path.write_bytes(maze.path.read_bytes()[:5000])
    found = check(path)
    assert not found.sound
    assert "cut.npz" in found.problems[0]
    with pytest.raises(MissingData):
        check(tmp_path / "none.npz")
    write_npz(path, {"observations": np.zeros((2, 2))})
    with pytest.raises(InvalidData, match="actions is missing"):
        info(path)
    rows = np.zeros((4, 2))
    write_npz(path, {"observations": rows, "actions": rows, "terminals": np.array(True)})
    with pytest.raises(InvalidData, match=r"terminals must have shape \(rows,\), got \(\)"):
        info(path)


def test_rows_that_are_no_task_s_have_no_goal(maze: Any, tmp_path: Path):
    """Positions in one long row: ``info`` tells what there is, ``check`` what is wrong."""
    arrays = read_npz(maze.path)
    path = tmp_path / "pointmaze-medium-navigate-v0.npz"
    write_npz(path, {**arrays, "qpos": arrays["qpos"].reshape(-1)})
    assert info(path).success_rows == {}
    assert "qpos must have shape (rows, size)" in check(path).problems[0]


def test_unknown_environments_have_no_tasks(maze: Any, tmp_path: Path):
    path = tmp_path / "mine.npz"
    shutil.copy(maze.path, path)
    told = info(path)
    assert told.environment is None
    assert told.success_rows == {}
    assert any("environment" in remark for remark in check(path).remarks)
