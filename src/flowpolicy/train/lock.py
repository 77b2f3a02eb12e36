"""One writer a run: a lock that the operating system gives back when its process ends, however."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from flowpolicy.errors import Busy
from flowpolicy.train import durable


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the run's lock; ``Busy``, with the number of the process that has it, otherwise.

    Raises ``StorageFailed`` where the folder or the lock cannot be made.
    """
    durable.make_folder(folder)
    path = folder / ".lock"
    with durable.told(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            raise Busy(
                f"{folder} is being written by another process (number {who}); stop that one, or "
                "train into another folder"
            ) from None
        with durable.told(path):
            os.ftruncate(handle, 0)
        durable.write_all(handle, f"{os.getpid()}\n".encode(), path)
        yield
    finally:
        os.close(handle)
