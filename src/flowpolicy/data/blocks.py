"""Columns that may be larger than memory, looked at some neighbouring rows at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BYTES = 2**22
"""Bytes of the rows that are looked at together; what is made of them takes several times that."""


class Span(NamedTuple):
    """Least and greatest finite value of each entry of a row, infinite where there is none; and how
    many values are not finite.
    """

    low: np.ndarray
    high: np.ndarray
    not_finite: int


def blocks(column: Any) -> Iterator[np.ndarray]:
    """The rows of an array or of ``Frames``, about ``BYTES`` at a time, in order."""
    rows = max(BYTES // max(column[:1].nbytes, 1), 1)
    return (np.asarray(column[i : i + rows]) for i in range(0, len(column), rows))


def finite(values: np.ndarray) -> np.ndarray:
    """Flags: neither NaN nor infinite, also not once the value is float32."""
    return np.abs(values) <= np.finfo(np.float32).max


def span(column: np.ndarray) -> Span:
    """That of a column's entries."""
    size = int(np.prod(column.shape[1:]))
    low, high, wrong = np.full(size, np.inf), np.full(size, -np.inf), 0
    for block in blocks(column):
        rows = np.asarray(block.reshape(len(block), size), np.float64)
        good = finite(rows)
        wrong += int(good.size - np.count_nonzero(good))
        low = np.minimum(low, np.min(rows, axis=0, where=good, initial=np.inf))
        high = np.maximum(high, np.max(rows, axis=0, where=good, initial=-np.inf))
    return Span(low, high, wrong)
