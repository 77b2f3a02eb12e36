"""Writing demonstrations in RoboMimic's HDF5 layout, which ``data.robomimic`` and others read.

``data/demo_<i>`` holds ``obs/<field>``, ``next_obs/<field>``, ``actions``, ``rewards``, ``dones``
and ``states``; ``mask/train`` and ``mask/valid`` name nine tenths and one tenth of them. What
RoboMimic itself writes beside these, the scene's XML, is left out.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowpolicy.data.storage import storing
from flowpolicy.errors import MissingExtra

RECORD = "flowpolicy"
"""Attribute of ``data`` that says how the file was made."""


class Demonstration(NamedTuple):
    """One episode of n steps.

    obs, next_obs: by field (n, d), float64
    action:        (n, a); reward (n,), 1 where the task is solved; done (n,), flags
    states:        (n, m), the simulator's before each action
    """

    obs: Mapping[str, np.ndarray]
    next_obs: Mapping[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    states: np.ndarray


class Writer:
    """Appends demonstrations to an open file."""

    def __init__(self, data: Any) -> None:
        """``data`` is the file's group of demonstrations."""
        self.record: dict[str, Any] = {}
        self.rows, self.episodes = 0, 0
        self._data = data

    def append(self, episode: Demonstration) -> None:
        """Writes the next demonstration."""
        group = self._data.create_group(f"demo_{self.episodes}")
        group.attrs["num_samples"] = len(episode.action)
        arrays = {
            "actions": episode.action,
            "rewards": episode.reward,
            "dones": episode.done.astype(np.int64),
            "states": episode.states,
            **{f"obs/{field}": rows for field, rows in episode.obs.items()},
            **{f"next_obs/{field}": rows for field, rows in episode.next_obs.items()},
        }
        for name, array in arrays.items():
            group.create_dataset(name, data=array)
        self.rows += len(episode.action)
        self.episodes += 1


@contextlib.contextmanager
def writing(path: Path, env_args: Mapping[str, Any]) -> Iterator[Writer]:
    """A file that appears under ``path`` when the block ends, and not at all after an exception.

    env_args: what the file says of the environment. It is made in memory: on a full disk HDF5 ends
    the process. Raises ``MissingExtra`` without h5py, ``StorageFailed`` where the disk refuses.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra(
            f"h5py is not installed, which writes {path}; install the extra: "
            "pip install 'flowpolicy[robomimic]'"
        ) from None
    content, temporary = io.BytesIO(), path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with storing(path):  # before hours are spent on what is to be in it
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        with h5py.File(content, "w") as file:
            data = file.create_group("data")
            data.attrs["env_args"] = json.dumps(env_args, allow_nan=False)
            writer = Writer(data)
            yield writer
            _finish(file, data, writer)
        with storing(path):
            with open(temporary, "wb") as written:
                written.write(content.getbuffer())
                written.flush()
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _finish(file: Any, data: Any, writer: Writer) -> None:
    data.attrs["total"] = writer.rows
    data.attrs[RECORD] = json.dumps(writer.record, allow_nan=False)
    names = [f"demo_{i}" for i in range(writer.episodes)]
    valid = [name for i, name in enumerate(names) if i % 10 == 9]
    file["mask/train"] = np.array([n for n in names if n not in valid], "S")
    file["mask/valid"] = np.array(valid, "S10")
