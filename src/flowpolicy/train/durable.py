"""Durable operations: what is written survives a kill at any moment, as the old state or the new.

Everything that a run keeps goes through these functions and nothing else, so that a test can stop
the world before and after each of them.
"""

import contextlib
import errno
import os
from pathlib import Path

from flowpolicy.errors import StorageFailed


def write(path: Path, data: bytes) -> None:
    """Writes ``data`` under a temporary name, flushes it to disk and renames it to ``path``."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_new(temporary, data)
    rename(temporary, path)


def write_new(path: Path, data: bytes) -> None:
    """Writes and flushes a file in its final place, for a folder that appears whole."""
    handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(handle, data, path)
        flush(handle, path)
    finally:
        os.close(handle)


def rename(old: Path, new: Path) -> None:
    """Gives ``old`` its final name, and makes the name durable."""
    with told(new):
        os.replace(old, new)
    flush_folder(new.parent)


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = _open(folder, os.O_RDONLY)
    try:
        flush(handle, folder)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes the folder and its parents where they are missing, and their names durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with told(folder), contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    flush_folder(folder.parent)


def remove(path: Path) -> None:
    """Removes a file, or a folder with its files, if it is there."""
    with told(path):
        if path.is_dir() and not path.is_symlink():
            for inside in path.iterdir():
                remove(inside)
            os.rmdir(path)
        elif path.exists() or path.is_symlink():
            os.unlink(path)


def open_end(path: Path) -> int:
    """A handle that writes after the last byte of ``path``, which is made where it is missing."""
    return _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def write_all(handle: int, data: bytes, path: Path) -> None:
    """Writes all of ``data``; the operating system has it, the disk not yet."""
    view = memoryview(data)
    with told(path):
        while view:
            view = view[os.write(handle, view) :]


def flush(handle: int, path: Path) -> None:
    """Waits until the disk has what was written."""
    with told(path):
        os.fsync(handle)


def cut(path: Path, size: int) -> None:
    """Shortens ``path`` to its first ``size`` bytes; a file that is missing is as one of none."""
    if not path.exists() or path.stat().st_size == size:
        return
    handle = _open(path, os.O_WRONLY)
    try:
        with told(path):
            os.ftruncate(handle, size)
        flush(handle, path)
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> int:
    with told(path):
        return os.open(path, flags, 0o644)


class told:
    """Turns the operating system's refusal to write into ``StorageFailed`` that names the path."""

    def __init__(self, path: Path) -> None:
        """``path`` is what was to be written."""
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        known = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the quota is used up",
            errno.EROFS: "the disk is read-only",
            errno.EACCES: "this user may not write there",
            errno.EIO: "the disk reports an error",
        }
        reason = known.get(error.errno or 0, error.strerror or str(error))
        raise StorageFailed(f"{self._path} could not be written: {reason}") from error
