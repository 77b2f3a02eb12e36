"""Timing in blocks, and what the numbers were made on."""

import dataclasses
import importlib.metadata
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
        "cores": _cores(),
        "device": device.device_kind,
        "platform": device.platform,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("jax", "jaxlib", "equinox", "optax", "numpy", "flowpolicy")
        },
    }


def _cores() -> int | None:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count()


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()
