"""The evaluations of FPMD's small runs beside SAC's: ``-m benchmarks.yardsticks.fpmd RUN ...``.

Writes ``results/yardstick_fpmd.csv`` from run folders and prints both tables as one.
"""

import argparse
import csv
import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, show
from flowpolicy.train.folder import RunFolder

COLUMNS = ("method", "environment", "seed", "step", "episodes", "return")


def main(arguments: list[str] | None = None) -> None:
    """Reads, writes, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yardsticks.fpmd")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    ours, theirs = (options.results / f"yardstick_{name}.csv" for name in ("fpmd", "sac"))
    if options.runs:
        rows = [row for folder in options.runs for row in evaluations(folder)]
        with ours.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    shown = [row for path in (ours, theirs) if path.exists() for row in read(path)]
    show("mean return", COLUMNS, sorted(shown, key=lambda row: (row[1], int(row[3]), row[0])))


def evaluations(folder: Path) -> list[tuple[Any, ...]]:
    """A row for each evaluation of a run."""
    run = RunFolder(folder)
    method = "fpmd-m" if run.config().agent.steps == 1 else "fpmd-r"
    told = [dataclasses.asdict(row) for row in run.evaluations()]
    environment = run.config().task.name
    return [
        (method, environment, row["seed"], row["step"], row["episodes"], round(row["returns"], 2))
        for row in told
    ]


def read(path: Path) -> list[tuple[str, ...]]:
    """The rows of a table, their first columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(row[column] for column in COLUMNS) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
