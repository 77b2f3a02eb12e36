"""What training costs, method by method: ``python -m benchmarks.pace`` on a quiet machine.

Each method of the comparison trains for a short while as ``mini/<method>/cube-single-task1``, one
process after the other, without evaluations. ``results/pace-<device>.json`` holds the seconds of an
offline update and of an environment step with its update, and where a tick's time goes.

``--table`` makes seconds of the steps that ``benchmarks.comparison`` recorded: those of the offline
phase and of the environment steps until a success rate is first reached. The comparison may so be
run on a busy machine, in any order; compiling is left out.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import flowpolicy as fp
from benchmarks import comparison, measure
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.thresholds import Passage
from flowpolicy.train.phases import Evaluation

TASK, THRESHOLDS = "cube-single-task1", (0.5,)
SHARES = ("environment", "policy", "updates", "rest")
COLUMNS = ("task", "method", "success", "reached", "steps", "seconds", "seconds_offline")


class Size(NamedTuple):
    """Updates offline; environment steps that warm up, and that are timed; updates of a block."""

    offline: int = 2_100
    warm: int = 200
    online: int = 2_000
    block: int = 100


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes, or makes the table of what was recorded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace")
    parser.add_argument("--methods", nargs="+", default=list(comparison.METHODS))
    parser.add_argument("--table", action="store_true", help="seconds of the recorded comparison")
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        method, folder = options.one
        found = train(method, Path(folder), tiny=options.tiny)
        (Path(folder) / f"{method}.json").write_text(json.dumps(found))
    elif options.table:
        table(options.results)
    else:
        record(options.methods, options.results, tiny=options.tiny)
    return 0


def record(methods: list[str], results: Path, *, tiny: bool) -> None:
    """One process a method, one after the other."""
    machine, found = measure.machine(), {}
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            print(f"{method} ...", flush=True)
            command = [sys.executable, "-m", "benchmarks.pace", "--one", method, folder]
            subprocess.run([*command, *["--tiny"] * tiny], check=True, cwd=comparison.ROOT)
            found[method] = json.loads((Path(folder) / f"{method}.json").read_text())
    content = {
        "benchmark": "pace",
        "machine": machine,
        "protocol": f"mini/<method>/{TASK}, seed 0, no evaluations: seconds between two lines of "
        "the log, the first left out; shares are of the timed online phase, whose policy "
        "comes from the compilation cache; " + str(_size(tiny)),
        "results": found,
    }
    path = measure.write("pace", content, results)
    rows = [
        (m, *(f"{1e3 * r[k]['median']:.2f}" for k in ("offline_update", "online_step")), r["chunk"],
         *(f"{100 * r['shares'][s]:.0f} %" for s in SHARES))
        for m, r in found.items()
    ]  # fmt: skip
    columns = ("method", "ms offline update", "ms online step", "steps a tick", *SHARES)
    measure.show("pace", columns, rows)
    print(f"written: {path.name}")


def train(method: str, folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Seconds of an offline update and of an online step (least, median, most over blocks)."""
    measure.cache_programs(folder / "compiled")  # each online phase compiles its policy
    name, size = f"mini/{method}/{TASK}", _size(tiny)
    config = comparison.settings(name, 0, folder, tiny=tiny)
    online = [fp.Online(steps, start_after=0) for steps in (size.warm, size.online)]
    run = fp.train(
        name,
        task=config.task,
        phases=[fp.Offline(size.offline), *online],
        block=size.block,
        evaluation=Evaluation(every=0, final_episodes=0),
        checkpoint_every=10**9,
        out=folder / method,
    )
    lines = run.metrics()
    stamps = [(r["phase"], r["step"], r["seconds"]) for r in lines if "seconds" in r]
    shares = [line for line in lines if "time/rest" in line][-1]
    offline = [stamp for stamp in stamps if stamp[0] == "offline"]
    timed = [stamp for stamp in stamps if stamp[0] == "online" and stamp[1] > size.warm]
    return {
        "offline_update": _pace(offline),
        "online_step": _pace(timed),
        "chunk": config.agent.view.chunk,
        "shares": {part: round(shares[f"time/{part}"], 4) for part in SHARES},
    }


def _size(tiny: bool) -> Size:
    return Size(40, 40, 80, 10) if tiny else Size()


def _pace(stamps: list[tuple[str, int, float]]) -> dict[str, float]:
    steps, seconds = (np.diff([stamp[i] for stamp in stamps]) for i in (1, 2))
    each = seconds / steps
    return {
        "min": round(float(each.min()), 6),
        "median": round(float(np.median(each)), 6),
        "max": round(float(each.max()), 6),
    }


def table(results: Path) -> None:
    """Prints, and writes ``comparison_seconds.csv``: steps and seconds, censored where never."""
    paths = sorted(results.glob("pace-*.json"))
    if len(paths) != 1:
        raise SystemExit(f"there must be one pace-<device>.json in {results}, not {len(paths)}")
    found = json.loads(paths[0].read_text())
    folders = [p for p in sorted((results / "comparison").iterdir()) if p.is_dir()]
    rows = seconds(fp.compare(folders), found["results"])
    with (results / "comparison_seconds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    measure.show(f"seconds on {found['machine']['cpu']}", COLUMNS, rows)


def seconds(compared: Comparison, pace: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of ``COLUMNS``; medians over seeds, and "not within" where fewer than half got there."""
    rows = []
    for row in compared.waiting(THRESHOLDS):
        cell = compared.cell(row.method, row.task)
        method = cell.base.rpartition("/")[2] if cell else ""
        if cell is None or method not in pace:
            continue
        phases = cell.runs[0].settings["phases"]
        updates = sum(phase.get("steps", 0) for phase in phases)
        offline = updates * pace[method]["offline_update"]["median"]
        step = pace[method]["online_step"]["median"]
        times = Passage(
            tuple(offline + s * step for s in row.steps.steps), offline + row.steps.end * step
        )
        reached = f"{times.reached} of {len(times.steps)}"
        cells = (_told(passage) for passage in (row.steps, times))
        rows.append((row.task, row.method, row.threshold, reached, *cells, round(offline, 1)))
    return rows


def _told(passage: Passage) -> int | str:
    return round(passage.median) if math.isfinite(passage.median) else passage.text


if __name__ == "__main__":
    sys.exit(main())
