"""RoboMimic's HDF5 files, of all ages: ``data/demo_*/{obs/<field>,actions,rewards,dones}``.

Read with h5py alone, in the process of ``data.foreign``, one demonstration at a time. Each is a
trajectory; ``dones`` says where the value stops, and a last row without it is a time-out. Where no
demonstration has rewards they are 0, and where none has ``dones`` every end is a time-out.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowpolicy.data.columns import Columns, flat
from flowpolicy.data.foreign import Emit
from flowpolicy.data.members import Members
from flowpolicy.errors import CorruptFile, InvalidData, unknown_name
from flowpolicy.readers import Limits, parse_object


def read(path: Path, options: Mapping[str, Any], limits: Limits, emit: Emit) -> dict[str, Any]:
    """Emits the demonstrations of ``path`` and tells of the file.

    options: ``fields``, the observations that are wanted, all rows of numbers where empty;
             ``subset``, a filter key under ``mask``, every demonstration where empty

    Raises ``CorruptFile`` naming the member, ``InvalidData`` where demonstrations are not alike,
    ``UnknownName`` for a field or a filter key.
    """
    with h5py.File(path, "r") as file:
        members = Members(path, limits)
        data = members.group(file, "data")
        env_args = _env_args(path, data, limits)
        names = _demonstrations(members, file, data, str(options.get("subset", "")))
        first = members.group(members.group(data, names[0]), "obs")
        fields, left_out = _fields(members, first, list(options.get("fields", ())))
        # Names alone: what only some have, or is a link, is read, which says what is wrong.
        seen = {member for name in names for member in members.group(data, name)}
        missing = [member for member in ("rewards", "dones") if member not in seen]
        if not all("next_obs" in members.group(data, name) for name in names):
            missing.append("next_obs")
        for name in names:
            emit(_demonstration(members, members.group(data, name), fields, missing))
        return {
            "source": "robomimic",
            "environment": str(env_args.get("env_name", "")),
            "env_args": env_args,
            "subset": str(options.get("subset", "")),
            "fields": fields,
            "left_out": left_out,
            "missing": missing,
        }


def _env_args(path: Path, data: h5py.Group, limits: Limits) -> dict[str, Any]:
    """What the file says of its environment; nothing where it was not recorded in one."""
    if "env_args" not in data.attrs:
        return {}
    text = data.attrs["env_args"]
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if not isinstance(text, str):
        raise CorruptFile(f"{path}: the attribute env_args of data must be text")
    return parse_object(text.encode(), f"{path}: the attribute env_args of data", limits)


def _demonstrations(members: Members, file: h5py.File, data: h5py.Group, subset: str) -> list[str]:
    names = sorted(data, key=_number)
    if subset:
        known = list(members.group(file, "mask")) if "mask" in file else []
        if subset not in known:
            raise unknown_name("filter key", subset, known)
        masks = members.group(file, "mask")
        chosen = members.array(masks, subset)
        if chosen.dtype.kind not in "SO" or (chosen.size or 0) > len(names):
            raise members.trouble(f"mask/{subset}", "must list demonstrations by name")
        names = sorted((_text(name) for name in chosen[()].reshape(-1)), key=_number)
        for name in names:
            if name not in data:
                raise members.trouble(f"mask/{subset}", f"lists {name[:80]!r}, which is not there")
    if not names:
        raise members.trouble("data", "holds no demonstration")
    return names


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"(\d{1,18})$", name)
    return (int(found[1]) if found else -1, name)


def _fields(members: Members, obs: h5py.Group, wanted: list[str]) -> tuple[list[str], list[str]]:
    """The fields that are read, and those that are left out."""
    flat_ones = []
    for name in sorted(obs):
        found = members.member(obs, name)
        if isinstance(found, h5py.Dataset) and found.ndim in (1, 2) and found.dtype.kind in "biuf":
            flat_ones.append(name)
    for name in wanted:
        if name not in flat_ones:
            raise unknown_name("observation field", name, flat_ones)
    fields = wanted or flat_ones
    if not fields:
        raise members.trouble(str(obs.name), "holds no field that is a row of numbers")
    return fields, [name for name in sorted(obs) if name not in fields]


def _demonstration(
    members: Members, demo: h5py.Group, fields: list[str], missing: list[str]
) -> Columns:
    """Its rows; zeros for what is missing."""

    def observations(name: str) -> Columns:
        group = members.group(demo, name)
        values = {field: members.values(group, field) for field in fields}
        rows = {f: v.reshape(len(v), -1) if v.ndim == 1 else v for f, v in values.items()}
        return flat(name, rows if len(rows) > 1 else rows[fields[0]])

    def numbers(name: str) -> np.ndarray:
        return np.zeros(len(action)) if name in missing else members.values(demo, name)

    action = members.values(demo, "actions")
    done = numbers("dones")
    if not len(action):
        raise InvalidData(f"{str(demo.name).strip('/')}: there are no rows")
    if not np.isin(done, (0, 1)).all():
        raise members.trouble(f"{demo.name}/dones", "must hold flags, 0 or 1")
    block = {
        **observations("obs"),
        "action": action,
        "reward": numbers("rewards"),
        "terminated": done.astype(bool),
        "ended": np.arange(len(action)) == len(action) - 1,
        **({} if "next_obs" in missing else observations("next_obs")),
    }
    odd = {name: len(array) for name, array in block.items() if len(array) != len(action)}
    if odd:
        raise members.trouble(str(demo.name), f"has {len(action)} actions, but rows {odd}")
    return block
