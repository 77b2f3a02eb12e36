"""The files of a package: read once, whole, within limits, against the SHA-256 of a manifest.

A package is a folder in the layout of the Hugging Face hub. Whoever changes it can change the
manifest too, so the hashes tell of accidents; against malice stand the checks of what is read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import inside, parse_object, read_bytes

CONFIG, TENSORS, PROGRAM = "config.json", "model.safetensors", "program.json"
CARD, MANIFEST = "README.md", "manifest.json"
LIMITS = {CONFIG: 2**20, TENSORS: 2**33, PROGRAM: 2**24, CARD: 2**20}
"""The files a package may hold beside its manifest, and their largest sizes in bytes."""
FORMAT = 1
_HUB = {".git", ".gitattributes", ".gitignore", ".cache"}


def is_package(folder: Path) -> bool:
    """Whether ``folder`` is meant as a package, sound or not."""
    return any(os.path.lexists(folder / name) for name in (TENSORS, MANIFEST, PROGRAM))


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The content of ``manifest.json`` for these files."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return json.dumps({"format": FORMAT, "sha256": hashes}, indent=1, sort_keys=True).encode()


def read_folder(folder: Path) -> dict[str, bytes]:
    """The contents of a package's files by name, all of them as the manifest says.

    Raises ``MissingData`` where a file is not there, and ``CorruptFile`` for one that is too
    large, was changed, is a link, or does not belong. The hub's own files are passed over.
    """
    if not folder.is_dir():
        raise MissingData(f"there is no folder {folder}")
    hashes = read_manifest(folder)
    for name in sorted(set(os.listdir(folder)) - set(hashes) - {MANIFEST} - _HUB):
        raise CorruptFile(f"{folder / name[:80]} is not in the manifest")
    files = {}
    for name, wanted in hashes.items():
        files[name] = read_bytes(inside(folder, name), LIMITS[name])
        if hashlib.sha256(files[name]).hexdigest() != wanted:
            raise CorruptFile(f"{folder / name} was changed after it was packaged")
    return files


def read_manifest(folder: Path) -> dict[str, str]:
    """The SHA-256 of the files of a package by name; errors are those of ``read_folder``."""
    path = inside(folder, MANIFEST)
    told = parse_object(read_bytes(path, 2**16), str(path))
    if set(told) != {"format", "sha256"} or not isinstance(told["sha256"], dict):
        raise CorruptFile(f"{path} is not a manifest")
    if told["format"] != FORMAT:
        raise CorruptFile(f"{path} is not of format {FORMAT}, which is read here")
    if not {CONFIG, TENSORS} <= set(told["sha256"]) <= set(LIMITS):
        raise CorruptFile(f"{path} names other files than a package has")
    return told["sha256"]
