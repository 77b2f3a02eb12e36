"""Environment steps a second with several seeds: ``python -m benchmarks.seeds_online``.

``mini/fmq/cube-single-task1`` on a little data collected on the spot, one seed and four, with and
without worker processes; beside it the bare simulator, one process and as many as there are cores,
which is the limit of what overlapping can give.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from flowpolicy.bench import loop
from flowpolicy.envs.make import make_env
from flowpolicy.train.hardware import Hardware

STEPS, REPEATS, SEEDS, TASK = 400, 3, 4, "cube-single-task1"
CASES = {
    "one seed": (1, Hardware()),
    "one seed, one worker": (1, Hardware(workers=1)),
    "four seeds": (SEEDS, Hardware()),
    "four seeds, two workers": (SEEDS, Hardware(workers=2)),
    "four seeds, four workers": (SEEDS, Hardware(workers=4)),
}


def main() -> None:
    """Measures, prints, writes ``results/seeds_online-<device>.json``."""
    machine = measure.machine()
    bare = {f"{n} processes": bare_rate(n) for n in (1, machine["cores"])}
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (seeds, hardware) in CASES.items():
            lines = loop.shares(
                Path(folder), steps=STEPS, repeats=REPEATS, seeds=seeds, hardware=hardware
            )
            rates = [seeds * STEPS / line["time/seconds"] for line in lines]
            middle = lines[int(np.argsort(rates)[len(rates) // 2])]
            results[name] = {
                "steps_per_second": [round(rate, 2) for rate in sorted(rates)],
                **{k: round(middle[f"time/{k}"], 3) for k in loop.SHARES},
            }
            print(name, results[name], flush=True)
    path = measure.write(
        "seeds_online",
        {
            "benchmark": "seeds_online",
            "machine": machine,
            "protocol": f"{REPEATS} phases of {STEPS} steps a seed each, compiling left out; steps "
            "of all seeds together; shares of the middle phase; bare: random actions, no learning",
            "bare_steps_per_second": bare,
            "results": results,
        },
    )
    rows = [
        (name, *(f"{x:.1f}" for x in r["steps_per_second"]), f"{100 * r['environment']:.0f} %",
         f"{100 * r['updates']:.0f} %")
        for name, r in results.items()
    ]  # fmt: skip
    measure.show("steps a second", ("what", "least", "middle", "most", "env", "updates"), rows)
    print(f"bare simulator: {bare}")
    print(f"written: benchmarks/results/{path.name}")


def bare_rate(processes: int) -> float:
    """Steps a second of bare environments in as many processes, all together."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        pool.map(steps, [10] * processes)
        began = time.perf_counter()
        pool.map(steps, [1_000] * processes, chunksize=1)
        return round(processes * 1_000 / (time.perf_counter() - began), 1)


def steps(count: int) -> int:
    """That many steps of one environment by random actions, making it included only once."""
    env = _environment()
    draws = np.random.default_rng(0)
    env.reset(0)
    for i in range(count):
        step = env.step(draws.uniform(-1, 1, env.action_size).astype(np.float32))
        if step.terminated or step.truncated:
            env.reset(i)
    return count


_made: list[Any] = []


def _environment() -> Any:
    if not _made:
        _made.append(make_env(TASK))
    return _made[0]


if __name__ == "__main__":
    main()
