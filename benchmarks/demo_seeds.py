"""The demo's protocol over seeds: ``python -m benchmarks.demo_seeds [SEED ...]``.

Each seed is a process of its own, one after the other. A seed whose result is in the CSV, or
whose run is finished, is not run again. ``README.md`` says what the protocol is.
"""

import argparse
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import flowpolicy as fp
from benchmarks.measure import RESULTS
from flowpolicy import runs
from flowpolicy.data import ogbench
from flowpolicy.train.folder import OWN
from flowpolicy.train.phases import Evaluation

RUN, ENVIRONMENT = "mini/fmq/cube-single-task1", "cube-single"
ROOT = Path(__file__).parent.parent
COLUMNS = (
    "seed", "after_offline", "after_online", "episodes", "seconds_offline", "seconds_online",
    "seconds_evaluating", "seconds",
)  # fmt: skip
TINY = {
    "phases": [fp.Offline(20), fp.Online(20, start_after=0)],
    "evaluation": Evaluation(every=0, final_episodes=2, side_by_side=2),
}


def main(arguments: list[str]) -> int:
    """Runs what is missing, writes the CSV, prints the means."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_seeds")
    parser.add_argument("seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "demo-seeds")
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        train(options.seeds[0], options.out, tiny=options.tiny)
        return 0
    table = (options.out if options.tiny else RESULTS) / "demo_seeds.csv"
    rows = read(table)
    for seed in options.seeds:
        if seed not in rows:
            rows[seed] = finished(options.out, seed) or run(seed, options.out, tiny=options.tiny)
            write(table, rows)
        print(", ".join(f"{k} {rows[seed][k]}" for k in COLUMNS), flush=True)
    for column in ("after_offline", "after_online"):
        values = [float(rows[seed][column]) for seed in options.seeds]
        print(f"mean success {column} over {len(values)} seeds: {sum(values) / len(values):.3f}")
    return 0


def run(seed: int, out: Path, *, tiny: bool) -> dict[str, Any]:
    """Trains one seed in a process of its own and returns its row."""
    command = [sys.executable, "-m", "benchmarks.demo_seeds", str(seed), "--out", str(out), "--one"]
    subprocess.run(command + ["--tiny"] * tiny, check=True, cwd=ROOT)
    row = finished(out, seed)
    if row is None:
        raise RuntimeError(f"seed {seed} left no final evaluations")
    return row


def train(seed: int, out: Path, *, tiny: bool) -> None:
    """The demo's run for one seed; its data are collected where they are missing."""
    task, changes = runs.get(RUN).config.task, {}
    file, rows = ogbench.default_path(ogbench.dataset_of(ENVIRONMENT), task.rows), task.rows
    if tiny:
        file, rows = out / "play.npz", 2_000
        changes = {**TINY, "task": dataclasses.replace(task, rows=0, file=str(file))}
    if not file.exists():
        fp.collect(ENVIRONMENT, rows, file)
    folder = out / f"seed-{seed}"
    if folder.exists():
        shutil.rmtree(folder)  # stopped half way; a result is of one uninterrupted run
    fp.train(RUN, seeds=[seed], out=folder, **changes)


def finished(out: Path, seed: int) -> dict[str, Any] | None:
    """The row of a run whose final evaluations are there; ``None`` otherwise.

    Seconds are from the learner's start; offline and online are training, compiling included.
    """
    folder = out / f"seed-{seed}"
    try:
        with open(folder / "evaluations.csv", newline="") as file:
            evaluations = [row for row in csv.DictReader(file) if row["refiner"] == OWN]
        text = (folder / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return None
    lines = [json.loads(line) for line in text.splitlines()]
    offline, online = fp.Run(folder).config().phases
    last = {("offline", offline.steps): None, ("online", online.env_steps): None}
    for row in evaluations:
        if (row["phase"], int(row["step"])) in last:
            last[row["phase"], int(row["step"])] = row
    if None in last.values():
        return None
    before, after = last.values()
    clock = {p: _clock(lines, p) for p in ("offline", "online")}
    spent = {p: _evaluating(evaluations, p) for p in ("offline", "online")}
    final = {p: float(row["seconds"]) for p, row in zip(clock, (before, after), strict=True)}
    parts = {
        "seconds_offline": clock["offline"] - (spent["offline"] - final["offline"]),
        "seconds_online": clock["online"] - clock["offline"] - final["offline"]
        - (spent["online"] - final["online"]),
        "seconds_evaluating": sum(spent.values()),
        "seconds": clock["online"] + final["online"],
    }  # fmt: skip
    return {
        "seed": seed,
        "after_offline": before["success"],
        "after_online": after["success"],
        "episodes": after["episodes"],
        **{k: round(v, 1) for k, v in parts.items()},
    }


def _clock(lines: list[dict[str, Any]], phase: str) -> float:
    return max(line["seconds"] for line in lines if line["phase"] == phase and "seconds" in line)


def _evaluating(evaluations: list[dict[str, str]], phase: str) -> float:
    return sum(float(row["seconds"]) for row in evaluations if row["phase"] == phase)


def read(table: Path) -> dict[int, dict[str, Any]]:
    """The rows that are there, by seed."""
    if not table.exists():
        return {}
    with open(table, newline="") as file:
        return {int(row["seed"]): row for row in csv.DictReader(file)}


def write(table: Path, rows: dict[int, dict[str, Any]]) -> None:
    """All rows, by seed."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[seed] for seed in sorted(rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
