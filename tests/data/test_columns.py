"""Folders of columns: whole or not there, mapped as written, and refused when altered."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowpolicy.data.columns import ABOUT, HEADER, flat, open_columns, tree_of, verify, writing
from flowpolicy.data.mapped import map_rows
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData, StorageFailed

BLOCKS = [
    {"a": np.arange(6.0).reshape(3, 2), "b": np.array([True, False, True])},
    {"a": np.arange(2.0).reshape(1, 2), "b": np.array([False])},
]


def _write(folder: Path, *blocks: dict[str, np.ndarray], then: Callable[[], object] = bool) -> Path:
    with writing(folder) as writer:
        for block in blocks:
            writer.append(block)
        writer.about = {"who": "me"}
        then()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path / "set", *BLOCKS)


def test_what_was_written(folder: Path):
    columns, about = open_columns(folder)
    assert about == {"who": "me"}
    for name, column in columns.items():
        assert isinstance(column, np.memmap)
        np.testing.assert_array_equal(column, np.concatenate([b[name] for b in BLOCKS]))
        np.testing.assert_array_equal(column, np.load(folder / f"{name}.npy"))  # numpy reads it too
    assert verify(folder) == []


def test_blocks_that_are_not_alike(tmp_path: Path):
    """Nothing is left behind of what could not be finished."""
    for block, says in (
        ({"a": np.zeros((1, 3)), "b": np.zeros(1, bool)}, "a is not alike in all episodes"),
        ({"a": np.zeros((1, 2), np.float32), "b": np.zeros(1, bool)}, "a is not alike"),
        ({"a": np.zeros((1, 2))}, "b is in some episodes and missing in others"),
        ({"a": np.zeros((1, 2)), "b": np.zeros(2, bool)}, "the same rows"),
    ):
        with pytest.raises(InvalidData, match=says):
            _write(tmp_path / "set", BLOCKS[0], block)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidData, match="no rows"):
        _write(tmp_path / "set")
    with pytest.raises(InvalidData, match="plain numbers"):
        _write(tmp_path / "set", {"a": np.array([None])})
    with pytest.raises(InvalidData, match="no name"):
        _write(tmp_path / "set", {"../a": np.zeros(1)})
    with pytest.raises(ValueError, match="mine"):
        _write(tmp_path / "set", BLOCKS[0], then=lambda: int("mine"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(folder: Path):
    before = (folder / ABOUT).read_bytes()
    with pytest.raises(InvalidConfig, match="exists already"):
        _write(folder, *BLOCKS)
    assert (folder / ABOUT).read_bytes() == before


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageFailed, match="No space left"):
        _write(tmp_path / "set", *BLOCKS, then=lambda: monkeypatch.setattr(os, "replace", full))
    assert list(tmp_path.iterdir()) == []


def test_no_cut_and_no_altered_header_is_mapped(folder: Path):
    path = folder / "a.npy"
    content = path.read_bytes()
    for length in (*range(0, HEADER + 8, 16), len(content) - 1, len(content) + 1):
        path.write_bytes((content + b"\0")[:length])
        with pytest.raises(CorruptFile, match=r"a\.npy"):
            open_columns(folder)
    for position in range(8, 90):
        altered = bytearray(content)
        altered[position] ^= 0x55
        path.write_bytes(altered)
        try:
            columns, _ = open_columns(folder)
        except CorruptFile:
            continue
        assert columns["a"].shape == (4, 2), position
        assert columns["a"].dtype.itemsize == 8, position


def test_an_altered_value_is_found_by_its_sum(folder: Path):
    content = bytearray((folder / "a.npy").read_bytes())
    content[-1] ^= 1
    (folder / "a.npy").write_bytes(content)
    open_columns(folder)
    assert verify(folder) == ["a.npy was changed after it was written (SHA-256 differs)"]
    (folder / "b.npy").write_bytes((folder / "b.npy").read_bytes()[:-1] + b"\2")
    with pytest.raises(CorruptFile, match="neither 0 nor 1"):
        open_columns(folder)


def test_links_and_missing_files(folder: Path, tmp_path: Path):
    os.replace(folder / "a.npy", tmp_path / "elsewhere.npy")
    with pytest.raises(MissingData, match=r"a\.npy does not exist"):
        open_columns(folder)
    (folder / "a.npy").symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(CorruptFile, match="symbolic link"):
        open_columns(folder)


@pytest.mark.parametrize(
    "change",
    [{"format": "x"}, {"rows": 5}, {"rows": 0}, {"rows": "4"}, {"sha256": []}, {"sha256": {}},
     {"sha256": {"../a": ""}}, {"about": 1}],
)  # fmt: skip
def test_a_record_that_lies(folder: Path, change: dict):
    said = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**said, **change}))
    with pytest.raises(CorruptFile):
        open_columns(folder)


def test_columns_that_are_no_rows(folder: Path):
    with pytest.raises(CorruptFile, match="no rows that flowpolicy wrote"):
        map_rows(folder)


def test_trees_come_back():
    tree = {"a.b": np.zeros(2), "c": np.ones(3)}
    assert tree_of(flat("obs", tree), "obs") == tree
    assert tree_of(flat("obs", tree["c"]), "obs") is tree["c"]
    assert tree_of(flat("next_obs", tree), "obs") is None
