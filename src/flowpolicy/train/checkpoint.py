"""Checkpoints: arrays as safetensors, the rest as strict JSON, SHA-256 over every byte.

A checkpoint is a folder. It is written under a temporary name, flushed, renamed, and its parent
flushed, so that a kill at any moment leaves either the old state or the new one. Nothing in it is
executed when it is read, and of several the newest is read that is what was written.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.nets import LARGEST
from flowpolicy.readers import Limits, inside, parse_object, parse_tensors, read_bytes, read_object
from flowpolicy.train import durable

T = TypeVar("T")

FORMAT = 3
_KEY = "key<{}>:"


def to_json(value: Any) -> bytes:
    """Strict JSON: no NaN, sorted keys."""
    return json.dumps(value, allow_nan=False, indent=1, sort_keys=True).encode()


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copies of a pytree's leaves on the host, by path; typed keys as key data, their
    implementation in the name.
    """
    arrays = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            name = _KEY.format(jax.random.key_impl(leaf)) + name
            leaf = jax.random.key_data(leaf)
        # A copy, because the loop gives its buffers away while a checkpoint is being written; in C
        # order, because safetensors stores the buffer as it lies.
        arrays[name] = np.array(leaf, order="C", copy=True)
    return arrays


def from_arrays(skeleton: T, arrays: dict[str, np.ndarray], source: str) -> T:
    """Inverse of ``to_arrays`` onto a pytree of the same structure (shapes suffice).

    Raises ``CorruptFile`` where names, shapes or dtypes differ, or a float is not finite.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(skeleton)
    known = {_path_in(name): name for name in arrays}
    wanted = [jax.tree_util.keystr(path) for path, _ in paths]
    if set(known) != set(wanted):
        odd = sorted(set(known) ^ set(wanted))[:3]
        raise CorruptFile(f"{source} holds other leaves than this configuration has, e.g. {odd}")
    leaves = []
    for (_, like), name in zip(paths, wanted, strict=True):
        leaves.append(_leaf(like, known[name], arrays[known[name]], f"{source}: {name}"))
    return jax.tree_util.tree_unflatten(structure, leaves)


def _path_in(name: str) -> str:
    """The path of a leaf, without what ``to_arrays`` says of keys."""
    return name[name.index(">:") + 2 :] if name.startswith("key<") and ">:" in name else name


def _leaf(like: Any, stored: str, value: np.ndarray, source: str) -> jax.Array:
    array: Any = value  # on the device only once it is known to fit: a float64 would be narrowed
    if stored.startswith("key<"):
        try:
            array = jax.random.wrap_key_data(jnp.asarray(value), impl=stored[4 : stored.index(">")])
        except (TypeError, ValueError) as error:
            raise CorruptFile(f"{source} is no key: {error}") from None
    if array.shape != like.shape or array.dtype != like.dtype:
        raise CorruptFile(
            f"{source} is {array.dtype}{list(array.shape)}, must be {like.dtype}{list(like.shape)}"
        )
    if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
        raise CorruptFile(f"{source} holds values that are not finite")
    return jnp.asarray(array)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    state: arrays of the trained state, which a policy needs
    loop:  arrays that only going on with the run needs
    meta:  everything else, as JSON has it
    """

    state: dict[str, np.ndarray]
    loop: dict[str, np.ndarray]
    meta: dict[str, Any]


STOP = ".stop"
"""Part of the name of checkpoints that an uninterrupted run would not have."""
FILES = ("loop.safetensors", "meta.json", "state.safetensors")


def _second(old: Contents) -> Contents:
    """Format 1 had the trained state alone: it acts, and cannot be gone on with. What is trained
    had no norms of gradients yet; it gets those of one that has made no step."""
    state = dict(old.state)
    for name, value in old.state.items():
        trained, found, rest = name.partition(".opt_state")
        if found and rest.endswith(".count"):
            state.setdefault(f"{trained}.norm", np.zeros(value.shape, np.float32))
            state.setdefault(f"{trained}.limit", np.full(value.shape, LARGEST, np.float32))
    return dataclasses.replace(old, state=state, meta={**old.meta, "format": 2, "resumable": False})


def _third(old: Contents) -> Contents:
    """Format 2 counted updates and ticks of all seeds together, and told no best return."""
    meta = {**old.meta, "format": 3}
    if "best" in meta:
        meta["best"] = [meta["best"], -LARGEST]
    stepper = meta.get("stepper")
    seeds = len(stepper["episodes"]) if stepper else len(meta.get("cuts") or [None])
    meta["made"] = [meta.get("updates", 0)] * seeds
    if stepper:
        meta["stepper"] = {**stepper, "ticks": [stepper["ticks"]] * seeds}
    return dataclasses.replace(old, meta=meta)


MIGRATIONS: dict[int, Callable[[Contents], Contents]] = {
    1: _second,
    2: _third,
}
"""From a format to the next one."""


def free_name(folder: Path, name: str) -> str:
    """``name``, numbered where it is taken by a state of the same number of updates.

    No folder can be exchanged for another in one go, so both stay for a while.
    """
    copies, found = 0, name
    while (folder / found).exists():
        copies += 1
        found = f"{name}.{copies:03d}"
    return found


def save(path: Path, contents: Contents, *, keep: int) -> None:
    """Writes the checkpoint ``path``, then removes all but the newest ``keep`` beside it.

    Raises ``StorageFailed`` where that is not possible; the older checkpoints stay.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    durable.remove(temporary)
    durable.make_folder(temporary)
    files = {
        "state.safetensors": safetensors.numpy.save(contents.state),
        "loop.safetensors": safetensors.numpy.save(contents.loop),
        "meta.json": to_json({**contents.meta, "format": FORMAT}),
    }
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    files["manifest.json"] = to_json({"format": FORMAT, "sha256": hashes})
    for file, data in files.items():
        durable.write_new(temporary / file, data)
    durable.flush_folder(temporary)
    durable.rename(temporary, path)
    trim(path.parent, keep)


def trim(folder: Path, keep: int) -> None:
    """Removes all but the newest ``keep`` checkpoints of a folder, not counting those of a stop.

    Of these the newest checkpoint stays, if it is one: they push out none that a run has which was
    never stopped, and goes back to when it diverges.
    """
    found = checkpoints(folder)
    planned = [path for path in found if not of_stop(path)]
    for old in (*planned[:-keep], *(path for path in found[:-1] if of_stop(path))):
        discard(old)


def discard(path: Path) -> None:
    """Removes a checkpoint; from the first moment on it is none."""
    hidden = path.with_name(f".{path.name}.old")
    durable.remove(hidden)
    durable.rename(path, hidden)
    durable.remove(hidden)


def of_stop(path: Path) -> bool:
    """Whether a checkpoint was written only because the run was stopped."""
    return STOP in path.name


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def newest(folder: Path, check: Callable[[Path, Contents], T]) -> tuple[T, list[tuple[Path, str]]]:
    """What ``check`` makes of the newest checkpoint that was not altered and that it takes.

    Also returns the newer ones, each with why it was refused. Raises ``MissingData`` where there is
    none at all, and ``CorruptFile`` with every reason where none is left.
    """
    refused = []
    for path in reversed(checkpoints(folder)):
        try:
            return check(path, read(path)), refused
        except (CorruptFile, MissingData) as error:
            refused.append((path, str(error)))
    if not refused:
        raise MissingData(f"{folder.parent} has no checkpoint")
    reasons = "; ".join(reason for _, reason in refused)
    raise CorruptFile(f"{folder} holds no checkpoint that can be used: {reasons}")


def read(path: Path) -> Contents:
    """One checkpoint, every byte checked against its manifest; ``CorruptFile`` otherwise."""
    manifest = read_object(inside(path, "manifest.json"))
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict):
        raise CorruptFile(f"{path / 'manifest.json'} is not a manifest")
    number = manifest.get("format")
    if type(number) is not int or number not in (FORMAT, *MIGRATIONS):
        raise CorruptFile(f"{path} has format {number!r}, this version reads up to {FORMAT}")
    files = FILES if number > 1 else FILES[1:]
    if sorted(hashes) != sorted(files):
        raise CorruptFile(f"{path / 'manifest.json'} names other files than a checkpoint has")
    found = {file: _checked(path, file, hashes[file]) for file in files}
    contents = Contents(
        parse_tensors(found["state.safetensors"], f"{path}/state.safetensors"),
        parse_tensors(found["loop.safetensors"], f"{path}/loop.safetensors") if number > 1 else {},
        parse_object(found["meta.json"], f"{path}/meta.json"),
    )
    for step in range(number, FORMAT):
        contents = MIGRATIONS[step](contents)
    _check_meta(contents.meta, f"{path}/meta.json")
    return contents


def _check_meta(meta: dict[str, Any], source: str) -> None:
    """What everybody who reads a checkpoint asks of it."""
    updates, online, steps = meta.get("updates"), meta.get("online"), meta.get("env_steps")
    whole = [updates, *steps] if isinstance(steps, list) else [None]
    if type(online) is not bool or not all(type(n) is int and n >= 0 for n in whole):
        raise CorruptFile(
            f"{source}: updates and env_steps must be whole numbers, online true or false; got "
            f"{updates!r:.40}, {steps!r:.40} and {online!r:.40}"
        )


def holds(path: Path, contents: Contents) -> bool:
    """Whether the checkpoint ``path`` is valid, of this trained state and of this success."""
    try:
        found = read(path)
    except (CorruptFile, MissingData):
        return False
    if found.meta.get("success") != contents.meta.get("success"):
        return False
    same = found.state.keys() == contents.state.keys()
    return same and all(np.array_equal(found.state[k], v) for k, v in contents.state.items())


def _checked(folder: Path, name: str, wanted: Any) -> bytes:
    path = inside(folder, name)
    data = read_bytes(path, Limits().tensor_bytes)
    if hashlib.sha256(data).hexdigest() != wanted:
        raise CorruptFile(f"{path} was changed after it was written (SHA-256 differs)")
    return data
