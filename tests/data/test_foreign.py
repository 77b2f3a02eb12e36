"""HDF5 and Parquet that were cut, altered or made to harm: one error, nothing left behind.

The libraries run in a process of their own; some of these tests make it crash, hang, or hunger.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.own_files import refused, write_hdf5
from flowpolicy.data import foreign
from flowpolicy.data.foreign import read_foreign
from flowpolicy.data.own import load_data
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidData, MissingExtra
from flowpolicy.readers import Limits

h5py = pytest.importorskip("h5py")


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    write_hdf5(tmp_path / "a.hdf5")
    return tmp_path / "a.hdf5"


def _group(file: Any) -> Any:
    return file["data/demo_1"]


def _replace(group: Any, name: str, value: Any) -> None:
    del group[name]
    group[name] = value


HDF5: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no data": (lambda f: f.move("data", "date"), "data is missing"),
    "no demonstrations": (
        lambda f: [f["data"].pop(n) for n in list(f["data"])],
        "no demonstration",
    ),
    "env_args that are numbers": (lambda f: f["data"].attrs.create("env_args", 3), "must be text"),
    "env_args that are no JSON": (lambda f: f["data"].attrs.create("env_args", "{"), "env_args"),
    "no actions": (lambda f: _group(f).pop("actions"), "demo_1/actions is missing"),
    "rewards of some alone": (lambda f: _group(f).pop("rewards"), "demo_1/rewards is missing"),
    "dones of some alone": (lambda f: _group(f).pop("dones"), "demo_1/dones is missing"),
    "soft links to nothing": (
        lambda f: [_replace(f[f"data/demo_{i}"], "rewards", h5py.SoftLink("/x")) for i in range(3)],
        "demo_0/rewards is a link",
    ),
    "no observations": (lambda f: _group(f).pop("obs"), "demo_1/obs is missing"),
    "a field less": (lambda f: _group(f)["obs"].pop("object"), "obs/object is missing"),
    "actions that are a group": (
        lambda f: (_group(f).pop("actions"), _group(f).create_group("actions")),
        "demo_1/actions must be an array",
    ),
    "a demonstration that is an array": (
        lambda f: _replace(f["data"], "demo_1", np.zeros(3)),
        "data/demo_1 must be a group",
    ),
    "text for actions": (lambda f: _replace(_group(f), "actions", ["a", "b"]), "plain numbers"),
    "a number for actions": (lambda f: _replace(_group(f), "actions", 1.0), "one entry a row"),
    "rewards of other rows": (lambda f: _replace(_group(f), "rewards", np.zeros(3)), "12 actions"),
    "dones that are no flags": (lambda f: _replace(_group(f), "dones", np.full(12, 0.5)), "flags"),
    "an external link": (
        lambda f: _replace(_group(f), "actions", h5py.ExternalLink("other.hdf5", "/a")),
        "demo_1/actions is a link",
    ),
    "an external link to a group": (
        lambda f: _replace(f, "data", h5py.ExternalLink("/etc/passwd", "/")),
        "data is a link",
    ),
    "a soft link": (lambda f: _replace(_group(f), "rewards", h5py.SoftLink("/x")), "is a link"),
    "a filter key that is not there": (lambda f: f["mask"].pop("some"), "filter key"),
    "a filter key with a path": (
        lambda f: _replace(f["mask"], "some", np.array([b"../mask"])),
        "which is not there",
    ),
    "a filter key of numbers": (lambda f: _replace(f["mask"], "some", np.ones(3)), "by name"),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_of_another_layout(hdf5: Path, name: str):
    change, says = HDF5[name]
    with h5py.File(hdf5, "a") as file:
        change(file)
    options = {"subset": "some"} if "filter key" in name else {}
    with pytest.raises(FlowPolicyError, match=says) as caught:
        read_foreign("robomimic", hdf5, hdf5.parent / "out", options)
    assert str(hdf5) in str(caught.value)
    assert [p.name for p in hdf5.parent.iterdir()] == ["a.hdf5"]


def test_hdf5_of_mixed_shapes(hdf5: Path):
    with h5py.File(hdf5, "a") as file:
        _replace(_group(file), "actions", np.zeros((12, 5)))
    refused(hdf5, r"action is not alike in all episodes: float64 \(2,\) and", InvalidData)


def test_hdf5_whose_values_lie_elsewhere(hdf5: Path, tmp_path: Path):
    """Raw bytes of another file, a virtual array, a filter that must be loaded."""
    with h5py.File(hdf5, "a") as file:
        actions = _group(file).pop("actions")
        del actions
        del _group(file)["rewards"]
        _group(file).create_dataset(
            "actions", (12, 2), np.float64, external=[(str(tmp_path / "raw"), 0, 192)]
        )
    (tmp_path / "raw").write_bytes(bytes(192))
    refused(hdf5, "demo_1/actions is kept in another file")
    with h5py.File(hdf5, "a") as file:
        del _group(file)["actions"]
        layout = h5py.VirtualLayout((12, 2), np.float64)
        layout[:] = h5py.VirtualSource("other.hdf5", "a", (12, 2))
        _group(file).create_virtual_dataset("actions", layout)
    refused(hdf5, "demo_1/actions is kept in another file")
    with h5py.File(hdf5, "a") as file:
        del _group(file)["actions"]
        _group(file).create_dataset("actions", data=np.zeros((12, 2)), scaleoffset=2)
    refused(hdf5, "demo_1/actions is packed by filters")


def test_an_hdf5_bomb_is_not_unpacked(hdf5: Path):
    """A terabyte that was never written, and 400 MB of zeros in 400 kB."""
    with h5py.File(hdf5, "a") as file:
        del _group(file)["actions"]
        _group(file).create_dataset("actions", (2**37, 2), np.float32, chunks=(2**10, 2))
    refused(hdf5, r"demo_1/actions unpacks to 1,099,511,627,776 bytes")
    with h5py.File(hdf5, "a") as file:
        del _group(file)["actions"]
        zeros = np.zeros((2**17, 2), np.float32)
        _group(file).create_dataset("actions", data=zeros, compression="gzip")
    refused(hdf5, "which is too much", rows_ratio=5, npz_free_bytes=2**10)


def test_files_that_are_cut(hdf5: Path):
    content = hdf5.read_bytes()
    for share in (0.02, 0.3, 0.9, 0.999):
        hdf5.write_bytes(content[: int(share * len(content))])
        refused(hdf5, "cannot be read")


BAD = {
    "a crash": ("import ctypes; ctypes.string_at(0)", "signal 11"),
    "a hang": ("while True: pass", "beyond 1 s"),
    "hunger": ("bytes(2**33)", "needs more than 536,870,912 bytes"),
    "an exit": ("import os; os._exit(0)", "without a word"),
    "another exception": ("{}['x']", "KeyError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_library_that_misbehaves(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    """In the place of h5py stands a module that does so once a file is opened."""
    code, says = BAD[name]
    body = "\n".join(f"        {line}" for line in code.split("; "))
    (tmp_path / "h5py.py").write_text(
        f"Group = Dataset = HardLink = object\nclass File:\n    def __init__(self, *_):\n{body}\n"
    )
    write_hdf5(tmp_path / "a.hdf5")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    limits = Limits(reader_seconds=1, reader_bytes=2**29)
    with pytest.raises(CorruptFile, match=says) as caught:
        read_foreign("robomimic", tmp_path / "a.hdf5", tmp_path / "out" / "x", {}, limits)
    assert "a.hdf5" in str(caught.value)
    assert not [p for p in tmp_path.rglob("*.tmp")]


def test_an_extra_that_is_missing_is_named(hdf5: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"h5py is not installed.*flowpolicy\[robomimic\]"):
        load_data(hdf5)


def test_the_process_loads_no_jax():
    """It starts for every file that is read."""
    import subprocess

    code = "import sys, flowpolicy.data.foreign; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
