"""Files that were cut, altered or made to harm: an error that names file and member, never a
wrong array and never executed code."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flowpolicy.data.npz import read_npz, sha256, write_npz
from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits

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


def _npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


ONE = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 8)
LONG_HEADER = b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"{" * 50_000


def _described(descr: str, shape: str = "(2,)", payload: bytes = b"\0" * 8) -> bytes:
    return _npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", payload)


HOSTILE = {
    "text": (_described("'<U1'"), "dtype <U1"),
    "bytes": (_described("'|S4'"), "dtype"),
    "raw bytes": (_described("'|V4'"), "dtype"),
    "times": (_described("'<M8[s]'", "(1,)"), "dtype"),
    "a structure": (_described("[('a', '<f4')]"), "dtype"),
    "a structure in text": (_described("'f4,f4'", "(1,)"), "dtype"),
    "a structure of objects": (_described("[('a', '|O')]", "(1,)"), "object array"),
    "an array for an entry": (_described("('<f4', (2,))", "(1,)"), "cannot be read"),
    "a huge entry": (_described("'<U99999999'"), "dtype"),
    "no dtype": (_described("'nonsense'"), "descr"),
    "a call": (_described("__import__('os').getcwd()"), "malformed"),
    "a negative axis": (_described("'<f4'", "(-2,)"), "no shape"),
    "two negative axes": (_described("'<f4'", "(-2, -1)"), "no shape"),
    "an axis that is a flag": (_described("'<f4'", "(True, 2)"), "no shape"),
    "too many axes": (_described("'<f4'", "(" + "1," * 70 + "2)"), "no shape"),
    "4 TiB": (_described("'<f4'", f"({2**40},)"), "not fill"),
    "a shape past 64 bits": (_described("'<f4'", f"({2**40}, {2**40})"), "larger than any memory"),
    "a shape that wraps to 8 bytes": (_described("'<f4'", f"({2**32}, {2**31}, 2)"), "larger than"),
    "an empty shape past 64 bits": (_described("'<f4'", f"(0, {2**62})", b""), "larger than"),
    "a long whole number": (_described("'<f4'", "(" + "9" * 5000 + ",)"), "cannot be read"),
    "deep brackets": (_npy("(" * 5000 + ")" * 5000), "cannot be read"),
    "deep signs": (_npy("-" * 9000 + "1"), "cannot be read"),
    "a header of 2 GiB": (LONG_HEADER, "a header of 2,147,483,648 bytes"),
    "another version": (b"\x93NUMPY\x03\x00" + ONE[8:], "npy version"),
    "flags that are no flags": (_described("'|b1'", "(8,)", b"\0\1\2" + b"\0" * 5), "neither 0"),
    "an npz within": (b"PK\5\6" + b"\0" * 18, "magic string"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_lie_are_refused_before_allocation(tmp_path: Path, name: str):
    content, says = HOSTILE[name]
    path = tmp_path / "bad.npz"
    _npz(path, {"a.npy": content})
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match=rf"bad\.npz: member 'a\.npy'.*{says}"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name",
    ["../a.npy", "/a.npy", "a/../../b.npy", "..\\a.npy", "C:a.npy", ".npy", "a.npy/", "a.pkl"],
)
def test_names_that_lead_out_of_the_file(tmp_path: Path, name: str):
    path = tmp_path / "bad.npz"
    _npz(path, {name: ONE})
    with pytest.raises(CorruptFile, match=r"bad\.npz: member"):
        read_npz(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.npz"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing(tmp_path: Path, method: int):
    """They unpack a million to one, and numpy does not write them."""
    path = tmp_path / "bad.npz"
    _npz(path, {"a.npy": ONE}, method)
    with pytest.raises(CorruptFile, match="only stored and deflated"):
        read_npz(path)


def _memory_of(path: Path, says: str, limits: Limits = Limits()) -> int:
    """Bytes in use at most while the file is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match=says):
            read_npz(path, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_unopened(tmp_path: Path):
    """200 MiB of zeros pack to 200 kB; and an honest directory is not needed for that."""
    path = tmp_path / "bomb.npz"
    zeros = np.zeros(200 * 2**20, np.uint8)
    np.savez_compressed(path, a=zeros)
    assert path.stat().st_size < 2**18
    assert _memory_of(path, "more than 200 to 1") < 2**20
    # A directory that understates the size: what it does not say is not unpacked.
    content = path.read_bytes()
    told = (zeros.nbytes + 128).to_bytes(4, "little")
    place = content.rindex(told)  # the directory's; the other one is the member's own
    path.write_bytes(content[:place] + (2**20).to_bytes(4, "little") + content[place + 4 :])
    assert _memory_of(path, "does not fill") < 2**22


def test_members_that_share_their_bytes(tmp_path: Path):
    """Many entries for the same packed bytes: the bomb that needs no nesting."""
    path = tmp_path / "overlap.npz"
    _npz(path, {f"{i:03d}.npy": ONE for i in range(50)})
    with zipfile.ZipFile(path) as archive:
        start, size = archive.start_dir, archive.infolist()[0].compress_size
    content = bytearray(path.read_bytes())
    directory = content[start:]
    for entry in range(50):  # each names a packed size as if all bytes before were its own
        place = entry * 53 + 20
        assert int.from_bytes(directory[place : place + 4], "little") == size
        directory[place : place + 4] = (start // 2).to_bytes(4, "little")
    path.write_bytes(content[:start] + directory)
    with pytest.raises(CorruptFile, match="overlap or leave gaps"):
        read_npz(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_directory_that_hides_members(path: Path, compressed: bool):
    """Said to be empty, or shorter, or of bytes that lie behind others: nothing is left out."""
    if compressed:
        np.savez_compressed(path, **ARRAYS)
    content = path.read_bytes()
    size = int.from_bytes(content[-10:-6], "little")
    start = int.from_bytes(content[-6:-2], "little")
    directory, end = content[start : start + size], content[start + size :]
    second = directory.index(b"PK\1\2", 4)
    for kept, place in ((b"", 0), (b"", start), (directory[second:], start), (directory, start)):
        told = len(kept).to_bytes(4, "little") + place.to_bytes(4, "little")
        for filling in (b"", directory[: size - len(kept)], b"prefix"):
            altered = content[:start] + filling + kept + end[:12] + told + end[20:]
            if altered != content:
                path.write_bytes(altered)
                with pytest.raises(CorruptFile, match=r"a\.npz: the zip directory"):
                    read_npz(path)
    path.write_bytes(b"prefix" + content)
    with pytest.raises(CorruptFile, match="bytes before the first member"):
        read_npz(path)
    path.write_bytes(end[:8] + bytes(12) + end[20:])  # an archive of nothing is sound
    assert read_npz(path) == {}


def test_flags_of_long_episodes_shrink_further_than_a_bomb_may(tmp_path: Path):
    """One end in 1001 rows packs 300 to 1 and is read: small files may."""
    flags = np.zeros(10**6, bool)
    flags[1000::1001] = True
    np.savez_compressed(tmp_path / "a.npz", terminals=flags)
    assert flags.nbytes > 250 * (tmp_path / "a.npz").stat().st_size
    assert np.array_equal(read_npz(tmp_path / "a.npz")["terminals"], flags)
    small = Limits(npz_free_bytes=2**19)
    assert _memory_of(tmp_path / "a.npz", "more than 200 to 1", small) < 2**20


def test_more_than_is_allowed(path: Path):
    size = path.stat().st_size
    bytes_unpacked = 8 * 3 * 4 + 8 + 2 * 128
    exactly = Limits(npz_bytes=size, npz_members=2, npz_array_bytes=bytes_unpacked)
    assert _same(read_npz(path, exactly))
    for limits, says in (
        (Limits(npz_bytes=size - 1), "at most"),
        (Limits(npz_members=1), "2 members, at most 1"),
        (Limits(npz_array_bytes=bytes_unpacked - 1), "bytes unpacked, at most"),
    ):
        with pytest.raises(CorruptFile, match=says):
            read_npz(path, limits)


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path):
    """20 000 empty members: zipfile alone would need 15 MB to list them."""
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_000):
            archive.writestr(zipfile.ZipInfo(f"{i}.npy"), b"")
    assert _memory_of(path, "a directory of") < 2**18


def test_a_zip64_directory_is_believed_no_more(path: Path):
    """The same limit where the size stands in the larger record, as in files beyond 2 GiB."""
    content = path.read_bytes()
    start = int.from_bytes(content[-6:-2], "little")
    length = int.from_bytes(content[-10:-6], "little")

    def with_length(told: int) -> bytes:
        record = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, told, start
        ) + struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, 2**32 - 1, 2**32 - 1, 0)
        return content[: start + length] + record + end

    path.write_bytes(with_length(length))
    assert _same(read_npz(path))
    path.write_bytes(with_length(2**40))
    assert _memory_of(path, "a directory of 1,099,511,627,776 bytes") < 2**18
