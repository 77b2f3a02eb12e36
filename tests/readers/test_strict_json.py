"""Strict JSON: what is written comes back, and whatever else may be in the bytes is an error."""

import json
import os
from pathlib import Path

import pytest

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits, inside, parse_json, parse_object, read_json, read_object

VALUE = {
    "a": [1, -2.5, 1e-30, None, True],
    "ü": {"": 'text with \\ " [ { , \U0001f600'},
    "n": 2**63,
}


@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_is_written_comes_back(tmp_path: Path, ascii_only: bool):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE, ensure_ascii=ascii_only), encoding="utf-8")
    assert read_json(path) == VALUE
    assert read_object(path) == VALUE


HOSTILE = {
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"a": [1, 2',
    "two values": b"{} {}",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL": b'{"a": "\x00"}',
    "a key twice": b'{"a": 1, "b": {"c": 1, "c": 2}}',
    "a key twice, escaped": b'{"a": 1, "\\u0061": 2}',
    "NaN": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "a float too large": b"[1e400]",
    "a negative float too large": b"[-1.0e999999999]",
    "a long whole number": b"[" + b"9" * 5000 + b"]",
    "65 bits": b"[18446744073709551616]",
    "-64 bits": b"[-9223372036854775809]",
    "half a surrogate pair": b'["\\ud800"]',
    "half a surrogate pair as a key": b'{"\\udfff": 1}',
    "surrogates in UTF-8": b'["\xed\xa0\x80"]',
    "deep lists": b"[" * 100 + b"]" * 100,
    "very deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100 + b"1" + b"}" * 100,
    "deep, unclosed": b"[" * 1_000_000,
    "single quotes": b"{'a': 1}",
    "a comma too many": b"[1, 2,]",
    "a comment": b"[1] // one",
    "a leading zero": b"[01]",
    "hexadecimal": b"[0x10]",
    "a pickle": b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused_by_name(tmp_path: Path, name: str):
    path = tmp_path / "bad.json"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(CorruptFile, match=r"bad\.json"):
        read_json(path)


def test_more_values_or_bytes_than_allowed(tmp_path: Path):
    small = Limits(json_bytes=100, json_values=10, json_depth=3)
    assert parse_json(b"[" + b"1," * 8 + b"1]", "x", small) == [1] * 9
    with pytest.raises(CorruptFile, match="x holds more than 10 values"):
        parse_json(b"[" + b"1," * 10 + b"1]", "x", small)
    with pytest.raises(CorruptFile, match="x has 101 bytes, JSON may have 100"):
        parse_json(b" " * 101, "x", small)
    assert parse_json(b"[[[1]]]", "x", small) == [[[1]]]
    with pytest.raises(CorruptFile, match="deeper than 3"):
        parse_json(b"[[[[1]]]]", "x", small)
    (tmp_path / "a.json").write_bytes(b" " * 101)
    with pytest.raises(CorruptFile, match="has 101 bytes, at most 100 are read"):
        read_json(tmp_path / "a.json", small)


def test_an_object_where_one_is_wanted():
    with pytest.raises(CorruptFile, match=r"x: expected a JSON object, got list"):
        parse_object(b"[]", "x")


def test_what_is_no_file(tmp_path: Path):
    """Nothing there; a folder; a pipe that nobody writes to; a device that never ends."""
    (tmp_path / "file").write_text("{}")
    for missing in (tmp_path / "none.json", tmp_path / "file" / "none.json"):
        with pytest.raises(MissingData, match=r"none\.json does not exist"):
            read_json(missing)
    with pytest.raises(CorruptFile, match="directory"):
        read_json(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CorruptFile, match="not a regular file"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises(CorruptFile, match="not a regular file"):
        read_json(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/a", "a/b", "a\\b", "C:a", "a\0"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str):
    with pytest.raises(CorruptFile, match="not the name of a file in it"):
        inside(tmp_path, name)


def test_links_are_not_followed(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    assert inside(tmp_path, "a") == tmp_path / "a"
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(CorruptFile, match="symbolic link"):
        inside(tmp_path, "b")
