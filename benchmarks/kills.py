"""SIGKILL at random times: ``python -m benchmarks.kills [--problems toy mini] [--runs N]``.

Every run is begun in a process of its own, killed a random time after its first line of progress,
resumed with ``flowpolicy resume``, killed again, and after its last kill left to finish. Its end is
compared with that of a run that nobody killed. What is finished is kept in the folder of the runs
and not done again, so that this may be stopped and continued.
"""

import argparse
import dataclasses
import importlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flowpolicy as fp
from benchmarks import measure
from flowpolicy.train import checkpoint, durable
from flowpolicy.train.phases import Evaluation

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "train"))
fingerprint_of = importlib.import_module("whole_state").fingerprint_of
"""What the tests call the state of a run."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A run to kill: its name and settings, how many times, within how many seconds."""

    run: str
    settings: dict[str, Any]
    runs: int
    kills: int
    seconds: float


PROBLEMS = {
    "toy": Problem(
        "toy/fmq",
        {
            "phases": (fp.Offline(4_000), fp.Online(4_000, start_after=100)),
            "evaluation": Evaluation(every=1_000, episodes=5, final_episodes=10),
            "capacity": 1_500,
            "checkpoint_every": 250,
            "block": 50,
        },
        runs=10,
        kills=10,
        seconds=3.0,
    ),
    "mini": Problem(
        "mini/fmq/cube-single-task1",
        {
            "phases": (fp.Offline(200), fp.Online(600, start_after=50)),
            "evaluation": Evaluation(every=300, episodes=2, final_episodes=2, side_by_side=2),
            "capacity": 400,
            "checkpoint_every": 50,
            "block": 25,
        },
        runs=3,
        kills=5,
        seconds=8.0,
    ),
}


def main(arguments: list[str]) -> int:
    """Kills, compares, prints, writes ``results/kills.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--runs", type=int, help="how many of each; as planned where not given")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "kills")
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--begin", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.begin:
        problem, out = options.begin
        fp.train(PROBLEMS[problem].run, out=out, **PROBLEMS[problem].settings)
        return 0
    for name in options.problems:
        _measure(name, options.runs or PROBLEMS[name].runs, options.out, options.results)
    _show(json.loads((options.results / "kills.json").read_text()))
    return 0


def _measure(name: str, runs: int, out: Path, results: Path) -> None:
    """Whatever is missing of a problem's runs; each is added to the results once it is there."""
    problem, path = PROBLEMS[name], results / "kills.json"
    found: dict[str, Any] = {"benchmark": "kills"}
    if path.exists():
        found = json.loads(path.read_text())
    mine = found.setdefault(name, {"machine": measure.machine(), **_plan(problem), "runs": []})
    if len(mine["runs"]) >= runs:
        return
    whole = out / name / "whole"
    while not _finished(whole):
        _go_on(name, whole).wait()
    wanted = fingerprint_of(fp.Run(whole))
    while len(mine["runs"]) < runs:
        number = len(mine["runs"])
        mine["runs"].append(_one(name, number, out / name / f"{number}", wanted))
        durable.write(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
        print(f"{name} {number}: {mine['runs'][-1]}", flush=True)


def _plan(problem: Problem) -> dict[str, Any]:
    return {
        "run": problem.run,
        "checkpoint_every": problem.settings["checkpoint_every"],
        "seconds_after_progress": problem.seconds,
    }


def _finished(out: Path) -> bool:
    return out.is_dir() and fp.Run(out).status().get("state") == "finished"


def _go_on(name: str, out: Path) -> "subprocess.Popen[bytes]":
    """A process that begins the run, or resumes it."""
    if (out / "config.json").exists():
        code = "import sys; from flowpolicy.cli.main import main; sys.exit(main(sys.argv[1:]))"
        words = [sys.executable, "-c", code, "resume", str(out), "--quiet"]
    else:
        words = [sys.executable, "-m", "benchmarks.kills", "--begin", name, str(out)]
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True)


def _one(name: str, number: int, out: Path, wanted: str) -> dict[str, Any]:
    """One run, from its beginning to its end, with its kills."""
    shutil.rmtree(out, ignore_errors=True)
    problem, lost, started, failed = PROBLEMS[name], [], time.perf_counter(), 0
    for kill in range(problem.kills):
        wait = random.Random(f"{name} {number} {kill}").uniform(0.0, problem.seconds)
        if not _killed(_go_on(name, out), out, wait):
            break
        lost.append(_lost(fp.Run(out)))
    while not _finished(out) and failed < 3:
        failed += _go_on(name, out).wait() != 0
    same = _finished(out) and fingerprint_of(fp.Run(out)) == wanted
    if same:
        shutil.rmtree(out)
    return {
        "kills": len(lost),
        "recovered": _finished(out) or same,
        "same": same,
        "lost_updates": lost,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _killed(process: "subprocess.Popen[bytes]", out: Path, wait: float) -> bool:
    """SIGKILL ``wait`` seconds after the process made progress; False where it ended before."""
    last = _told(out)
    while process.poll() is None and (now := _told(out)) <= last:
        last = now  # resuming cuts the log before it grows again
        time.sleep(0.02)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _told(out: Path) -> int:
    """Bytes of progress that a run told."""
    path = out / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


def _lost(run: fp.Run) -> int:
    """Updates that were made, as far as the log tells, and are not in the newest checkpoint."""
    text = (run.path / "metrics.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()  # the last line may be half written
    made = max((json.loads(line).get("updates", 0) for line in whole), default=0)
    kept = [checkpoint.read(p).meta["updates"] for p in checkpoint.checkpoints(run.checkpoints)]
    return made - max(kept, default=0)


def _show(found: dict[str, Any]) -> None:
    rows = []
    for name, one in found.items():
        if name == "benchmark":
            continue
        runs, every = one["runs"], one["checkpoint_every"]
        lost = max((n for run in runs for n in run["lost_updates"]), default=0)
        rows.append(
            (
                f"{name} ({one['run']})",
                len(runs),
                sum(run["kills"] for run in runs),
                sum(not run["same"] for run in runs),
                sum(not run["recovered"] for run in runs),
                f"{lost} of {every}",
                f"{sum(run['seconds'] for run in runs) / 60:.0f}",
            )
        )
    columns = ("problem", "runs", "kills", "different", "unrecoverable", "lost updates", "minutes")
    measure.show("SIGKILL at random times", columns, rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
