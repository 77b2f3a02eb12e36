"""What rounding the inputs of matrix products does: ``python -m benchmarks.precision``.

``mini/fmq/cube-single-task1`` with ``precision`` at float32 and at bfloat16 ("tensorfloat32" is
float32 on a CPU): losses after the same 2 000 offline updates on the same batches, milliseconds of
processor time an update, and with ``--success`` the whole run's success, whose float32 is that of
``benchmarks.demo_seeds``. ``results/precision.csv`` keeps a row a run; what is there is not run
again. ``--tiny --out A --results B`` checks the script itself.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import flowpolicy as fp
from benchmarks import comparison, measure
from flowpolicy.train.phases import Evaluation

RUN = "mini/fmq/cube-single-task1"
PRECISIONS = ("float32", "bfloat16")
LOSSES = ("critic/loss", "flow/diagonal", "flow/mean_flow")
COLUMNS = ("precision", "seed", "updates", "env_steps", *LOSSES, "cpu_ms", "success", "episodes")
UPDATES, LAST = 2_000, 500
"""Offline updates where losses are compared, and over how many of the last ones they are means."""


def main(arguments: list[str] | None = None) -> int:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--success", action="store_true", help="bfloat16's whole runs too")
    parser.add_argument("--out", type=Path, default=comparison.ROOT / "runs" / "precision")
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    path = options.results / "precision.csv"
    if options.one:
        precision, seed, whole = options.one
        row = train(precision, int(seed), options, whole=whole == "whole")
        write(path, [*read(path), row])
        return 0
    wanted = [(p, seed, "losses") for seed in options.seeds for p in PRECISIONS]
    wanted += [("bfloat16", seed, "whole") for seed in options.seeds if options.success]
    for precision, seed, part in wanted:
        if not any(_is(row, precision, seed, part) for row in read(path)):
            command = [sys.executable, "-m", "benchmarks.precision", "--one", precision, str(seed)]
            command += [part, "--out", str(options.out), "--results", str(options.results)]
            subprocess.run([*command, *["--tiny"] * options.tiny], check=True, cwd=comparison.ROOT)
    rows = [[row[c] for c in COLUMNS] for row in read(path)]
    measure.show("precision of matrix products", COLUMNS, rows)
    return 0


def train(precision: str, seed: int, options: argparse.Namespace, *, whole: bool) -> dict[str, Any]:
    """One run, and its row."""
    config = comparison.settings(RUN, seed, options.out, tiny=options.tiny)
    changes: dict[str, Any] = {"task": config.task, "phases": config.phases}
    changes["evaluation"] = config.evaluation
    if not whole:
        steps = config.phases[0].steps if options.tiny else UPDATES
        changes["phases"] = (fp.Offline(steps),)
        changes["evaluation"] = Evaluation(every=0, final_episodes=0)
    folder = comparison.fresh(options.out / f"{precision}-{seed}-{'whole' if whole else 'losses'}")
    began = time.process_time()
    run = fp.train(RUN, seeds=[seed], precision=precision, out=folder, **changes)
    taken = time.process_time() - began
    _, meta = run.load()
    lines = [line for line in run.metrics() if LOSSES[0] in line]
    late = [line for line in lines if line["updates"] > meta["updates"] - LAST]
    final = run.evaluations()[-1] if whole else None
    return {
        "precision": precision,
        "seed": seed,
        "updates": meta["updates"],
        "env_steps": sum(meta["env_steps"]),
        **{n: "" if whole else f"{np.mean([line[n] for line in late]):.6g}" for n in LOSSES},
        "cpu_ms": "" if whole else round(1e3 * taken / meta["updates"], 2),
        "success": "" if final is None else final.success,
        "episodes": "" if final is None else final.episodes,
    }


def _is(row: dict[str, str], precision: str, seed: int, part: str) -> bool:
    whole = row["success"] != ""
    return (row["precision"], row["seed"], whole) == (precision, str(seed), part == "whole")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
