"""OGBench's official data sets, fetched from its server or a mirror of it, by their names."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowpolicy.data.collect import FORMAT, write_text
from flowpolicy.data.record import promised_sum, read_record
from flowpolicy.data.sets import DataSet, find_set
from flowpolicy.data.storage import storing
from flowpolicy.data.transfer import DownloadFailed, Progress, fetch, read_page
from flowpolicy.errors import CorruptFile, InvalidConfig
from flowpolicy.readers import read_bytes

SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
"""Where OGBench's own loader looks."""

_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(\S+)")
_LINK = re.compile(r"href=[\"']([A-Za-z0-9][A-Za-z0-9._-]{0,199}\.npz)[\"']")


def download(
    name: str,
    out: Path,
    *,
    kind: str = "",
    server: str = SERVER,
    sums: Mapping[str, str] | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[Path, ...]:
    """Fetches the data set of ``find_set(name, kind)`` and returns its files.

    ``out`` is the npz to write, with ``-val.npz`` beside it; of a set that comes in many files it
    is the folder for all that the server lists. Files that are there stay, those that were begun
    are gone on with. A ``.json`` beside each training file records where it came from and its
    SHA-256, which every later reading compares. OGBench publishes no sums; ``sums``, from a name to
    a SHA-256, may come from a mirror's list (``read_sums``). ``progress(name)`` makes the progress
    of one file.

    Raises ``InvalidConfig`` for a set that no server has or a wrong ``out``, ``CorruptFile`` where
    a file that is there is not the one of its record, and as ``fetch`` does.
    """
    found = find_set(name, kind)
    if not found.official:
        raise InvalidConfig(f"{found.name} is on no server; flowpolicy data collect makes it")
    if (out.suffix == ".npz") == bool(found.shards):
        wanted = "a folder" if found.shards else "a file that ends in .npz"
        raise InvalidConfig(f"out must be {wanted} for {found.name}, got {str(out)!r}")
    server = server.rstrip("/")
    if found.shards:
        pages = f"{server}/{found.name}/"
        there = _listed(pages, found)
        pairs = [(pages + file, out / file) for file in there]
    else:
        pairs = [
            (f"{server}/{found.name}{suffix}", out.with_name(out.stem + suffix))
            for suffix in ("-val.npz", ".npz")
        ]
    for url, path in pairs:
        official = url.rpartition("/")[2]
        _one(found, url, path, (sums or {}).get(official, ""), progress and progress(official))
    return tuple(path for _, path in pairs)


def read_sums(path: Path) -> dict[str, str]:
    """By file name, the SHA-256 that a list in the format of ``sha256sum`` promises.

    Raises ``CorruptFile`` naming the line, ``MissingData`` where there is no such file.
    """
    lines = read_bytes(path, 2**20).decode("utf-8", errors="replace").splitlines()
    sums = {}
    for i, line in enumerate(lines, start=1):
        found = _SUM.fullmatch(line.strip())
        if line.strip() and found is None:
            raise CorruptFile(f"{path}, line {i}: expected 64 hexadecimal digits and a name")
        if found is not None:
            sums[found[2].rpartition("/")[2]] = found[1].lower()
    return sums


def _listed(page: str, found: DataSet) -> list[str]:
    """The npz files that the server's page of a folder links to, without their paths."""
    names = sorted(set(_LINK.findall(read_page(page))))
    training = [name for name in names if not name.endswith("-val.npz")]
    if len(training) != found.shards:
        raise DownloadFailed(
            f"{page} lists {len(training)} training files, and {found.name} has {found.shards}"
        )
    return names


def _one(found: DataSet, url: str, path: Path, promised: str, progress: Progress | None) -> None:
    there = path.exists()
    arrived = fetch(url, path, promised=promised, progress=progress)
    if path.stem.endswith("-val"):
        return
    beside, told = path.with_suffix(".json"), read_record(path)
    if told is None and beside.exists():
        return  # it is somebody else's
    recorded = None if told is None else promised_sum(told, path)
    if there and recorded not in (None, arrived.sha256):
        raise CorruptFile(
            f"{path}: its SHA-256 is {arrived.sha256}, and the record beside it promises "
            f"{recorded}; delete the file to fetch it again"
        )
    if there and told is not None:
        return
    record: dict[str, Any] = {
        "format": FORMAT,
        "source": "flowpolicy download",
        "environment": found.environment,
        "dataset": found.name,
        "url": url,
        "files": {path.name: {"sha256": arrived.sha256, "bytes": arrived.bytes}},
    }
    temporary = beside.with_name(f".{beside.name}.{os.getpid()}.tmp")
    with storing(beside):
        write_text(temporary, json.dumps(record, indent=1) + "\n")
        os.replace(temporary, beside)
