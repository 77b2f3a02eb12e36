"""Strict JSON: UTF-8, no key twice, finite numbers, whole numbers of 64 bits, text that is text."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from flowpolicy.errors import CorruptFile
from flowpolicy.readers.limits import Limits, read_bytes


def read_json(path: Path, limits: Limits = Limits()) -> Any:
    """The value in a JSON file; ``MissingData`` or ``CorruptFile`` otherwise."""
    return parse_json(read_bytes(path, limits.json_bytes), str(path), limits)


def read_object(path: Path, limits: Limits = Limits()) -> dict[str, Any]:
    """The object in a JSON file; ``MissingData`` or ``CorruptFile`` otherwise."""
    return parse_object(read_bytes(path, limits.json_bytes), str(path), limits)


def parse_object(data: bytes, source: str, limits: Limits = Limits()) -> dict[str, Any]:
    """``parse_json`` of something that must be an object."""
    value = parse_json(data, source, limits)
    if not isinstance(value, dict):
        raise CorruptFile(f"{source}: expected a JSON object, got {type(value).__name__}")
    return value


def parse_json(data: bytes, source: str, limits: Limits = Limits()) -> Any:
    """The value that ``data`` says; ``source`` is what the ``CorruptFile`` error calls it."""
    if len(data) > limits.json_bytes:
        raise CorruptFile(f"{source} has {len(data):,} bytes, JSON may have {limits.json_bytes:,}")
    # At least as many as there are values: commas in text count too.
    if sum(map(data.count, (b",", b"[", b"{"))) > limits.json_values:
        raise CorruptFile(f"{source} holds more than {limits.json_values:,} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
        )
        _check(value, limits.json_depth)
    except RecursionError:
        raise CorruptFile(f"{source} is nested deeper than {limits.json_depth}") from None
    except ValueError as error:
        raise CorruptFile(f"{source} is not readable as JSON: {error}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice[:80]!a} is given twice")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not strict JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _whole(text: str) -> int:
    # Reading thousands of digits takes a time that grows with their square.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {text[:40]} has more than 64 bits")
    return int(text)


def _check(value: Any, depth: int) -> None:
    """Raises ``ValueError`` where it is nested too deeply, or holds half of a surrogate pair."""
    level = [value]
    while level:
        if depth < 0:
            raise RecursionError
        inner = []
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")
            elif isinstance(item, dict):
                inner += [*item, *item.values()]
            elif isinstance(item, list):
                inner += item
        level, depth = inner, depth - 1
