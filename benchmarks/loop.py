"""Where the online loop's wall time goes: environment, policy, updates, rest.

``python -m benchmarks loop``. A short run of ``mini/fmq/cube-single-task1`` on a little play data
collected on the spot; the shares are those the run writes into its own ``metrics.jsonl``.
"""

import tempfile
from pathlib import Path

from benchmarks import measure
from flowpolicy.bench import loop as bench_loop
from flowpolicy.bench.loop import ROWS, RUN, WARM

STEPS, REPEATS, PARTS = 1_000, 3, bench_loop.SHARES
LIMIT = 0.05


def main() -> None:
    """Measures, prints, writes ``results/loop-<device>.json``."""
    machine = measure.machine()
    with tempfile.TemporaryDirectory() as folder:
        shares = bench_loop.shares(Path(folder), steps=STEPS, repeats=REPEATS)
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


if __name__ == "__main__":
    main()
