"""How much is read, and from where: sizes are known before the first byte is allocated."""

import dataclasses
import os
import stat
from pathlib import Path

from flowpolicy.errors import CorruptFile, MissingData


@dataclasses.dataclass(frozen=True)
class Limits:
    """What readers accept; far above what flowpolicy writes, far below what hurts a machine."""

    json_bytes: int = 16 * 2**20
    """Size of a JSON file."""
    json_depth: int = 64
    """How deep objects and lists of a JSON file may lie within each other."""
    json_values: int = 1_000_000
    """Values in a JSON file. A reader needs some 100 bytes for each, beside the file's own."""
    tensor_bytes: int = 64 * 2**30
    """Size of a safetensors file; it needs twice its size while it is read."""
    header_bytes: int = 4 * 2**20
    """Size of the header of a safetensors file."""
    table_bytes: int = 256 * 2**20
    """Size of a CSV or JSON-lines file."""
    line_bytes: int = 256 * 2**10
    """Length of a line of such a file."""
    npz_bytes: int = 64 * 2**30
    """Size of an npz file."""
    npz_members: int = 256
    """Arrays in an npz file."""
    npz_array_bytes: int = 64 * 2**30
    """Size of all arrays of an npz file together, unpacked."""
    npz_ratio: int = 200
    """Unpacked size over packed size. Flags of long episodes shrink 600-fold, so that this counts
    for the file as a whole, and only beyond ``npz_free_bytes``."""
    npz_free_bytes: int = 64 * 2**20
    """Unpacked size up to which the ratio does not matter."""
    rows_bytes: int = 2**40
    """Size of all arrays that an HDF5 file or a folder of Parquet files unpacks to, on the disk."""
    rows_ratio: int = 1000
    """That size over the files' own, where it is beyond ``npz_free_bytes``."""
    members: int = 1_000_000
    """Groups, arrays or files of such a source."""
    reader_bytes: int = 2 * 2**30
    """Memory of the process that reads it, beyond what its libraries need."""
    reader_seconds: int = 3600
    """Processor time of that process."""


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a regular file of at most ``limit`` bytes.

    A pipe or a device, which might never end, is refused unread. Raises ``MissingData`` where there
    is no such file, ``CorruptFile`` for anything else.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CorruptFile(f"{path} is not a regular file")
            if status.st_size > limit:
                raise CorruptFile(
                    f"{path} has {status.st_size:,} bytes, at most {limit:,} are read"
                )
            return file.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingData(f"{path} does not exist") from None
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error.strerror or error}") from None


def _without_waiting(path: str, flags: int) -> int:
    # Opening a pipe would otherwise wait until somebody writes into it.
    return os.open(path, flags | os.O_NONBLOCK)


def inside(folder: Path, name: str) -> Path:
    """The file called ``name`` directly in ``folder``, for names that a file tells us.

    Raises ``CorruptFile`` for a name with a path in it (``..``, ``/``) and for a symbolic link,
    which could lead anywhere.
    """
    if not name or name in (".", "..") or any(c in name for c in "/\\:\0"):
        raise CorruptFile(f"{folder}: {name[:80]!r} is not the name of a file in it")
    path = folder / name
    if path.is_symlink():
        raise CorruptFile(f"{path} is a symbolic link; only files in the folder itself are read")
    return path
