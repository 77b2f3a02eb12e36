"""Actions under a deadline, beside a busy core: ``python -m benchmarks.deadlines``.

One observation to one chunk, by JAX and by numpy, for each refiner, while another process keeps a
core busy. Recorded are the percentiles over all calls, how many took longer than 20 ms, and the
first call after ``warm_up()``. A case that is recorded is not measured again; ``--calls`` makes it
shorter for a check, ``--beside`` says what else keeps a core busy, and then nothing is started.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from flowpolicy.bench import actions

CALLS = 100_000
BUSY = "x = 1.0\nwhile True:\n    x = x * 1.0000001 % 3.0\n"


def main(arguments: list[str] | None = None) -> int:
    """Measures what is missing, writes ``results/deadlines-<device>.json`` after each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deadlines")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--beside", default="", help="what keeps a core busy, as it is recorded")
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    options = parser.parse_args(arguments)
    machine = measure.machine()
    path = options.results / f"deadlines-{machine['device']}.json"
    found: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for name, refiner in actions.REFINERS.items():
        for backend, actor in actions.actors(refiner).items():
            case = f"{name}, {backend}"
            if case in found:
                continue
            with contextlib.nullcontext() if options.beside else a_busy_core():
                found[case] = one(actor, options.calls)
            print(case, found[case], flush=True)
            measure.write(
                "deadlines",
                {
                    "benchmark": "deadlines",
                    "machine": machine,
                    "protocol": "nets of 4 x 512, observation 40, chunks of 5 x 5; wall time "
                    f"of each call, deadline {1e3 * actions.DEADLINE:g} ms, beside "
                    f"{options.beside or 'a process that computes all the time'}",
                    "results": found,
                },
                options.results,
            )
    rows = [
        (case, r["calls"], r["p50_ms"], r["p99_ms"], r["p999_ms"], r["missed"], r["first_ms"])
        for case, r in found.items()
    ]
    columns = ("refiner, back end", "calls", "p50 ms", "p99", "p99.9", "missed", "first")
    measure.show("one action beside a busy core", columns, rows)
    return 0


def one(actor: Any, calls: int) -> dict[str, Any]:
    """Percentiles over ``calls`` observations."""
    policy, first = actions.policy(actor)
    draws = np.random.default_rng(0)
    observations = iter(np.resize(draws.standard_normal((1_000, 40), np.float32), (calls, 40)))
    seconds = actions.latencies(lambda: policy.act(next(observations)), calls)
    return actions.summary(seconds) | {"first_ms": round(1e3 * first, 4)}


@contextlib.contextmanager
def a_busy_core() -> Iterator[None]:
    """A process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
