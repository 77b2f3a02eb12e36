"""The machine's float32 matrix-product peak, on all cores: the best of the sizes listed here."""

from typing import Any

import jax
import jax.numpy as jnp

from flowpolicy.bench.timing import Blocks, interleave
from flowpolicy.nets.product import exactly

SIZES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (1024, 512, 512),
    (4096, 512, 512),
    (8192, 512, 512),
    (16384, 512, 512),
)
"""(rows, inner, columns): squares, and the tall products of nets of width 512."""
WORK = 10e9
"""Floating-point operations of a block, about; a tenth of a second on two cores."""


def peak(repeats: int = 7) -> dict[str, Any]:
    """GFLOP/s of each size (its fastest block) and the best of them, by wall time and, on a CPU,
    by processor time of one core."""
    sizes = []
    for shape in SIZES:
        wall, cpu = _size(shape, repeats)
        sizes.append({"rows_inner_columns": shape, "gflops": wall, "gflops_per_cpu_second": cpu})
    return {
        "repeats": repeats,
        "gflops": max(s["gflops"] for s in sizes),
        "gflops_per_cpu_second": max(s["gflops_per_cpu_second"] for s in sizes),
        "sizes": sizes,
    }


def _size(shape: tuple[int, int, int], repeats: int) -> tuple[float, float]:
    m, k, n = shape
    key_a, key_b = jax.random.split(jax.random.key(0))
    a, b = jax.random.normal(key_a, (m, k)), jax.random.normal(key_b, (k, n))
    product = jax.jit(exactly(jnp.dot))
    operations = 2.0 * m * k * n
    count = max(round(WORK / operations), 1)

    def block() -> list[jax.Array]:
        return [product(a, b) for _ in range(count)]

    jax.block_until_ready(block())
    blocks = Blocks(count)
    interleave(repeats, [(blocks, block)])
    wall, cpu = (round(operations / min(s) / 1e9, 1) for s in (blocks.wall, blocks.cpu))
    return wall, cpu
