"""Cost curves of FMQ's update: ``python -m benchmarks.curves``.

Milliseconds and memory of an offline update against the number of candidates, the batch, the width,
the chunk's length, the seeds, and the rows of the data set, one at a time around the demo's size.
Each point is a process's own program, a few blocks; ``results/curves-<device>.json`` keeps every
point as it is made, and ``docs/images/curves.png`` draws them. A stopped run goes on where it was.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks import measure
from flowpolicy.bench import setting
from flowpolicy.bench.flops import Problem
from flowpolicy.data.replay import UniformDraw
from flowpolicy.nets import MLPCritic, MLPFlow
from flowpolicy.refine import BestOfN
from flowpolicy.train.memory import size
from flowpolicy.train.normalise import Identity
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.updates import Updater
from flowpolicy.types import Rows, Spec

POINTS: dict[str, tuple[int, ...]] = {
    "candidates": (1, 2, 4, 8, 16, 32, 64),
    "batch": (64, 128, 256, 512, 1024, 2048, 4096),
    "width": (64, 128, 256, 512, 1024),
    "chunk": (1, 2, 5, 10, 20),
    "seeds": (1, 2, 4, 8, 16),
    "rows": (10_000, 100_000, 1_000_000, 3_000_000),
}
BASE = {"candidates": 4, "batch": 256, "width": 256, "chunk": 5, "seeds": 1, "rows": 100_000}
COUNT, REPEATS = 20, 5
SPEED, MEMORY = "#0072B2", "#D55E00"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "curves.png"


def main(arguments: list[str] | None = None) -> int:
    """Measures what is missing and draws."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves")
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    options = parser.parse_args(arguments)
    machine = measure.machine()
    path = options.results / f"curves-{machine['device']}.json"
    found: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for name, values in POINTS.items():
        for value in values[:2] if options.tiny else values:
            key = f"{name}={value}"
            if key in found:
                continue
            found[key] = point({**BASE, name: value}, 2 if options.tiny else COUNT)
            print(key, found[key], flush=True)
            told = {
                "benchmark": "curves",
                "machine": machine,
                "protocol": f"offline updates of the demo's agent, {BASE} but for the one that is "
                f"varied; {REPEATS} blocks of {COUNT} updates; memory as XLA plans it",
                "results": found,
            }
            measure.write("curves", told, options.results)
    draw(found, options.picture)
    return 0


def point(sizes: dict[str, int], count: int) -> dict[str, Any]:
    """Milliseconds an update, and bytes: of the state a seed, of intermediate results."""
    agent = dataclasses.replace(
        setting.demo(),
        bootstrap=BestOfN(sizes["candidates"]),
        chunk=sizes["chunk"],
        actor=MLPFlow(width=sizes["width"], depth=3),
        critic=MLPCritic(width=sizes["width"], depth=3),
    )
    seeds = sizes["seeds"]
    updater = Updater(
        offline=rows(sizes["rows"]), normaliser=Identity().fit(None), view=agent.view,
        draw=UniformDraw(), batch=sizes["batch"], seeds=seeds,
    )  # fmt: skip
    spec, keys = (
        Spec((setting.DEMO.obs,), setting.DEMO.action, 100),
        stream_keys(tuple(range(seeds)), Stream.UPDATE),
    )
    agents = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(keys)
    held = size(agents) // seeds
    zero, alive = np.zeros(seeds, np.int64), np.ones(seeds, bool)
    lowered, arguments = updater.lower(agents, None, keys, zero, alive, count=count)
    program = lowered.compile()
    memory = program.memory_analysis()

    def run() -> Any:
        nonlocal arguments
        after, _ = program(*arguments)
        arguments = (after, *arguments[1:])
        return after

    jax.block_until_ready(run())
    blocks = measure.Blocks(count)
    measure.interleave(REPEATS, [(blocks, run)])
    return {
        "wall_ms": measure.spread(blocks.wall),
        "cpu_ms": measure.spread(blocks.cpu),
        "state_bytes_a_seed": held,
        "intermediate_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
    }


def rows(count: int) -> Rows:
    """Made-up rows, the same ones over and over."""
    some = setting.made_up_rows(Problem(setting.DEMO.obs, setting.DEMO.action, 1))
    return jax.tree.map(lambda x: np.resize(x, (count, *x.shape[1:])), some)


def draw(found: dict[str, Any], path: Path) -> None:
    """One panel a quantity: updates a second on the left, memory on the right, the same scales."""
    figure, grid = plt.subplots(2, 3, figsize=(11, 6), layout="constrained", sharey=True)
    others = [axes.twinx() for axes in grid.flat]
    for other in others[1:]:
        other.sharey(others[0])
    for axes, other, (name, values) in zip(grid.flat, others, POINTS.items(), strict=True):
        there = [v for v in values if f"{name}={v}" in found]
        points = [found[f"{name}={v}"] for v in there]
        speed = [1e3 / p["wall_ms"]["median"] for p in points]
        axes.plot(there, speed, "o-", color=SPEED, clip_on=False)
        other.plot(there, [memory_mib(p) for p in points], "s--", color=MEMORY, clip_on=False)
        axes.set(xscale="log", yscale="log", xlabel=name, ylim=(5, 1_000))
        axes.set_xticks(there, [_short(v) for v in there])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.grid(axis="y", alpha=0.3)
        other.set(yscale="log", ylim=(20, 1_000))
        for y in (axes.yaxis, other.yaxis):
            y.set_major_locator(LogLocator(subs=(1, 2, 5)))
            y.set_major_formatter("{x:g}")
            y.set_minor_locator(NullLocator())
    for row in range(2):
        grid[row, 0].set_ylabel("updates a second", color=SPEED)
        others[3 * row + 2].set_ylabel("MiB of the program (dashed)", color=MEMORY)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _short(value: int) -> str:
    for scale, unit in ((1_000_000, " M"), (1_000, " k")):
        if value >= scale and value % scale == 0:
            return f"{value // scale}{unit}"
    return str(value)


def memory_mib(one: dict[str, Any]) -> float:
    """What the program needs: its arguments and its intermediate results."""
    return (one["argument_bytes"] + one["intermediate_bytes"]) / 2**20


if __name__ == "__main__":
    sys.exit(main())
