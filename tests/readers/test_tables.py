"""CSV and JSON lines: what is written comes back, broken lines are named, cut ones told."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits, read_lines, read_records, read_rows

COLUMNS = ("seed", "return", "who")
HEADER = "seed,return,who\n"


@dataclasses.dataclass(frozen=True)
class Row:
    seed: int
    returns: float
    who: str


class Tuple(NamedTuple):
    seed: int
    returns: float
    who: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


ROWS = [(0, -1.5, "qgbs(beam=4, eta=0.3)"), (-7, 1e-300, 'a "b", c'), (10**17, 0.1 + 0.2, "ü")]


@pytest.mark.parametrize("kind", [Row, Tuple])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_written_comes_back(path: Path, kind, end: str):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=end).writerows([COLUMNS, *ROWS])
    found, cut = read_rows(path, kind, COLUMNS)
    assert ([row for _, row in found], cut) == ([kind(*row) for row in ROWS], False)
    assert [where for where, _ in found] == [f"{path}, line {n}" for n in (2, 3, 4)]


def test_every_cut_gives_the_rows_before_it(path: Path):
    """However long a killed run's last line is, it is left out, and told where it is not empty."""
    content = (HEADER + "0,1.25,a\n1,2.5,ü\n").encode()
    for length in range(len(HEADER), len(content) + 1):
        path.write_bytes(content[:length])
        found, cut = read_rows(path, Row, COLUMNS)
        assert len(found) == content[len(HEADER) : length].count(b"\n")
        assert cut == (content[:length][-1:] != b"\n")
    for length in range(len(HEADER)):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptFile, match="is empty; its first line should be seed,return,who"):
            read_rows(path, Row, COLUMNS)


HOSTILE = {
    "another first line": ("seed,who,return\n", "first line should be seed,return,who, not"),
    "a field too few": (HEADER + "0,1\n", "line 2: 2 fields instead of 3"),
    "a field too many": (HEADER + "0,1,a\n0,1,a,b\n", "line 3: 4 fields instead of 3"),
    "an empty line": (HEADER + "\n", "line 2: 0 fields instead of 3"),
    "text for a whole number": (HEADER + "x,1,a\n", "line 2: seed must be a whole number, got 'x'"),
    "a fraction": (HEADER + "1.0,1,a\n", "line 2: seed must be a whole number, got '1.0'"),
    "an underscore": (HEADER + "1_0,1,a\n", "seed must be a whole number"),
    "digits of another script": (HEADER + "\u0661,1,a\n", "seed must be a whole number"),
    "a long whole number": (HEADER + "9" * 5000 + ",1,a\n", "seed must be a whole number"),
    "64 bits": (HEADER + "9" * 19 + ",1,a\n", "seed must be a whole number"),
    "NaN": (HEADER + "0,nan,a\n", "line 2: return must be a number, got 'nan'"),
    "infinity": (HEADER + "0,-inf,a\n", "return must be a number, got '-inf'"),
    "a number too large": (HEADER + "0,1e400,a\n", "line 2: return must be finite, got '1e400'"),
    "two points": (HEADER + "0,1.2.3,a\n", "line 2: return: could not convert"),
    "an empty number": (HEADER + "0,,a\n", "return must be a number, got ''"),
    "hexadecimal": (HEADER + "0,0x1p3,a\n", "return must be a number"),
    "an open quote": (HEADER + '0,1,"a\n', "line 2: unexpected end of data"),
    "text behind a quote": (HEADER + '0,1,"a"b\n', "line 2: "),
    "a long field": (HEADER + "0,1," + "a" * 200_000 + "\n", "line 2: field larger than"),
    "a long line": (HEADER + "0,1," + "a" * 300_000, "line 2 has 300,004 bytes, at most 262,144"),
    "a carriage return": (HEADER + "0,1,a\rb\n", "line 2: new-line character"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_lines_are_named(path: Path, name: str):
    text, says = HOSTILE[name]
    path.write_text(text, newline="", encoding="utf-8")
    with pytest.raises(CorruptFile, match=r"a\.csv") as caught:
        read_rows(path, Row, COLUMNS)
    assert says in str(caught.value)


def test_what_is_no_text(path: Path):
    for content in (b"\xff\xfe\x00\n", b"\xff\xfe\x00", HEADER.encode() + b"0,1,\xc3\n"):
        path.write_bytes(content)
        with pytest.raises(CorruptFile, match=r"a\.csv is not UTF-8 text"):
            read_lines(path)


def test_records(path: Path):
    values = [{"step": 1, "x": None}, {"step": 2, "text": "\u2028 \x85"}]
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), "utf-8")
    found, cut = read_records(path)
    assert ([value for _, value in found], cut) == (values, False)
    with path.open("a") as file:
        file.write('{"step": ')
    assert read_records(path) == (found, True)
    for line in ("", "[1]", '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 1}', "[" * 99_999):
        path.write_text('{"step": 1}\n' + line + "\n")
        with pytest.raises(CorruptFile, match=r"a\.csv, line 2"):
            read_records(path)


def test_more_than_is_allowed(path: Path):
    path.write_text("x" * 100)
    with pytest.raises(CorruptFile, match="has 100 bytes, at most 99 are read"):
        read_lines(path, Limits(table_bytes=99))
    with pytest.raises(MissingData):
        read_lines(path.with_name("none.csv"))
