"""A table, for people and as CSV."""

import csv
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

from flowpolicy.report.statistics import Interval


class Table(NamedTuple):
    """Columns and rows; a cell is text, a number, None (not there), or a tuple of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """Comma-separated, numbers in full, nothing for what is not there."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_plain(cell) for cell in row] for row in self.rows)
        return buffer.getvalue()

    def text(self) -> list[list[str]]:
        """The cells for people: rates to three digits, a dash for what is not there."""
        return [[_words(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        cells = zip(*self.rows, strict=True) if self.rows else [() for _ in self.columns]
        return [any(isinstance(c, int | float) for c in column) for column in cells]


def ends(interval: Interval | None) -> Iterable[float | None]:
    """Two cells of an interval."""
    return interval or (None, None)


def _plain(cell: Any) -> Any:
    if isinstance(cell, tuple):
        return "; ".join(cell)
    return "" if cell is None else round(cell, 6) if isinstance(cell, float) else cell


def _words(cell: Any) -> str:
    if isinstance(cell, tuple):
        return ", ".join(cell)
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.1f}" if abs(cell) >= 100 else f"{cell:.3f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
