"""What small nets' matrix products reach of the machine's peak: ``python -m benchmarks.shapes``.

The peak is that of large products. No update of a net can pass what its own products reach, so they
stand beside it: chains of 20 products of the demo's width and of the papers', each with the one
before as a factor, in one program, and nothing else. Forwards x w, and backwards through the layer
x w^T.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from benchmarks import measure
from flowpolicy.bench.peak import peak

REPEATS, CHAIN, CHAINS = 15, 20, 4
SHAPES = [(rows, 256) for rows in (128, 256, 512, 1024)] + [(rows, 512) for rows in (256, 1024)]
"""Rows and width: batches of the demo and of the papers, and 1024 candidates."""

Kind = Callable[[Float[Array, "n m"], Float[Array, "m k"]], Float[Array, "n k"]]
KINDS: dict[str, Kind] = {
    "x w": lambda x, w: x @ w,
    "x w^T": lambda x, w: x @ w.T,
}


def main() -> None:
    """Measures, prints, writes ``results/shapes-<device>.json``."""
    machine = measure.machine()
    works = {(name, *shape): _work(name, *shape) for name in KINDS for shape in SHAPES}
    for _, run in works.values():
        jax.block_until_ready(run())
    before = peak()
    measure.interleave(REPEATS, list(works.values()))
    best = max(before["gflops"], peak()["gflops"])
    results = [
        {"product": name, "rows": rows, "width": width, **_rate(blocks, rows, width, best)}
        for (name, rows, width), (blocks, _) in works.items()
    ]
    content = {
        "benchmark": "shapes",
        "machine": machine,
        "protocol": f"{REPEATS} blocks of each in turn, medians; the peak is the best size before "
        "or after",
        "peak_gflops": best,
        "results": results,
    }
    path = measure.write("shapes", content)
    lines = [
        (r["product"], f"{r['rows']} x {r['width']} x {r['width']}", r["gflops"],
         f"{r['of_peak']:.0%}")
        for r in results
    ]  # fmt: skip
    measure.show(f"peak {best:.0f} GFLOP/s", ("product", "size", "GFLOP/s", "of the peak"), lines)
    print(f"written: benchmarks/results/{path.name}")


def _work(name: str, rows: int, width: int) -> tuple[measure.Blocks, Callable[[], Any]]:
    key_x, key_w = jax.random.split(jax.random.key(0))
    # Factors of norm about one, so that a chain neither grows nor vanishes.
    w = jax.random.normal(key_w, (width, width)) / width**0.5
    x = jax.random.normal(key_x, (rows, width))

    @jax.jit
    def chain(x: jax.Array, w: jax.Array) -> jax.Array:
        for _ in range(CHAIN):
            x = KINDS[name](x, w)
        return x

    return measure.Blocks(CHAIN * CHAINS), lambda: [chain(x, w) for _ in range(CHAINS)]


def _rate(blocks: measure.Blocks, rows: int, width: int, best: float) -> dict[str, float]:
    seconds = blocks.summary()["wall_ms"]["median"] / 1e3
    gflops = 2e-9 * rows * width**2 / seconds
    return {"gflops": round(gflops, 1), "of_peak": round(gflops / best, 4)}


if __name__ == "__main__":
    main()
