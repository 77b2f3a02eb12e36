"""safetensors: what is written comes back, and headers that lie are refused before allocation."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits, parse_tensors, read_tensors

DTYPES = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split()
ARRAYS = {
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False, True]),
} | {f"of {name}": np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _file(header: Any, values: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def _same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return set(found) == set(wanted) and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in wanted.items()
    )


def test_what_is_written_comes_back(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.numpy.save(ARRAYS, metadata={"format": "np"}))
    assert _same(read_tensors(path), ARRAYS)
    assert read_tensors_of({}) == {}


def read_tensors_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return parse_tensors(safetensors.numpy.save(arrays), "x")


def _with(**changes: Any) -> dict[str, Any]:
    return {"a": {**F32, **changes}}


EIGHT = b"\0" * 8
HOSTILE = {
    "empty": b"",
    "four bytes": b"\0" * 4,
    "no header": b"\0" * 8,
    "a header of 2^60 bytes": (2**60).to_bytes(8, "little") + b"{}",
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "a header that is a list": _file([]),
    "a header that is no JSON": _file(b"{'a': 1}"),
    "a header with NaN": _file(b'{"a": NaN}'),
    "deep JSON": _file(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a name twice": _file(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        EIGHT,
    ),
    "a field twice": _file(
        b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}', EIGHT
    ),
    "an entry that is no object": _file({"a": 3}, EIGHT),
    "no dtype": _file({"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT),
    "an unknown field": _file(_with(code="print(1)"), EIGHT),
    "an unknown dtype": _file(_with(dtype="OBJECT"), EIGHT),
    "a dtype that is no text": _file(_with(dtype=["F32"]), EIGHT),
    "bfloat16": _file(_with(dtype="BF16", shape=[4]), EIGHT),
    "a negative axis": _file(_with(shape=[-2]), EIGHT),
    "two negative axes": _file(_with(shape=[-2, -1]), EIGHT),
    "an axis of text": _file(_with(shape=["2"]), EIGHT),
    "an axis that is a flag": _file(_with(shape=[True, 2]), EIGHT),
    "a broken axis": _file(_with(shape=[2.0]), EIGHT),
    "a shape that is no list": _file(_with(shape=2), EIGHT),
    "too many axes": _file(_with(shape=[1] * 70 + [2]), EIGHT),
    "a shape of 4 TiB": _file(_with(shape=[2**40]), EIGHT),
    "a shape past 64 bits": _file(_with(shape=[2**40, 2**40]), EIGHT),
    "a shape that wraps to 8 bytes": _file(_with(shape=[2**32, 2**31, 2]), EIGHT),
    "an empty shape past 64 bits": _file(_with(shape=[0, 2**62, 2**62], data_offsets=[0, 0])),
    "offsets behind the end": _file(_with(data_offsets=[0, 8]), b"\0" * 4),
    "offsets past 64 bits": _file(_with(data_offsets=[2**63, 2**63 + 8]), EIGHT),
    "offsets backwards": _file(_with(data_offsets=[8, 0]), EIGHT),
    "negative offsets": _file(_with(data_offsets=[-8, 0]), EIGHT),
    "three offsets": _file(_with(data_offsets=[0, 8, 8]), EIGHT),
    "a gap before": _file(_with(data_offsets=[4, 12]), b"\0" * 12),
    "bytes behind": _file(_with(), b"\0" * 9),
    "overlap": _file({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12),
    "the same place twice": _file({"a": F32, "b": F32}, EIGHT),
    "metadata that is no object": _file({"__metadata__": [], "a": F32}, EIGHT),
    "metadata within metadata": _file({"__metadata__": {"a": {"b": "c"}}, "a": F32}, EIGHT),
    "metadata that is a number": _file({"__metadata__": {"a": 1}, "a": F32}, EIGHT),
    "flags that are no flags": _file(_with(dtype="BOOL", shape=[8]), b"\0\1\2\0\0\0\0\0"),
    "a pickle": b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.",
}


def test_the_frame_of_the_hostile_files_is_sound():
    """The files below differ from this one in what their names say."""
    assert _same(parse_tensors(_file({"a": F32}, EIGHT), "x"), {"a": np.zeros(2, np.float32)})


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_lie_are_refused_before_allocation(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Before the library, too, which refuses many of them itself, but not all."""
    if name != "flags that are no flags":
        monkeypatch.setattr(safetensors.numpy, "load", lambda data: pytest.fail("it was loaded"))
    path = tmp_path / "bad.safetensors"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile, match=r"bad\.safetensors"):
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_more_than_is_allowed(tmp_path: Path):
    content = safetensors.numpy.save({"a": np.zeros(100, np.float32)})
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CorruptFile, match="at most 399 are read"):
        read_tensors(tmp_path / "a.safetensors", Limits(tensor_bytes=399))
    with pytest.raises(CorruptFile, match="at most 399 are read"):
        parse_tensors(content, "x", Limits(tensor_bytes=399))
    with pytest.raises(CorruptFile, match="its header has 64 bytes, at most 40"):
        parse_tensors(content, "x", Limits(header_bytes=40))
    with pytest.raises(MissingData):
        read_tensors(tmp_path / "none.safetensors")


def test_values_are_the_callers_business():
    """NaN is a float like others here; who loads weights refuses it."""
    assert math.isnan(read_tensors_of({"a": np.array([np.nan])})["a"][0])
