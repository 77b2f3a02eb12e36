"""Switches of a method that its paper may not be about: chunks, candidates, aggregation, timing.

They are read from the recorded configuration by the names of fields, wherever in the agent they
stand, so that an agent need not be known here. What an agent has no field for stays empty.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError
from flowpolicy.report.methods import Cell, in_words
from flowpolicy.report.table import Table
from flowpolicy.report.unlike import timing_of
from flowpolicy.train.folder import OWN

_FIELDS = {
    "chunk": "chunk",
    "acting": "act",
    "bootstrap": "bootstrap",
    "aggregate": "aggregate(_.+)?",
    "ensemble": "ensemble",
    "flow_time_embedding": "embed",
}
"""Columns, each with the pattern of its field's name."""
COLUMNS = ("method", "tasks", *_FIELDS, "reward_timing")


def confounders(cells: Sequence[Cell]) -> Table:
    """A row a method; more where its switches are not the same on every task."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for cell in cells:
        rows.setdefault((cell.method, *_switches(cell)), []).append(cell.task)
    return Table(COLUMNS, tuple((row[0], tuple(tasks), *row[1:]) for row, tasks in rows.items()))


def differing(table: Table) -> tuple[str, ...]:
    """The columns of ``confounders`` that are not the same in all rows."""
    columns = zip(*table.rows, strict=True) if table.rows else ()
    return tuple(
        name
        for name, column in zip(table.columns, columns, strict=False)
        if name not in ("method", "tasks") and len(set(column)) > 1
    )


def _switches(cell: Cell) -> tuple[Any, ...]:
    # All runs of a cell have the same settings: others would be another method.
    run = cell.runs[0]
    agent = run.settings.get("agent")
    found = {column: dict(_named(agent, pattern)) for column, pattern in _FIELDS.items()}
    if cell.refiner != OWN:
        found["acting"] = {"act": cell.refiner}
    return (*(_one_cell(found[column]) for column in _FIELDS), timing_of(run))


def _named(tree: Any, pattern: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values whose name is like ``pattern``, each with its dotted name."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if re.fullmatch(pattern, key):
            yield f"{prefix}{key}", value
        else:
            yield from _named(value, pattern, f"{prefix}{key}.")


def _one_cell(found: Mapping[str, Any]) -> Any:
    """One value where there is one; each with the name of its field where there are several."""
    texts = {name: _words(value) for name, value in found.items()}
    if len(set(texts.values())) > 1:
        return tuple(f"{text} ({name})" for name, text in texts.items())
    value = next(iter(found.values()), None)
    return value if isinstance(value, int) else next(iter(texts.values()), None)


def _words(value: Any) -> str:
    """A part as on the command line; its fields where it is not known here."""
    try:
        return value if isinstance(value, str) else parts.describe(parts.decode(value))
    except FlowPolicyError:
        return in_words(value)
