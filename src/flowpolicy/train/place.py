"""Whether a file can be written, tried before the work is done that is to be written into it."""

import os
import tempfile
from pathlib import Path

from flowpolicy.train import durable


def try_new(path: Path) -> None:
    """``StorageFailed`` where no file can be put at ``path``; nothing is left behind.

    Folders that are missing can be made where the nearest one that is there takes a file.
    """
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with durable.told(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
        os.close(handle)
        os.unlink(name)


def try_end(path: Path) -> None:
    """``StorageFailed`` where nothing can be added to ``path``, which stays as it is, or absent."""
    if path.exists():
        os.close(durable.open_end(path))
    else:
        try_new(path)
