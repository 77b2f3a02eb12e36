"""FMQ's controls and its radii: ``python -m benchmarks.controls [--seeds N] [--tasks ...]``.

``mini/fmq-...`` differ from ``mini/fmq`` online alone. So the offline phase is trained once a seed,
and every control begins online from its last checkpoint, ``mini/fmq`` itself among them: what is
compared has the same past to the bit. Everything else is as in ``benchmarks.comparison``, whose
functions are used: one process a run, seed by seed, what is there is not run again, and
``results/controls`` holds what ``flowpolicy report`` needs.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import flowpolicy as fp
from benchmarks import comparison
from benchmarks.comparison import Job
from benchmarks.measure import RESULTS
from flowpolicy.agents import FMQ
from flowpolicy.api import versions
from flowpolicy.errors import InvalidConfig
from flowpolicy.runs.methods import ETAS
from flowpolicy.train import attempts
from flowpolicy.train.folder import Trained

METHODS = (
    "fmq", "fmq-single", "fmq-no-gradient", "fmq-direct", "fmq-keep-cloning", "fmq-adaptive-eta",
    *(f"fmq-eta-{eta}" for eta in ETAS),
)  # fmt: skip
"""``fmq-fixed-eta`` is not among them: under ``mini`` it is ``fmq``."""
ONLINE_ALONE = ("act", "eta", "beta", "improve", "keep_offline_loss")
"""Fields of FMQ that its offline updates do not read."""


def main(arguments: list[str]) -> int:
    """Runs what is missing and prints the table of all that is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controls")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--tasks", nargs="+", default=["cube-single-task1"])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no run after as many")
    parser.add_argument("--out", type=Path, default=comparison.ROOT / "runs" / "controls")
    parser.add_argument("--results", type=Path, default=RESULTS / "controls")
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        method, task, seed = options.one
        train(Job(method, task, int(seed)), options.out, tiny=options.tiny)
        return 0
    jobs = [
        Job(method, task, seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for method in options.methods
    ]
    comparison.work(jobs, options, "benchmarks.controls")
    done = [job for job in jobs if (options.results / job.name).exists()]
    print(f"{len(done)} of {len(jobs)} runs are done")
    if done:
        print(fp.compare([options.results / job.name for job in done]))
    return 0


def train(job: Job, out: Path, *, tiny: bool) -> None:
    """One control's online phase from the shared checkpoint, and what its actions cost."""
    name = f"mini/{job.method}/{job.task}"
    config = comparison.settings(name, job.seed, out, tiny=tiny)
    offline = shared(job, out, tiny=tiny)
    check(job.method, config.agent, offline.config().agent)
    start, _ = offline.load()
    start = Trained(dataclasses.replace(start.agents, config=config.agent), start.normaliser)
    config = dataclasses.replace(config, phases=config.phases[1:])
    record = {"run": name, "from": offline.path.name, "versions": versions()}
    folder = comparison.fresh(out / job.name)
    rows = config.task.dataset()
    run = attempts.run(config, config.task, rows, folder, record=record, start=start)
    fp.evaluate(run, episodes=1)  # its row is there already; the cost is added
    # What the policy itself has learned, without the ranking.
    fp.evaluate(run, fp.one_step(), episodes=2 if tiny else config.evaluation.final_episodes)


def shared(job: Job, out: Path, *, tiny: bool) -> fp.Run:
    """The offline phase of ``mini/fmq`` on the job's task and seed, trained if it is not there."""
    config = comparison.settings(f"mini/fmq/{job.task}", job.seed, out, tiny=tiny)
    folder = out / f"offline-{job.task}-seed{job.seed}"
    run = fp.Run(folder)
    if any(row.step == config.offline_updates for row in run.evaluations()):
        return run  # the evaluation at the end comes after the last checkpoint
    return fp.train(config, phases=config.phases[:1], out=comparison.fresh(folder))


def check(method: str, control: FMQ, base: FMQ) -> None:
    """Raises ``InvalidConfig`` where a control would have had another offline phase."""
    same = {field: getattr(base, field) for field in ONLINE_ALONE}
    if dataclasses.replace(control, **same) != base:
        raise InvalidConfig(f"{method} differs from fmq offline too; use benchmarks.comparison")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
