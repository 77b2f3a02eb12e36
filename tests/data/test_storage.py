"""A full disk, and a place where nothing can be: one kind of error from whatever writes data."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.demos import ARGS, demonstration
from data.own_files import write_hdf5, write_own_npz
from flowpolicy.data import collect as collecting
from flowpolicy.data import demonstrations
from flowpolicy.data.collect import collect
from flowpolicy.data.columns import writing
from flowpolicy.data.own import convert
from flowpolicy.data.transfer import fetch
from flowpolicy.errors import StorageFailed


@pytest.fixture
def full() -> Iterator[None]:
    """Files of this process, and of those that it starts, may have 300 bytes and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def _columns(out: Path) -> None:
    with writing(out) as writer:
        for _ in range(3):
            writer.append({"a": np.zeros(40_000)})


def _demonstrations(out: Path) -> None:
    pytest.importorskip("h5py")
    with demonstrations.writing(out, ARGS) as writer:
        for i in range(3):
            writer.append(demonstration(40, i))


@pytest.mark.parametrize("write", [_columns, _demonstrations])
def test_a_full_disk(write: Callable[[Path], None], tmp_path: Path, full: None):
    """Noticed while rows are added or at the end; nothing half-written stays."""
    with pytest.raises(StorageFailed, match=r"out could not be written: .*File too large"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_converting(tmp_path: Path, request: pytest.FixtureRequest):
    """Also in the process that unpacks HDF5."""
    pytest.importorskip("h5py")
    write_own_npz(tmp_path / "a.npz")
    write_hdf5(tmp_path / "a.hdf5")
    request.getfixturevalue("full")
    for name in ("a.npz", "a.hdf5"):
        with pytest.raises(StorageFailed, match="could not be written"):
            convert(tmp_path / name, tmp_path / "rows")
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.hdf5"}


def test_a_full_disk_while_collecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: None):
    """When the episodes, which stand for played ones here, are put together."""

    def played(arguments: list[str], *_: object) -> list[dict[str, int]]:
        monkeypatch.setattr(collecting, "read_npz", lambda _: {"terminals": np.zeros(5_000, bool)})
        return [{"retries": 0}]

    monkeypatch.setattr(collecting, "_run_workers", played)
    with pytest.raises(StorageFailed, match=r"a\.npz could not be written"):
        collect("pointmaze-medium", 10, tmp_path / "a.npz", episode_steps=11)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_belongs(tmp_path: Path):
    """Before anything is unpacked, played or fetched."""
    pytest.importorskip("h5py")
    write_own_npz(tmp_path / "a.npz")
    write_hdf5(tmp_path / "a.hdf5")
    out = tmp_path / "a.npz" / "rows"
    for write in (
        _columns,
        _demonstrations,
        lambda out: convert(tmp_path / "a.npz", out),
        lambda out: convert(tmp_path / "a.hdf5", out),
        lambda out: fetch("http://127.0.0.1:1/a.npz", out),
        lambda out: collect("pointmaze-medium", 10, out.with_suffix(".npz")),
    ):
        with pytest.raises(StorageFailed, match=r"rows(\.npz)? could not be written: .*a\.npz"):
            write(out)
    assert sorted(os.listdir(tmp_path)) == ["a.hdf5", "a.npz"]
