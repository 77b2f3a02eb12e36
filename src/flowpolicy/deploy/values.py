"""What a step of a program takes and gives: types with shapes, and its parameters, checked."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowpolicy.errors import CorruptFile

KEY = "key"
"""Type of a random key; numpy keeps it as one uint64."""
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    )
} | {KEY: np.dtype("uint64")}  # fmt: skip
LARGEST = 2**26
"""Entries of a single value, at most."""


class Kind(NamedTuple):
    """Type and shape of a value; ``dtype`` is one of ``DTYPES``."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Entries."""
        return math.prod(self.shape)

    @property
    def numpy(self) -> np.dtype:
        """The type of the array."""
        return DTYPES[self.dtype]

    def blank(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.shape, self.numpy)


Params = Mapping[str, Any]
Function = Callable[..., Any]
Rule = Callable[[Params, Sequence[Kind], Sequence[Kind]], Function]
"""Makes the function of a step out of its parameters, its inputs' kinds and its outputs'."""


def read_kind(dtype: Any, shape: Any) -> Kind:
    """A kind from JSON; ``CorruptFile`` for an unknown type, or more than ``LARGEST`` entries."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CorruptFile(f"type {str(dtype)[:40]!r} is not one of {', '.join(DTYPES)}")
    kind = Kind(dtype, whole_numbers(shape, "a shape"))
    if len(kind.shape) > 32 or min(kind.shape, default=0) < 0 or kind.size > LARGEST:
        raise CorruptFile(f"shape {kind.shape[:8]} is not one of at most {LARGEST} entries")
    return kind


def whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """A JSON list of whole numbers as a tuple."""
    if not isinstance(value, list) or any(type(v) is not int for v in value):
        raise CorruptFile(f"{what} must be a list of whole numbers, got {str(value)[:60]}")
    return tuple(value)


def ints(params: Params, name: str) -> tuple[int, ...]:
    """The parameter ``name``, a list of whole numbers."""
    return whole_numbers(params.get(name), name)


def number(params: Params, name: str) -> int:
    """The parameter ``name``, a whole number."""
    value = params.get(name)
    if type(value) is not int:
        raise CorruptFile(f"{name} must be a whole number, got {str(value)[:60]}")
    return value


def expect(kind: Kind, shape: Sequence[int]) -> None:
    """``CorruptFile`` unless ``shape``, which follows from the inputs, is that of ``kind``.

    Asked before a step that could make more of little, so that nothing large is allocated.
    """
    if tuple(shape) != kind.shape:
        raise CorruptFile(f"a result of shape {tuple(shape)} is announced as {kind.shape}")


def a_list(value: Any) -> list[Any]:
    """``value``, which must be a JSON list."""
    if not isinstance(value, list):
        raise CorruptFile(f"expected a list, got {str(value)[:60]}")
    return value


def sized(value: Any, size: int) -> list[Any]:
    """``value``, which must be a JSON list of ``size`` items."""
    if len(a_list(value)) != size:
        raise CorruptFile(f"expected a list of {size}, got {str(value)[:60]}")
    return value


def an_object(value: Any, *names: str) -> dict[str, Any]:
    """``value``, which must be a JSON object with exactly these names."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise CorruptFile(f"expected an object with exactly {', '.join(names)}")
    return value
