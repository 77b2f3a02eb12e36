"""Where the online loop's wall time goes: environment, policy, updates, rest.

``python -m benchmarks loop``. A short run of ``mini/fmq/cube-single-task1`` on a little play data
collected on the spot; the shares are those the run writes into its own ``metrics.jsonl``.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax

import flowpolicy as fp
from benchmarks import measure
from flowpolicy.train.phases import Evaluation

RUN, ENVIRONMENT, ROWS = "mini/fmq/cube-single-task1", "cube-single", 2_000
WARM, STEPS, PARTS = 100, 1_000, ("environment", "policy", "updates", "rest")
REPEATS = 3
LIMIT = 0.05


def main() -> None:
    """Measures, prints, writes ``results/loop-<device>.json``."""
    machine = measure.machine()
    with tempfile.TemporaryDirectory() as folder:
        shares = _shares(Path(folder))
    results = {
        part: {
            "min": min(values),
            "median": sorted(values)[len(values) // 2],
            "max": max(values),
        }
        for part in (*PARTS, "seconds")
        for values in [[round(line[f"time/{part}"], 4) for line in shares]]
    }
    lines = [measure.wanted("rest", results["rest"]["median"], LIMIT, at_most=True)]
    path = measure.write(
        "loop",
        {
            "benchmark": "loop",
            "machine": machine,
            "protocol": f"{RUN} on {ROWS} rows: {WARM} online steps to compile, then {REPEATS} "
            f"phases of {STEPS} steps, each with its own shares; seconds are of a phase; updates "
            "counts the waiting for them, not what runs while the environment steps",
            "results": results,
            "wanted": lines,
        },
    )
    rows = [
        (part, f"{100 * r['median']:.1f} %", f"{100 * r['min']:.1f} - {100 * r['max']:.1f} %")
        for part, r in results.items()
        if part != "seconds"
    ]
    title = f"online loop, {results['seconds']['median']:.0f} s for {STEPS} steps"
    measure.show(title, ("part", "share", "range"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _shares(folder: Path) -> list[dict[str, Any]]:
    # Every phase compiles its collecting policy; found in a cache, that takes no time.
    measure.cache_programs(folder / "compiled")
    file = folder / "play.npz"
    fp.collect(ENVIRONMENT, ROWS, file, episode_steps=200)
    run = fp.train(
        RUN,
        task=fp.OGBench("cube-single-task1", file=str(file)),
        phases=[
            fp.Offline(20),
            fp.Online(WARM, start_after=0),
            *[fp.Online(STEPS, start_after=0)] * REPEATS,
        ],
        evaluation=Evaluation(every=0, final_episodes=0),
        checkpoint_every=1_000_000,
        out=folder / "run",
    )
    jax.config.update("jax_compilation_cache_dir", None)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "time/rest" in line and line["phase"] == "online"][1:]


if __name__ == "__main__":
    main()
