"""Checkpoints: arrays as safetensors, the rest as strict JSON, SHA-256 over every byte.

A checkpoint is a folder. It is written under a temporary name, flushed, renamed, and its parent
flushed, so that a kill at any moment leaves either the old state or the new one. Nothing in it is
executed when it is read.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from flowpolicy.errors import CorruptFile, MissingData

T = TypeVar("T")

FORMAT = 1
_KEY = "key<{}>:"


def write_atomic(path: Path, data: bytes) -> None:
    """Writes ``data`` under a temporary name, flushes it to disk and renames it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _flush(path.parent)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any) -> bytes:
    """Strict JSON: no NaN, sorted keys."""
    return json.dumps(value, allow_nan=False, indent=1, sort_keys=True).encode()


def read_json(path: Path) -> Any:
    """Strict JSON from ``path``; ``MissingData`` or ``CorruptFile`` otherwise."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) != len(pairs):
            raise CorruptFile(f"{path}: a key is given twice")
        return dict(pairs)

    def refuse(text: str) -> Any:
        raise CorruptFile(f"{path}: {text} is not strict JSON")

    try:
        return json.loads(path.read_bytes(), object_pairs_hook=unique, parse_constant=refuse)
    except FileNotFoundError:
        raise MissingData(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFile(f"{path} is not readable as JSON: {error}") from None


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by path; typed keys as key data, their implementation in the name."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            name = _KEY.format(jax.random.key_impl(leaf)) + name
            leaf = jax.random.key_data(leaf)
        # safetensors stores the buffer as it lies, so the layout must be C; ascontiguousarray would
        # give scalars an axis.
        arrays[name] = np.asarray(leaf, order="C")
    return arrays


def from_arrays(skeleton: T, arrays: dict[str, np.ndarray], source: str) -> T:
    """Inverse of ``to_arrays`` onto a pytree of the same structure (shapes suffice).

    Raises ``CorruptFile`` where names, shapes or dtypes differ, or a float is not finite.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(skeleton)
    known = {name.split(":", 1)[1] if name.startswith("key<") else name: name for name in arrays}
    wanted = [jax.tree_util.keystr(path) for path, _ in paths]
    if set(known) != set(wanted):
        odd = sorted(set(known) ^ set(wanted))[:3]
        raise CorruptFile(f"{source} holds other leaves than this configuration has, e.g. {odd}")
    leaves = []
    for (_, like), name in zip(paths, wanted, strict=True):
        leaves.append(_leaf(like, known[name], arrays[known[name]], f"{source}: {name}"))
    return jax.tree_util.tree_unflatten(structure, leaves)


def _leaf(like: Any, stored: str, value: np.ndarray, source: str) -> jax.Array:
    array = jnp.asarray(value)
    if stored.startswith("key<"):
        array = jax.random.wrap_key_data(array, impl=stored[4 : stored.index(">")])
    if array.shape != like.shape or array.dtype != like.dtype:
        raise CorruptFile(
            f"{source} is {array.dtype}{list(array.shape)}, must be {like.dtype}{list(like.shape)}"
        )
    if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
        raise CorruptFile(f"{source} holds values that are not finite")
    return array


def save(folder: Path, name: str, tree: Any, meta: dict[str, Any], *, keep: int) -> Path:
    """Writes checkpoint ``name`` under ``folder`` and removes all but the newest ``keep``.

    Where the name is taken, by a state of the same number of updates, it gets a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    files = {
        "state.safetensors": safetensors.numpy.save(to_arrays(tree)),
        "meta.json": to_json({"format": FORMAT, **meta}),
    }
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    for file, data in files.items():
        write_atomic(temporary / file, data)
    write_atomic(temporary / "manifest.json", to_json({"format": FORMAT, "sha256": hashes}))
    final, copies = folder / name, 0
    while final.exists():  # no folder can be exchanged for another in one go, so both stay for now
        copies += 1
        final = folder / f"{name}.{copies:03d}"
    os.replace(temporary, final)
    _flush(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta data of one checkpoint, every byte checked against the manifest.

    A checkpoint that was altered is refused by name, and the one before it is named.
    """
    try:
        return _read(path)
    except (CorruptFile, MissingData) as error:
        earlier = [p for p in checkpoints(path.parent) if p.name < path.name]
        hint = f"the one before it is {earlier[-1]}" if earlier else "there is none before it"
        raise CorruptFile(f"checkpoint refused: {error}; {hint}") from None


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise CorruptFile(f"{path / 'manifest.json'} is not a manifest")
    if manifest.get("format") != FORMAT:
        raise CorruptFile(
            f"{path} has format {manifest.get('format')!r}, this version reads {FORMAT}"
        )
    hashes = manifest["sha256"]
    if set(hashes) != {"state.safetensors", "meta.json"}:
        raise CorruptFile(f"{path / 'manifest.json'} names other files than a checkpoint has")
    contents = {}
    for file, wanted in hashes.items():
        try:
            contents[file] = (path / file).read_bytes()
        except FileNotFoundError:
            raise MissingData(f"{path / file} does not exist") from None
        if hashlib.sha256(contents[file]).hexdigest() != wanted:
            raise CorruptFile(f"{path / file} was changed after it was written (SHA-256 differs)")
    try:
        arrays = safetensors.numpy.load(contents["state.safetensors"])
    except SafetensorError as error:
        raise CorruptFile(f"{path / 'state.safetensors'}: {error}") from None
    return arrays, read_json(path / "meta.json")
