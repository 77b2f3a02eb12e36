"""Reading and writing npz files without executing or trusting anything inside them."""

import hashlib
import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    KeyError,
    OSError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)
"""What zipfile and numpy raise where bytes are not what they expect."""
_END, _END64, _LOCATOR64 = 22, 56, 20
_HEADER = 10_000
"""Longest npy header; numpy's own limit for files that are not trusted."""
_MAX_AXES = 32

Arrays = dict[str, np.ndarray]


def read_npz(path: Path, limits: Limits = Limits()) -> Arrays:
    """All arrays of an npz file: plain numbers and flags, stored or deflated.

    Sizes, names and dtypes are checked in the file's directory and headers before anything is
    unpacked. Raises ``MissingData`` where there is no such file and ``CorruptFile``, naming file
    and member, where it is truncated, altered, beyond ``limits``, or holds anything but plain
    arrays: objects, structures and text are refused unread.
    """
    if not path.is_file():
        raise MissingData(f"{path}: there is no such file")
    member = "the zip directory"
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_end(file, size, limits)
            with zipfile.ZipFile(file) as archive:
                _check_directory(archive, size, limits)
                arrays: Arrays = {}
                for entry in archive.infolist():
                    member = f"member {entry.filename[:80]!r}"
                    name = _name(entry)
                    if name in arrays:
                        raise ValueError("there twice")
                    arrays[name] = _read_member(archive, entry)
                return arrays
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise CorruptFile(f"{path}: {member} cannot be read ({reason})") from None


def _check_end(file: io.BufferedReader, size: int, limits: Limits) -> None:
    """Before zipfile makes an object of every entry: how large the directory says it is."""
    if size > limits.npz_bytes:
        raise ValueError(f"{size:,} bytes, at most {limits.npz_bytes:,} are read")
    file.seek(max(0, size - _END - _LOCATOR64 - _END64))
    tail = file.read(_END + _LOCATOR64 + _END64)
    if tail[-_END:-18] != b"PK\5\6":
        raise ValueError("it does not end as a zip file without comments does")
    length = struct.unpack("<L", tail[-10:-6])[0]
    if len(tail) == 98 and tail[:4] == b"PK\6\6" and tail[56:60] == b"PK\6\7":
        length = struct.unpack("<Q", tail[40:48])[0]
    most = limits.npz_members * 1024  # 46 bytes, and a name and fields that are shorter than that
    if length > most:
        raise ValueError(f"a directory of {length:,} bytes; at most {most:,} are read")


def _check_directory(archive: zipfile.ZipFile, size: int, limits: Limits) -> None:
    # zipfile stops quietly where an altered length hides entries of the directory: in a comment,
    # in an entry's extra field (numpy writes 28 bytes at most), or behind the directory's end.
    entries = archive.infolist()
    if archive.comment or any(entry.comment or len(entry.extra) > 40 for entry in entries):
        raise ValueError("it has comments or fields that numpy does not write")
    length = sum(46 + len(entry.filename.encode()) + len(entry.extra) for entry in entries)
    if size - archive.start_dir - length not in (_END, _END + _LOCATOR64 + _END64):
        raise ValueError("its entries do not account for the whole file")
    if len(entries) > limits.npz_members:
        raise ValueError(f"{len(entries):,} members, at most {limits.npz_members:,} are read")
    if any(e.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for e in entries):
        raise ValueError("only stored and deflated members are read")
    _check_places(entries, archive.start_dir)
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.npz_array_bytes:
        raise ValueError(f"{unpacked:,} bytes unpacked, at most {limits.npz_array_bytes:,} fit")
    if unpacked > max(limits.npz_free_bytes, limits.npz_ratio * packed):
        raise ValueError(
            f"{packed:,} bytes would unpack to {unpacked:,}, more than {limits.npz_ratio} to 1"
        )


def _check_places(entries: list[zipfile.ZipInfo], end: int) -> None:
    """Member after member from the first byte to the directory, which hides none of them."""
    entries = sorted(entries, key=lambda entry: entry.header_offset)
    places = [*(entry.header_offset for entry in entries), end]
    if places[0] != 0:
        raise ValueError("bytes before the first member")
    for entry, place, following in zip(entries, places, places[1:], strict=False):
        header = following - place - entry.compress_size - len(entry.filename.encode())
        if not 30 <= header <= 30 + 64 + 24:  # with fields and sizes that the directory has not
            raise ValueError("its members overlap or leave gaps")


def _name(entry: zipfile.ZipInfo) -> str:
    # Nothing is written under these names; they are keys, and what is odd is no array of ours.
    name = entry.filename.removesuffix(".npy")
    if name == entry.filename or not name:
        raise ValueError("not an npy file")
    if any(c in name for c in "\\:\0") or name[0] == "/" or ".." in name.split("/"):
        raise ValueError("its name leads out of the file")
    return name


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    # The header is believed only once the directory agrees with it: an altered shape must not
    # make numpy ask for the machine's memory.
    _check_header(archive, entry)
    with archive.open(entry) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # reaching the end is what makes zipfile compare the checksum
            raise ValueError("bytes after the array")
    if array.dtype == bool and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("flags that are neither 0 nor 1")
    return array


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    with archive.open(entry) as stream:
        read_header(stream, entry.file_size)


def read_header(
    stream: io.BufferedIOBase | IO[bytes], size: int
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together, and dtype, as the header of an npy file of ``size``
    bytes tells them, once they fit it.

    ``stream`` stands behind the header then. Raises what numpy does, or ``ValueError``.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version} is not read")
    first = version == (1, 0)
    prefix = stream.read(2 if first else 4)
    length = int.from_bytes(prefix, "little")
    if length > _HEADER:
        raise ValueError(f"a header of {length:,} bytes, at most {_HEADER:,} are read")
    header = io.BytesIO(prefix + stream.read(length))
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(header, max_header_size=_HEADER)
    unread = size - stream.tell()
    if dtype.hasobject:
        raise ValueError("an object array; only plain numbers are read, never pickles")
    if dtype.kind not in "biufc" or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"dtype {dtype}; only plain numbers and flags are read")
    if len(shape) > _MAX_AXES or any(type(axis) is not int or axis < 0 for axis in shape):
        raise ValueError(f"shape {shape} is no shape")
    # An empty axis excuses no other one: numpy multiplies them all before it sees the zero.
    if math.prod(max(axis, 1) for axis in shape) * dtype.itemsize >= 2**62:
        raise ValueError(f"shape {shape} is larger than any memory")
    if math.prod(shape) * dtype.itemsize != unread:
        raise ValueError(f"shape {shape} of {dtype} does not fill its {size} bytes")
    return shape, fortran, dtype


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes ``arrays`` uncompressed and fsynced: the same arrays give the same bytes.

    Uncompressed because float32 states shrink by a sixth only and load ten times slower.
    """
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(entry, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
