"""The ``.json`` beside a data file: how ``collect`` made it, and the sums of its bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowpolicy.data.collect import FORMAT
from flowpolicy.errors import CorruptFile
from flowpolicy.readers import Limits, read_object


def read_record(path: Path, limits: Limits = Limits()) -> dict[str, Any] | None:
    """What ``collect`` wrote beside ``path`` about how it was made; None where nothing of ours is.

    Raises ``CorruptFile`` naming the record where it is no strict JSON, or not built as ours are.
    """
    beside = path.with_suffix(".json")
    if beside == path or not beside.is_file():
        return None
    record = read_object(beside, limits)
    if record.get("format") != FORMAT:
        return None
    files = record.get("files")
    if not isinstance(record.get("environment"), str) or not isinstance(files, Mapping):
        raise CorruptFile(f"{beside} must name an environment and files")
    for name, told in files.items():
        if not isinstance(told, Mapping) or not isinstance(told.get("sha256"), str):
            raise CorruptFile(f"{beside}: files.{name[:80]} must have a sha256")
    return record


def promised_sum(record: Mapping[str, Any], path: Path) -> str | None:
    """The SHA-256 that the record promises of the file; None where it does not know it."""
    told = record["files"].get(path.name)
    return None if told is None else told["sha256"]
