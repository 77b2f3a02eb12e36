"""The rows of a Minari set, read with h5py in the process of ``data.foreign``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowpolicy.data.columns import Columns
from flowpolicy.data.foreign import Emit
from flowpolicy.data.members import Members
from flowpolicy.readers import Limits


def read(path: Path, options: Mapping[str, Any], limits: Limits, emit: Emit) -> dict[str, Any]:
    """Emits the episodes of ``path``, in their order.

    options: ``episodes`` and ``steps``, how many the set says there are; ``keys``, the entries of
             observations that are wanted, none where they have none

    Raises ``CorruptFile`` naming the member.
    """
    total = 0
    with h5py.File(path, "r") as file:
        members = Members(path, limits)
        for number in range(options["episodes"]):
            block = _episode(members, members.group(file, f"episode_{number}"), options["keys"])
            total += len(block["action"])
            emit(block)
    if total != options["steps"]:
        told = f"{path}: it has {total:,} steps, and metadata.json says {options['steps']:,}"
        raise members.trouble("", told)
    return {"source": "minari", "fields": options["keys"]}


def _episode(members: Members, episode: h5py.Group, keys: list[str]) -> Columns:
    action = members.values(episode, "actions").astype(np.float32)
    observed = _observations(members, episode, keys)
    block = {
        "obs": observed[:-1],
        "action": action.reshape(len(action), -1),
        "reward": members.values(episode, "rewards").astype(np.float32),
        "terminated": _flags(members, episode, "terminations"),
        "ended": _flags(members, episode, "truncations"),
        "next_obs": observed[1:],
    }
    odd = {name: len(array) for name, array in block.items() if len(array) != len(action)}
    if odd or not len(action):
        raise members.trouble(str(episode.name), f"has {len(action)} actions, but rows {odd}")
    block["ended"] = block["ended"] | block["terminated"]
    block["ended"][-1] = True
    return block


def _observations(members: Members, episode: h5py.Group, keys: list[str]) -> np.ndarray:
    if not keys:
        return members.values(episode, "observations").astype(np.float32)
    group = members.group(episode, "observations")
    entries = [members.values(group, key) for key in keys]
    if len({len(entry) for entry in entries}) > 1:
        raise members.trouble(str(group.name), "has entries of different lengths")
    rows = [entry.reshape(len(entry), -1) for entry in entries]
    return np.concatenate(rows, axis=1).astype(np.float32)


def _flags(members: Members, episode: h5py.Group, name: str) -> np.ndarray:
    values = members.values(episode, name)
    if not np.isin(values, (0, 1)).all():
        raise members.trouble(f"{episode.name}/{name}", "must hold flags, 0 or 1")
    return values.astype(bool)
