"""safetensors, checked before the library sees them.

The format: eight bytes with the header's length, the header (JSON: for each name its dtype, shape
and place), then the values. The library itself accepts a name that is given twice, and flags that
are neither 0 nor 1.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from flowpolicy.errors import CorruptFile
from flowpolicy.readers.limits import Limits, read_bytes
from flowpolicy.readers.strict_json import parse_object

DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F16": 2, "F32": 4, "F64": 8,
}  # fmt: skip
"""What is read, with the size of one entry in bytes."""
MAX_AXES = 32


def read_tensors(path: Path, limits: Limits = Limits()) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name; ``MissingData`` or ``CorruptFile`` otherwise.

    Values that are not finite are the caller's business.
    """
    return parse_tensors(read_bytes(path, limits.tensor_bytes), str(path), limits)


def parse_tensors(data: bytes, source: str, limits: Limits = Limits()) -> dict[str, np.ndarray]:
    """The arrays that ``data`` holds; ``source`` is what the ``CorruptFile`` error calls it."""
    if len(data) > limits.tensor_bytes:
        raise CorruptFile(
            f"{source} has {len(data):,} bytes, at most {limits.tensor_bytes:,} are read"
        )
    _check_header(data, source, limits)
    try:
        arrays = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise CorruptFile(f"{source}: {error}") from None
    for name, array in arrays.items():
        if array.dtype == bool and array.size and array.view(np.uint8).max() > 1:
            raise CorruptFile(f"{source}: {name[:80]!r} holds flags that are neither 0 nor 1")
    return arrays


def _check_header(data: bytes, source: str, limits: Limits) -> None:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise CorruptFile(f"{source} is shorter than its header")
    if length > limits.header_bytes:
        raise CorruptFile(
            f"{source}: its header has {length:,} bytes, at most {limits.header_bytes:,} are read"
        )
    header = parse_object(data[8 : 8 + length], f"{source}: its header", limits)
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise CorruptFile(f"{source}: __metadata__ must map text to text")
    places = sorted(_place(f"{source}: {name[:80]!r}", entry) for name, entry in header.items())
    end = 0
    for begin, stop in places:
        if begin != end:
            raise CorruptFile(f"{source}: its tensors overlap or leave gaps at byte {begin:,}")
        end = stop
    if end != len(data) - 8 - length:
        raise CorruptFile(f"{source} has {len(data) - 8 - length:,} bytes of values, not {end:,}")


def _place(source: str, entry: Any) -> tuple[int, int]:
    """Where the values lie, once dtype and shape agree with it."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CorruptFile(f"{source} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CorruptFile(f"{source}: dtype {str(dtype)[:40]!r} is none of {', '.join(DTYPES)}")
    if not _sizes(shape) or len(shape) > MAX_AXES or not _sizes(offsets) or len(offsets) != 2:
        raise CorruptFile(f"{source}: shape and data_offsets must be lists of sizes")
    begin, stop = offsets
    # An empty axis excuses no other one: numpy multiplies them all before it sees the zero.
    if math.prod(max(size, 1) for size in shape) * DTYPES[dtype] >= 2**62:
        raise CorruptFile(f"{source}: shape {shape} is larger than any memory")
    if math.prod(shape) * DTYPES[dtype] != stop - begin:
        raise CorruptFile(f"{source}: shape {shape} of {dtype} does not fill {stop - begin} bytes")
    return begin, stop


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
