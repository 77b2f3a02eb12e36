"""What benchmarks share: timing in blocks, the machine's description, tables, strict JSON."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass
class Blocks:
    """Seconds of repeated blocks of the same work: wall, and processor (all threads together).

    On a machine that does other things too, processor seconds say more than wall seconds.
    """

    per_block: int
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)

    def run(self, work: Callable[[], Any]) -> None:
        """Times one block and waits for what it returns."""
        cpu, wall = _cpu(), time.perf_counter()
        jax.block_until_ready(work())
        self.wall.append((time.perf_counter() - wall) / self.per_block)
        self.cpu.append((_cpu() - cpu) / self.per_block)

    def summary(self) -> dict[str, Any]:
        """Milliseconds per piece of work: least, median and most over the blocks."""
        return {
            "blocks": len(self.wall),
            "per_block": self.per_block,
            "wall_ms": spread(self.wall),
            "cpu_ms": spread(self.cpu),
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Least, median and most, in milliseconds."""
    ms = 1000.0 * np.asarray(seconds)
    return {
        "min": round(float(ms.min()), 4),
        "median": round(float(np.median(ms)), 4),
        "max": round(float(ms.max()), 4),
    }


def interleave(repeats: int, works: Sequence[tuple[Blocks, Callable[[], Any]]]) -> None:
    """Each work in turn, ``repeats`` times, so that a busy minute meets all of them."""
    for _ in range(repeats):
        for blocks, work in works:
            blocks.run(work)


def machine() -> dict[str, Any]:
    """What the numbers were made on; no names of hosts and no paths."""
    device = jax.devices()[0]
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": device.device_kind,
        "platform": device.platform,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("jax", "jaxlib", "equinox", "optax", "numpy", "flowpolicy")
        },
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


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
