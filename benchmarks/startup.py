"""How long a run takes to begin: ``python -m benchmarks.startup``.

The command line trains ``mini/fmq/cube-single-task1`` for a block of updates and a few steps, in a
process of its own with an empty cache of compiled programs, and again with the cache it left. What
is compiled and for how long is what the run itself says of three large programs (tracing and first
call among it), and what JAX's log says of all programs, evaluations and the smallest among them
(XLA alone, or finding them in the cache). The rest is starting Python and JAX, data, simulating.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import flowpolicy as fp
from benchmarks import measure

RUN, ROWS = "mini/fmq/cube-single-task1", 2_000
LIMITS = {"first": 20.0, "second": 5.0}


def main() -> None:
    """Measures, prints, writes ``results/startup-<device>.json``."""
    machine = measure.machine()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "play.npz"
        fp.collect("cube-single", ROWS, file, episode_steps=200)
        results = {name: start(Path(folder), file, name) for name in ("first", "second")}
    lines = [
        measure.wanted(
            f"{name} start: compiling, s", results[name]["compiling"], limit, at_most=True
        )
        for name, limit in LIMITS.items()
    ]
    path = measure.write(
        "startup",
        {
            "benchmark": "startup",
            "machine": machine,
            "protocol": f"{RUN}: 100 updates, 20 environment steps, one episode after each phase",
            "results": results,
            "wanted": lines,
        },
    )
    for name, found in results.items():
        print(name, found)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def start(folder: Path, file: Path, name: str) -> dict[str, Any]:
    """Seconds in all, and of what was compiled."""
    command = [sys.executable, "-m", "flowpolicy", "train", RUN, "--out", str(folder / name)]
    command += ["--task", f"ogbench(task='cube-single-task1', file='{file}')"]
    command += ["--phases", "(offline(steps=100), online(env_steps=20, start_after=0))"]
    command += ["--evaluation", "evaluation(every=0, final_episodes=1, side_by_side=1)"]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_LOG_COMPILES": "1",
    }
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    told = re.findall(r"compiling (.+?) took ([\d.]+) s", done.stderr)
    logged = re.findall(r"Finished XLA compilation of .+? in ([\d.]+) sec", done.stderr)
    return {
        "seconds": round(seconds, 1),
        "xla": {"programs": len(logged), "seconds": round(sum(map(float, logged)), 1)},
        "compiling": round(sum(float(s) for _, s in told), 1),
        "programs": {what: float(s) for what, s in told},
    }


if __name__ == "__main__":
    main()
