"""A named run of every family of tasks, trained for a few hundred steps offline and online.

``python -m benchmarks.families [NAME ...]``; robomimic and minari need the extras of these names.
So short a run learns nothing: it shows that a family's data, environments, training, adaption and
evaluation fit together. ``results/families/<name>/`` keeps ``config.json``,
``evaluations.csv``, what the run told (``log.txt``), and what it took (``machine.json``).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import flowpolicy as fp
from benchmarks import measure
from flowpolicy import runs
from flowpolicy.data.collect import collect
from flowpolicy.data.npz import write_npz
from flowpolicy.envs.toy import point_mass_data
from flowpolicy.nets import MLPCritic, MLPFlow, MLPGaussian
from flowpolicy.refine import BestOfN
from flowpolicy.train.console import ConsoleWatch
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.task import Task

OFFLINE, ONLINE, ROWS = 300, 200, 2_000
KEPT = ("config.json", "evaluations.csv")
SETTINGS = {
    "batch": 64,
    "block": 50,
    "evaluation": Evaluation(every=0, final_episodes=4, episodes=4, side_by_side=4),
    "critic": MLPCritic(width=64, depth=2),
}
FLOW = {
    "phases": (fp.Offline(OFFLINE), fp.Online(ONLINE, start_after=50)),
    "actor": MLPFlow(width=64, depth=2),
    "bootstrap": BestOfN(4),
}
GAUSSIAN = {
    "phases": (fp.Online(OFFLINE + ONLINE, start_after=100, random_steps=100),),
    "actor": MLPGaussian(width=64, depth=2),
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A family: a named run, and in its task's place one whose data are made here, where not None.

    Files lie in the folder that is the working one, so that no record names a place.
    """

    run: str
    task: Callable[[], Task] | None
    changes: dict[str, Any] = dataclasses.field(default_factory=lambda: FLOW)


def _collected(task: str) -> Callable[[], Task]:
    environment = task.partition("-task")[0]

    def make() -> Task:
        collect(environment, ROWS, f"{environment}.npz", workers=1)
        return runs.OGBench(task, file=f"{environment}.npz")

    return make


def _can() -> Task:
    from flowpolicy.runs.demonstrations import demonstrate

    demonstrate("can", 500, "can.hdf5", workers=1)
    return runs.RoboMimic("can", "scripted", file="can.hdf5")


def _minari() -> Task:
    """Random actions, in a set made by Minari itself; the reference returns are made up."""
    import gymnasium
    import minari

    os.environ["MINARI_DATASETS_PATH"] = os.getcwd()
    env = minari.DataCollector(gymnasium.make("InvertedPendulum-v5"))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(ROWS):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.create_dataset(
        dataset_id="local/inverted-pendulum-v0", ref_min_score=5.0, ref_max_score=1000.0,
        algorithm_name="random", author="flowpolicy", author_email="none", code_permalink="none",
        description="random actions",
    )  # fmt: skip
    return runs.Minari("local/inverted-pendulum-v0")


def _own() -> Task:
    """Two files in a folder, one after the other."""
    Path("own").mkdir()
    for seed in range(2):
        made = point_mass_data(ROWS, seed)
        write_npz(Path("own") / f"{seed}.npz", {
            "observations": made["obs"], "actions": made["action"], "rewards": made["reward"],
            "terminals": made["terminated"] | made["truncated"],
            "masks": (~made["terminated"]).astype(np.float32),
        })  # fmt: skip
    return runs.OwnData("own", rotate=100, world=runs.PointMassTask())


FAMILIES = {
    "ogbench-cube": Part("mini/fmq/cube-single-task1", _collected("cube-single-task1")),
    "ogbench-scene": Part("mini/fmq/scene-task1", _collected("scene-task1")),
    "ogbench-pointmaze": Part(
        "mini/fmq/pointmaze-medium-task1", _collected("pointmaze-medium-task1")
    ),
    "robomimic": Part("mini/fmq/robomimic-can", _can),
    "minari": Part("mini/fmq/cube-single-task1", _minari),
    "gymnasium": Part("mini/rlpd/InvertedPendulum-v5", None, GAUSSIAN),
    "own-data": Part("toy/fmq", _own),
}


def trained(name: str, results: Path) -> dict[str, Any]:
    """Makes the data, trains, keeps what is told; CPU seconds of this process and its children."""
    part, used, began = FAMILIES[name], sum(os.times()[:4]), time.perf_counter()
    kept = results / name
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        changes = {**SETTINGS, **part.changes}
        if part.task is not None:
            changes["task"] = part.task()
        with open("log.txt", "w") as log:
            watch = ConsoleWatch(Console(file=log, width=120))
            run = fp.train(part.run, out=Path("run"), watch=watch, **changes)
        rows = run.evaluations()
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for file in (*(run.path / file for file in KEPT), Path("log.txt")):
            shutil.copy(file, kept)
    took = {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(sum(os.times()[:4]) - used, 1),
    }
    about = {"run": part.run, **took, "machine": measure.machine()}
    (kept / "machine.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")
    return {"rows": rows, **took}


def main(names: list[str], results: Path) -> None:
    """Trains those named, or all, and prints their evaluations."""
    lines = []
    for name in names or FAMILIES:
        found = trained(name, results)
        lines += [
            (name, r.phase, r.step, r.success, round(r.returns, 2), r.score, found["cpu_seconds"])
            for r in found["rows"]
        ]
        print(f"{name}: {found['cpu_seconds']} s of CPU", flush=True)
    columns = ("family", "phase", "step", "success", "return", "score", "CPU s")
    measure.show("a few hundred steps each", columns, lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--results", type=Path, default=measure.RESULTS / "families")
    chosen = parser.parse_args()
    for given in chosen.names:
        if given not in FAMILIES:
            parser.error(f"no family {given!r}; there are {', '.join(FAMILIES)}")
    main(chosen.names, chosen.results.resolve())
