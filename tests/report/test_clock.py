"""Seconds of training: a made-up run whose pace and evaluations are known, told as a run tells."""

import csv
import json
import math

import numpy as np
import pytest
from run_folders import write_run

from flowpolicy.report import comparison_tables
from flowpolicy.report.clock import training_clock
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.methods import gather
from flowpolicy.report.runfiles import COLUMNS, read_run

TASK = "cube-single-task1"
COMPILE, UPDATE, STEP = 7.0, 0.02, 0.05
OFFLINE, ONLINE, EVERY = 400, 300, 100


def _tell(folder, *, chunk=5, seeds=(0,), evaluation=4.0, rates=(0.1, 0.2, 0.6, 0.9)):
    """Writes the two tables of a run that logs every 20 steps, as ``train.loop`` orders them.

    rates: of the offline end and of the online evaluations at 100, 200 and 300
    """
    path = write_run(folder, f"mini/fmq/{TASK}", {s: rates[1:] for s in seeds})
    wall, lines, rows = COMPILE, [], []

    def evaluate(phase, step, rate):
        for seed in seeds:
            rows.append([seed, phase, step, "own", 20, rate, -1.0, 10.0, evaluation])
        return evaluation * len(seeds)

    def log(phase, step):
        stamp = {"phase": phase, "step": step, "updates": step, "seconds": round(wall, 6)}
        lines.extend({"seed": seed, **stamp} for seed in seeds)

    for step in range(20, OFFLINE + 1, 20):
        wall += 20 * UPDATE
        log("offline", step)
        wall += evaluate("offline", step, rates[0]) if step in (200, OFFLINE) else 0.0
    done, logged = 0, 0
    while done < ONLINE:
        before, done = done, min(done + chunk, ONLINE)
        wall += STEP * (done - before)
        if done - logged >= 20 or done == ONLINE:
            log("online", done)
            logged = done
        if before // EVERY < done // EVERY:
            wall += evaluate("online", done // EVERY * EVERY, rates[done // EVERY])
    lines.append({"phase": "online", "step": ONLINE, "time/rest": 0.1})
    with (path / "evaluations.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def compared(*paths):
    return Comparison(gather([[read_run(path) for path in paths]]))


def test_evaluations_are_taken_out_and_steps_between_lines_interpolated(tmp_path):
    """Exactly, where ticks meet the steps of evaluations: compiling counts from the first line."""
    clock = training_clock(read_run(_tell(tmp_path / "a")))
    offline = COMPILE + OFFLINE * UPDATE
    assert clock.at("offline", 20) == pytest.approx(COMPILE + 20 * UPDATE)
    assert clock.at("offline", 210) == pytest.approx(COMPILE + 210 * UPDATE)
    assert clock.at("online", 0) == pytest.approx(offline)
    for step in (3, 100, 101, 117, 300):
        assert clock.at("online", step) == pytest.approx(offline + step * STEP)
    assert clock.at("online", 301) is None


def test_a_tick_that_passes_the_step_of_an_evaluation_costs_a_line_at_most(tmp_path):
    """Ticks of 7 steps: the clock never goes back and is off by less than two lines' time."""
    clock = training_clock(read_run(_tell(tmp_path / "a", chunk=7, evaluation=50.0)))
    steps = np.arange(0, ONLINE + 1)
    seconds = np.array([clock.at("online", step) for step in steps.tolist()])
    assert (np.diff(seconds) >= 0).all()
    truth = COMPILE + OFFLINE * UPDATE + STEP * steps
    assert np.abs(seconds - truth).max() < 2 * 21 * STEP


def test_a_run_without_a_clock_has_no_seconds(tmp_path):
    """No file, no stamps, or stamps that go back: nothing is filled in, and the page says so."""
    path = _tell(tmp_path / "a")
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:10] + lines[:1] + lines[10:]))
    assert training_clock(read_run(path)) is not None  # a line twice is one line
    back = json.loads(lines[-2]) | {"seconds": 1.0}
    (path / "metrics.jsonl").write_text("".join([*lines[:-2], json.dumps(back) + "\n"]))
    assert training_clock(read_run(path)) is None
    (path / "metrics.jsonl").unlink()
    found = compared(path)
    assert training_clock(read_run(path)) is None
    assert {row.seconds for row in found.waiting()} == {None}
    page = write_comparison(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no seconds of training, as metrics.jsonl has no clock" in page


def test_seconds_stand_beside_steps_and_never_reached_is_censored(tmp_path):
    """Three runs of a seed each; .6 at 200 steps, at 100, and never; .5 is asked."""
    curves = ((0.1, 0.2, 0.6, 0.9), (0.1, 0.6, 0.6, 0.6), (0.1, 0.2, 0.3, 0.4))
    paths = [
        _tell(tmp_path / str(seed), seeds=(seed,), rates=rates) for seed, rates in enumerate(curves)
    ]
    (half, most) = compared(*paths).waiting((0.5, 0.9))
    offline = COMPILE + OFFLINE * UPDATE
    assert half.steps.steps == (200, 100, math.inf)
    assert half.seconds.steps == pytest.approx((offline + 10.0, offline + 5.0, math.inf))
    assert half.seconds.median == pytest.approx(offline + 10.0)
    assert (half.offline, half.together) == (pytest.approx(offline), 1)
    assert most.seconds.text == f"not within {offline + 300 * STEP:,.0f}"
    table = comparison_tables.tables(compared(*paths), {})["waiting"]
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert (row["success"], row["reached"], row["steps"]) == (0.5, "2 of 3", 200)
    assert (row["seconds"], row["seeds_side_by_side"]) == (round(offline + 10.0), 1)


@pytest.mark.parametrize("seeds", [None, 3])
def test_seeds_that_are_no_list_count_as_one(tmp_path, seeds):
    """A configuration that somebody altered."""
    path = _tell(tmp_path / "a")
    record = json.loads((path / "config.json").read_text())
    record["config"]["seeds"] = seeds
    (path / "config.json").write_text(json.dumps(record))
    assert {row.together for row in compared(path).waiting()} == {1}


def test_seeds_side_by_side_share_the_seconds_of_all(tmp_path):
    """Two seeds in one run: their evaluations are taken out together, and the table says two."""
    path = _tell(tmp_path / "a", seeds=(3, 4), rates=(0.7, 0.2, 0.6, 0.9))
    (row,) = compared(path).waiting((0.5,))
    assert row.steps.steps == (0, 0)  # already by the end of the offline phase
    assert row.seconds.steps == pytest.approx((COMPILE + OFFLINE * UPDATE,) * 2)
    assert row.together == 2
