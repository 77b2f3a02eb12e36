"""Whether a run's arrays fit into memory, before any of them is made."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import InvalidConfig
from flowpolicy.train.phases import RunConfig
from flowpolicy.types import Rows, Spec

COPIES = 3
"""Of an agent during an update: the old one, its gradients and Adam's updates, the new one."""
SPARE = 0.95
"""Share of the free memory that is counted on."""


def size(tree: Any) -> int:
    """Bytes of a pytree of arrays or of their shapes."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves)


def per_seed(config: RunConfig, spec: Spec, like: Rows) -> int:
    """Bytes that every seed takes: its agent, while it is updated, and its ring.

    ``like`` is a row, or several. What a program needs for intermediate results is not counted.
    """
    agent = jax.eval_shape(lambda key: config.agent.init(key, spec), jax.random.key(0))
    row = size(like) // max(len(like.reward), 1)
    return COPIES * size(agent) + config.ring_capacity * row


def free() -> int | None:
    """Free bytes of the device's memory, where they can be known."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def check(
    config: RunConfig, spec: Spec, rows: Rows | None, like: Rows, devices: int, copies: int = 1
) -> None:
    """Raises ``InvalidConfig``, with what would fit, where the seeds do not.

    devices: those that share the seeds out
    copies:  data sets as large as ``rows`` that lie there at once; 2 while one takes another's
             place
    """
    there = free()
    if there is None:
        return
    once, each = 0 if rows is None else copies * size(rows), per_seed(config, spec, like)
    on_one = len(config.seeds) // devices
    if once + each * on_one <= SPARE * there:
        return
    fit = max(int((SPARE * there - once) // each), 0) * devices
    raise InvalidConfig(
        f"run.seeds: {len(config.seeds)} seeds need about {_gib(once + each * on_one)} of memory "
        f"on a device ({_gib(each)} each, {_gib(once)} for the offline rows), and "
        f"{_gib(there)} are free: {fit} would fit"
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
