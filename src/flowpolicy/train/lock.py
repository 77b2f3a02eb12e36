"""One writer a run: a lock that the operating system gives back when its process ends, however."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from flowpolicy.errors import Busy, StorageFailed


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the run's lock; ``Busy``, with the number of the process that has it, otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            raise Busy(
                f"{folder} is being written by another process (number {who}); stop that one, or "
                "train into another folder"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)
