"""Tables that grow line by line: CSV with known columns, and JSON lines.

A line counts once its newline is written: what a killed run left half-written is told apart from
what is broken, by a flag.
"""

import codecs
import csv
import math
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flowpolicy.errors import CorruptFile
from flowpolicy.readers.limits import Limits, read_bytes
from flowpolicy.readers.strict_json import parse_object

T = TypeVar("T")


def read_rows(
    path: Path,
    kind: Callable[..., T],
    columns: Sequence[str],
    limits: Limits = Limits(),
    *,
    optional: int = 0,
) -> tuple[list[tuple[str, T]], bool]:
    """The lines of a CSV file as ``kind``, each with the file and line it stands in.

    columns: the names that the first line must have, in the order of the fields of ``kind``, a
             dataclass or a NamedTuple whose fields are whole numbers, finite floats, or text
    optional: how many of the last columns a file may be without; their fields have defaults

    The flag says that the file ends inside a line, which is left out. Raises ``MissingData`` or
    ``CorruptFile``, naming the line.
    """
    lines, cut = read_lines(path, limits)
    hints = typing.get_type_hints(kind)
    if len(hints) != len(columns):
        raise ValueError(f"{len(columns)} columns for the {len(hints)} fields of {kind}")
    least = len(columns) - optional
    heads = {",".join(columns[:n]): columns[:n] for n in range(least, len(columns) + 1)}
    names = ",".join(columns[:least])
    if not lines:
        raise CorruptFile(f"{path} is empty; its first line should be {names}")
    if lines[0] not in heads:
        raise CorruptFile(f"{path}: the first line should be {names}, not {lines[0][:200]}")
    columns, found = heads[lines[0]], []
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        cells = _cells(line, where)
        if len(cells) != len(columns):
            raise CorruptFile(f"{where}: {len(cells)} fields instead of {len(columns)}")
        typed = zip(columns, cells, hints.values(), strict=False)
        found.append((where, kind(*[_READ[h](f"{where}: {name}", c) for name, c, h in typed])))
    return found, cut


def read_records(
    path: Path, limits: Limits = Limits()
) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
    """The objects of a JSON-lines file, each with the file and line it stands in.

    The flag says that the file ends inside a line, which is left out. Raises ``MissingData`` or
    ``CorruptFile``, naming the line.
    """
    lines, cut = read_lines(path, limits)
    places = [f"{path}, line {number}" for number in range(1, len(lines) + 1)]
    return [
        (where, parse_object(line.encode(), where, limits))
        for where, line in zip(places, lines, strict=True)
    ], cut


def read_lines(path: Path, limits: Limits = Limits()) -> tuple[list[str], bool]:
    """The complete lines of a UTF-8 file, without their ends, and whether it ends inside one."""
    data = read_bytes(path, limits.table_bytes)
    *lines, rest = data.split(b"\n")
    for number, line in enumerate((*lines, rest), start=1):
        if len(line) > limits.line_bytes:
            raise CorruptFile(
                f"{path}, line {number} has {len(line):,} bytes, "
                f"at most {limits.line_bytes:,} are read"
            )
    try:
        # What a kill left may end within a character, but is text up to there.
        codecs.getincrementaldecoder("utf-8")().decode(rest)
        return [line.decode("utf-8").removesuffix("\r") for line in lines], bool(rest)
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path} is not UTF-8 text ({error})") from None


def _cells(line: str, where: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise CorruptFile(f"{where}: {error}") from None


def _whole(where: str, text: str) -> int:
    # Not int alone, which also reads "1_000", " 7" and digits of other scripts.
    if not re.fullmatch("-?[0-9]{1,18}", text):
        raise CorruptFile(f"{where} must be a whole number, got {text[:40]!r}")
    return int(text)


def _number(where: str, text: str) -> float:
    if not re.fullmatch(r"[-+]?[0-9.]{1,40}([eE][-+]?[0-9]{1,4})?", text):
        raise CorruptFile(f"{where} must be a number, got {text[:40]!r}")
    try:
        number = float(text)
    except ValueError as error:
        raise CorruptFile(f"{where}: {error}") from None
    if not math.isfinite(number):
        raise CorruptFile(f"{where} must be finite, got {text!r}")
    return number


def _text(where: str, text: str) -> str:
    del where
    return text


_READ: dict[Any, Callable[[str, str], Any]] = {
    int: _whole,
    float: _number,
    float | None: _number,
    str: _text,
}
