"""Files that were cut, altered or made to harm: an error that names file and member, never a
wrong array and never executed code."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flowpolicy.data.npz import read_npz, sha256, write_npz
from flowpolicy.errors import CorruptFile, MissingData

ARRAYS = {
    "observations": np.arange(24, dtype=np.float32).reshape(8, 3),
    "terminals": np.arange(8) == 7,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_npz(tmp_path / "a.npz", ARRAYS)
    return tmp_path / "a.npz"


def _same(arrays: dict[str, np.ndarray]) -> bool:
    return list(arrays) == list(ARRAYS) and all(
        np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_round_trip_also_through_numpy(path: Path):
    assert _same(read_npz(path))
    with np.load(path) as file:
        assert _same(dict(file))
    np.savez_compressed(path, **ARRAYS)
    assert _same(read_npz(path))


def test_same_arrays_same_bytes(path: Path, tmp_path: Path):
    write_npz(tmp_path / "b.npz", ARRAYS)
    assert sha256(path) == sha256(tmp_path / "b.npz")


def test_missing(tmp_path: Path):
    with pytest.raises(MissingData, match="no such file"):
        read_npz(tmp_path / "none.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_no_cut_is_accepted(path: Path, compressed: bool):
    if compressed:
        np.savez_compressed(path, **ARRAYS)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptFile, match=r"a\.npz"):
            read_npz(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_no_altered_byte_gives_a_wrong_array(path: Path, compressed: bool):
    if compressed:
        np.savez_compressed(path, **ARRAYS)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 0x55
        path.write_bytes(altered)
        try:
            arrays = read_npz(path)
        except CorruptFile:
            refused += 1
        else:
            # Bytes that mean nothing here: dates, permissions, a name nobody asks for.
            values = [array.tobytes() for array in arrays.values()]
            assert values == [array.tobytes() for array in ARRAYS.values()], position
    assert refused > len(content) / 3


def _zip(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def _npy(header: str, payload: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + payload


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(_Bomb()), "magic string"),
        (b"", "EOF"),
        (_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x" * 8), "object array"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,)}"), "malformed"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,)}"), "not fill"),
        (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"x" * 5), "not fill"),
    ],
)
def test_members_that_are_no_arrays(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "bad.npz"
    _zip(path, observations=content)
    with pytest.raises(CorruptFile, match=rf"bad\.npz: member 'observations\.npy'.*{reason}"):
        read_npz(path)


def test_object_arrays_are_refused_unread(tmp_path: Path):
    path = tmp_path / "objects.npz"
    np.savez(path, observations=np.array([_Bomb(), None], dtype=object))
    with pytest.raises(CorruptFile, match="object array"):
        read_npz(path)


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "x.npz"
    path.write_text("not a zip")
    with pytest.raises(CorruptFile, match="zip"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CorruptFile, match=r"readme\.txt.*not an npy file"):
        read_npz(path)
    stream = io.BytesIO()
    np.save(stream, np.zeros(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", stream.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", stream.getvalue())
    with pytest.raises(CorruptFile, match="there twice"):
        read_npz(path)
