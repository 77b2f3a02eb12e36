"""What benchmarks share: timing in blocks, the machine's description, tables, strict JSON."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from flowpolicy.bench.timing import Blocks, interleave, machine, spread

__all__ = [
    "RESULTS", "Blocks", "cache_programs", "interleave", "machine", "show", "show_wanted",
    "spread", "wanted", "write",
]  # fmt: skip

RESULTS = Path(__file__).parent / "results"


def wanted(what: str, measured: float, limit: float, *, at_most: bool) -> dict[str, Any]:
    """One line of what was hoped for and whether it was met."""
    met = measured <= limit if at_most else measured >= limit
    sign = "<=" if at_most else ">="
    return {"what": what, "wanted": f"{sign} {limit:g}", "measured": round(measured, 4), "met": met}


def cache_programs(folder: Path) -> None:
    """From here on every program that is compiled is kept in ``folder`` and found there again."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def write(name: str, content: dict[str, Any], results: Path | None = None) -> Path:
    """Writes ``<name>-<device>.json`` into ``results``, the repository's where None."""
    device = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
    path = (results or RESULTS) / f"{name}-{device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=130).print(table)


def show_wanted(lines: Sequence[dict[str, Any]]) -> None:
    """Prints what was wanted beside what was measured."""
    rows = [
        (line["what"], line["wanted"], line["measured"], "yes" if line["met"] else "no")
        for line in lines
    ]
    show("wanted", ("what", "wanted", "measured", "met"), rows)
