"""Run folders as a trainer leaves them, small and made up."""

import csv
import json

import numpy as np
import pytest

from flowpolicy.report.runfiles import COLUMNS

RATES = (0.0, 0.25, 0.5, 0.75, 0.8)
SETTINGS = {
    "part": "run",
    "agent": {"part": "fmq", "eta": 0.3, "act": {"part": "best_of_n", "n": 32}},
    "task": {"part": "ogbench", "env": "cube-single"},
    "phases": [{"part": "offline", "steps": 400}, {"part": "online", "env_steps": 500}],
}
CONFIG = {
    "format": 1,
    "spec": {"part": "spec", "obs": [28], "action": 5},
    "run": "fmq/cube-single-task1",
    "task": "cube-single-play-singletask-task1-v0",
    "versions": {"jax": "0.10.2", "ogbench": "1.2.2"},
    "commit": "0123abc",
    "command": "flowpolicy train fmq/cube-single-task1 --seeds 0",
}


def evaluation_rows(seeds, refiner="best_of_n(n=32)"):
    rows = []
    for seed in seeds:
        rows.append([seed, "offline", 400, refiner, 50, 0.02, -190.5, 190.0, 2.5])
        for i, rate in enumerate(RATES):
            rows.append([seed, "online", 100 * (i + 1), refiner, 20, rate, -100.0, 120.0, 1.5])
    return rows


def write_evaluations(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def metric_records(seeds):
    records = []
    for seed in seeds:
        for phase, names in (
            ("offline", ("critic/loss", "flow/diagonal")),
            ("online", ("critic/loss", "actor/eta_eff", "actor/u_off_r0", "actor/u_off_r1")),
        ):
            for step in range(0, 400, 100):
                values = {name: 1.0 / (1 + step + i) for i, name in enumerate(names)}
                head = {"seed": seed, "phase": phase, "step": step, "updates": step}
                records.append({**head, "seconds": 0.1 * step, **values})
        ends = {"seed": seed, "phase": "online"}
        for episode in range(4):
            steps = 90 * (episode + 1) + seed
            line = {"env_steps": steps, "episode": episode, "episode/success": episode % 2}
            records.append({**ends, **line})
    records.append({"phase": "online", "step": 500, "time/rest": 0.25})
    return records


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder: ``make_run(seeds, rows=..., logged=..., **config)``."""

    def make(seeds=(0,), *, rows=None, logged=False, **config):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        resolved = {**CONFIG, "config": {**SETTINGS, "seeds": list(seeds)}, **config}
        (folder / "config.json").write_text(json.dumps(resolved))
        lines = [json.dumps(record) + "\n" for record in metric_records(seeds) if logged]
        (folder / "metrics.jsonl").write_text("".join(lines))
        write_evaluations(
            folder / "evaluations.csv", evaluation_rows(seeds) if rows is None else rows
        )
        return folder

    return make


def write_run(folder, run, curves, *, refiners=None, settings=None, episodes=20, **config):
    """A run folder ``folder`` of the named run ``run`` on an OGBench task, by its last part.

    curves:   seed -> success at the online steps 100, 200, ...; the last one is the end
    refiners: text -> the same, of another way of acting
    settings: fields of the run's settings; config: fields of config.json
    """
    task = run.rpartition("/")[2]
    length = max(len(rates) for rates in curves.values())
    resolved = {
        **CONFIG,
        "run": run,
        "task": task,
        "config": {
            **SETTINGS,
            "task": {"part": "ogbench", "task": task, "timing": "pre"},
            "phases": [{"part": "online", "env_steps": 100 * length}],
            "seeds": list(curves),
            **(settings or {}),
        },
        **config,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(resolved))
    (folder / "metrics.jsonl").write_text("")
    rows = [
        [seed, "online", 100 * (i + 1), way, episodes, rate, -100.0, 120.0, 1.5]
        for way, by_seed in {"own": curves, **(refiners or {})}.items()
        for seed, rates in by_seed.items()
        for i, rate in enumerate(rates)
        if rate is not None
    ]
    write_evaluations(folder / "evaluations.csv", rows)
    return folder


@pytest.fixture
def frames():
    """Ten frames of 60 x 80 pixels in which a square moves."""
    moving = []
    for i in range(10):
        frame = np.full((60, 80, 3), 230, np.uint8)
        frame[20:40, 5 * i : 5 * i + 20] = (0, 114, 178)
        moving.append(frame)
    return tuple(moving)
