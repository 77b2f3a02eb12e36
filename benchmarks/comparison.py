"""The small protocol's comparison: ``python -m benchmarks.comparison [--tasks ...] [--seeds N]``.

One process a run, one after the other, seed by seed, so that a comparison that is stopped half way
is a fair one of fewer seeds. What a finished run leaves in ``results/comparison`` (configuration,
evaluations, costs, machine, a clock; no checkpoint) is enough for ``flowpolicy report``, and a run
that is there is not run again. ``--picture [FILE]`` draws the learning curves of what is there.
``README.md`` says what the protocol is.
"""

import argparse
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

import flowpolicy as fp
from benchmarks.measure import RESULTS, machine
from flowpolicy import runs
from flowpolicy.data import ogbench
from flowpolicy.report.figures import learning_curve
from flowpolicy.report.style import png

ROOT = Path(__file__).parent.parent
METHODS = ("fmq", "mvp", "qc", "fql")
QGBS_TOO = ("fmq", "mvp")
"""Methods whose evaluations are played by QGBS as well: six columns from four runs."""
BEST_TOO = ("qam", "qam-f", "qam-e", "bam", "swfp", "decision-flow")
"""Methods that act by one sample, whose last agent is played by the best of 32 as well."""
TASKS = ("cube-single-task1", "cube-single-task2")
PICTURE = ROOT / "docs" / "images" / "comparison.png"
COMPARISON = RESULTS / "comparison"
PLACES = ("comparison", "further", "reconstructed")
"""Folders of results; a run is in one of them."""
REBUILT = ("swfp", "decision-flow")
"""What names of methods that are rebuilt from abstracts begin with; they stay out of the table."""
KEPT = ("config.json", "evaluations.csv", "costs.csv")
CLOCK = ("seed", "phase", "step", "updates", "seconds")
GUIDED = ("weights/mean", "weights/effective_share", "gfp/scale")
"""Of the log, what says whether a method's guidance did anything."""
APART = 500
"""Steps between two lines of the log that are kept."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: ``mini/<method>/<task>`` with one seed."""

    method: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"{self.method}-{self.task}-seed{self.seed}"


def main(arguments: list[str]) -> int:
    """Runs what is missing and prints the table of all that is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no run after as many")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "comparison")
    parser.add_argument("--results", type=Path, default=COMPARISON)
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    parser.add_argument(
        "--picture", type=Path, nargs="?", const=PICTURE, help="draw what is there, and no more"
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        method, task, seed = options.one
        train(Job(method, task, int(seed)), options.out, tiny=options.tiny)
        return 0
    if options.picture:
        draw([RESULTS / place / job.name for job in every(options) for place in PLACES], options)
        return 0
    if any(m.startswith(REBUILT) for m in options.methods) and options.results == COMPARISON:
        parser.error("methods rebuilt from abstracts stay out of the table; give --results")
    jobs = every(options)
    work(jobs, options, "benchmarks.comparison")
    done = [job for job in jobs if (options.results / job.name).exists()]
    print(f"{len(done)} of {len(jobs)} runs are done")
    if done:
        print(fp.compare([options.results / job.name for job in done]))
    return 0


def every(options: argparse.Namespace) -> list[Job]:
    """The runs that are asked for, seed by seed."""
    return [
        Job(method, task, seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for method in options.methods
    ]


def draw(folders: list[Path], options: argparse.Namespace) -> None:
    """Learning curves, a strip for every task, of what is there; ways of acting that were played at
    the end alone are no curves."""
    found, strips = fp.compare([folder for folder in folders if folder.exists()]), []
    for task in found.tasks:
        ways = found.curves(task).items()
        strip = learning_curve({k: v for k, v in ways if max(len(c.steps) for c in v) > 1})
        strip.suptitle(task, x=0.02, ha="left")
        strips.append(strip)
    images = [Image.open(io.BytesIO(png(strip, dpi=110))).convert("RGB") for strip in strips]
    page = Image.new("RGB", (images[0].width, sum(i.height for i in images)), "white")
    for i, image in enumerate(images):
        page.paste(image, (0, sum(other.height for other in images[:i])))
    page.save(options.picture, optimize=True)


def work(jobs: list[Job], options: argparse.Namespace, module: str) -> None:
    """Every job whose result is not there, as long as there is time to begin one.

    ``module`` makes one with ``--one METHOD TASK SEED``, in a process of its own.
    """
    open_jobs = [job for job in jobs if not (options.results / job.name).exists()]
    began, spent = time.monotonic(), []
    for i, job in enumerate(open_jobs):
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            print(f"{len(open_jobs) - i} runs are left for another time")
            return
        mean = sum(spent) / len(spent) if spent else 0.0
        left = f", about {mean * (len(open_jobs) - i) / 60:.0f} min left" if spent else ""
        print(f"{i + 1} of {len(open_jobs)}: {job.name}{left}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", module, "--out", str(options.out)]
        command += ["--one", job.method, job.task, str(job.seed)] + ["--tiny"] * options.tiny
        subprocess.run(command, check=True, cwd=ROOT)
        spent.append(time.monotonic() - start)
        keep(options.out / job.name, options.results / job.name, spent[-1])


def train(job: Job, out: Path, *, tiny: bool) -> None:
    """One run, and what its actions cost."""
    name = f"mini/{job.method}/{job.task}"
    config = settings(name, job.seed, out, tiny=tiny)
    refiners = (fp.qgbs(),) if job.method in QGBS_TOO else ()
    evaluation = dataclasses.replace(config.evaluation, refiners=refiners)
    changes = {"evaluation": evaluation, "phases": config.phases, "task": config.task}
    run = fp.train(name, seeds=[job.seed], out=fresh(out / job.name), **changes)
    # Their rows are there already; what is added is what an action costs.
    for refiner in (None, *refiners):
        fp.evaluate(run, refiner, episodes=1)
    if job.method in BEST_TOO:
        fp.evaluate(run, fp.best_of_n(32), episodes=config.evaluation.final_episodes)


def settings(name: str, seed: int, out: Path, *, tiny: bool) -> fp.RunConfig:
    """The named run's configuration with one seed; its data are collected where they are missing.

    ``tiny`` is a check: a few updates on a little data of its own.
    """
    config = dataclasses.replace(runs.get(name).config, seeds=(seed,))
    environment, rows = config.task.task.rpartition("-task")[0], config.task.rows
    file = ogbench.default_path(ogbench.dataset_of(environment), rows)
    if tiny:
        file, rows = out / "play.npz", 2_000
        little = {"every": 0, "final_episodes": 2, "side_by_side": 2}
        config = dataclasses.replace(
            config,
            phases=(fp.Offline(20), fp.Online(20, start_after=0)),
            task=dataclasses.replace(config.task, rows=0, file=str(file)),
            evaluation=dataclasses.replace(config.evaluation, **little),
        )
    if not file.exists():
        fp.collect(environment, rows, file)
    return config


def fresh(folder: Path) -> Path:
    """``folder``, without what a run left there that was stopped: a result is of one whole run."""
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def keep(folder: Path, place: Path, seconds: float) -> None:
    """Copies what a report needs; the folder appears whole or not at all."""
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in KEPT:
        shutil.copy(folder / name, part / name)
    (part / "metrics.jsonl").write_text(clock(folder / "metrics.jsonl"))
    record = {**machine(), "seconds": round(seconds, 1)}
    (part / "machine.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    part.rename(place)


def clock(path: Path) -> str:
    """Of ``metrics.jsonl`` a line every ``APART`` steps: when it was, and ``GUIDED``."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    timed = [{k: r[k] for k in (*CLOCK, *GUIDED) if k in r} for r in records if "seconds" in r]
    part = lambda r: (r["seed"], r["phase"], r["step"] // APART)  # noqa: E731
    kept = {part(record): record for record in timed}
    return "".join(json.dumps(record) + "\n" for record in kept.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
