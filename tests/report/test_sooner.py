"""How much sooner: the target is the second's best, and who never gets there is censored."""

import csv

import numpy as np
import pytest
from run_folders import evaluation_rows, write_run
from test_html import Reader

from flowpolicy.report import comparison_tables, methods, page
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.progress import phase_curves
from flowpolicy.report.runfiles import read_run
from flowpolicy.report.sooner import online_curves, passage

TASK1, TASK2 = "cube-single-task1", "humanoidmaze-medium-task3"
HIGH = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0], 2: [0.0, 0.4, 0.8]}
LOW = {0: [0.0, 0.2, 0.7], 1: [0.1, 0.3, 0.6], 2: [0.1, 0.1, 0.5]}
NEVER = {0: [0.0, 0.0, 0.0], 1: [0.0, 0.0, 0.0], 2: [0.0, 0.0, 0.0]}
EARLY = {0: [0.6, 0.8, 0.8], 1: [0.6, 0.8, 0.8], 2: [0.6, 0.8, 0.8]}
LATE = {0: [0.0, 0.3, 0.6], 1: [0.0, 0.3, 0.6], 2: [0.0, 0.3, 0.6]}


def compared(*groups):
    return Comparison(methods.gather([[read_run(p) for p in group] for group in groups]))


def made(root, **curves):
    """Runs called by their method and task: ``fmq_1=HIGH`` is FMQ on the first task."""
    for name, rates in curves.items():
        method, _, number = name.rpartition("_")
        task = (TASK1, TASK2)[int(number) - 1]
        write_run(root / name, f"mini/{method.replace('_', '-')}/{task}", rates)
    return compared([root / name for name in curves])


@pytest.fixture
def two(tmp_path):
    """Two methods on two tasks; the first better by 0.3 on average."""
    return [
        write_run(tmp_path / f"{name}-{task}", f"mini/{name}/{task}", curves)
        for name, curves in (("fmq", HIGH), ("mvp", LOW))
        for task in (TASK1, TASK2)
    ]


def bests(found):
    return {
        (row.task, row.fast, row.slow): row for row in found.speedup(()) if row.best_of_slow
    }  # fmt: skip


def test_speedup_counts_environment_steps(two):
    rows = {
        (row.task, row.threshold): row
        for row in compared(two).speedup(thresholds=(0.5, 0.9))
        if not row.best_of_slow
    }  # fmt: skip
    half = rows[TASK1, 0.5]
    assert half.fast_passage.steps == (200, 200, 300)
    assert half.slow_passage.steps == (300, 300, 300)
    assert (half.speedup.ratio, half.speedup.bound) == (1.5, "=")
    never = rows[TASK1, 0.9]
    assert (never.slow_passage.reached, never.speedup.bound) == (0, ">")
    assert never.speedup.ratio == pytest.approx(1.0)  # 300 or more, over 300


def test_offline_success_counts_as_step_0(make_run):
    """0.02 at the end of the offline phase, as in the other fixtures."""
    folder = make_run((0, 1), rows=evaluation_rows((0, 1), "own"))
    parts = phase_curves(read_run(folder).evaluations, "own", np.random.default_rng(0))
    curves = online_curves(parts)
    assert curves[0] == ([0, 100, 200, 300, 400, 500], [0.02, 0.0, 0.25, 0.5, 0.75, 0.8])
    assert passage(curves, 0.01).steps == (0, 0)
    assert online_curves(parts[:1]) == {}


def test_the_target_is_the_best_of_the_second_in_both_directions(two):
    """0.6 is MVP's best mean and 0.9 FMQ's; the first reaches the one, the other never."""
    rows = bests(compared(two))
    assert set(rows) == {
        (task, *pair)
        for task in (TASK1, TASK2)
        for pair in (("mini/fmq", "mini/mvp"), ("mini/mvp", "mini/fmq"))
    }
    there = rows[TASK1, "mini/fmq", "mini/mvp"]
    assert there.threshold == pytest.approx(0.6)
    assert there.fast_passage.steps == (300, 200, 300)
    assert (there.speedup.ratio, there.speedup.bound) == (1.0, "=")
    back = rows[TASK1, "mini/mvp", "mini/fmq"]
    assert back.threshold == pytest.approx(0.9)
    assert (back.fast_passage.reached, back.fast_passage.text) == (0, "not within 300")
    assert (back.slow_passage.median, back.speedup.bound) == (300, "<")


def test_a_first_that_never_reaches_the_second_s_best_is_censored(tmp_path):
    """Were the target lowered to what both reached, FMQ would be there at once."""
    found = made(tmp_path, fmq_1=LOW, mvp_1=HIGH)
    row = bests(found)[TASK1, "mini/fmq", "mini/mvp"]
    assert row.threshold == pytest.approx(0.9)
    assert row.fast_passage.text == "not within 300"
    assert row.speedup.bound == "<"
    first = found.mean_speedup()[0]
    assert (first.fast, first.slow, first.ratio) == ("mini/fmq", "mini/mvp", None)
    assert first.missing == (f"{TASK1}: mini/fmq not within 300, mini/mvp at 300",)


def test_the_mean_is_over_all_tasks_or_is_not_there(tmp_path):
    """At 0.6: sooner by 3 on one task and by 1 on the other."""
    found = made(tmp_path / "a", fmq_1=EARLY, mvp_1=LATE, fmq_2=LATE, mvp_2=LATE)
    first, back = found.mean_speedup()
    assert (first.fast, first.slow, first.tasks) == ("mini/fmq", "mini/mvp", (TASK1, TASK2))
    assert (first.ratio, first.missing) == (pytest.approx(2.0), ())
    # MVP never reaches FMQ's 0.8 on the first task; that it does on the second is no mean.
    assert (back.fast, back.ratio) == ("mini/mvp", None)
    assert back.missing == (f"{TASK1}: mini/mvp not within 300, mini/fmq at 200",)
    # Where the second never succeeds there is no target, and that is named.
    never = made(tmp_path / "b", fmq_1=EARLY, mvp_1=LATE, fmq_2=LATE, mvp_2=NEVER)
    assert never.mean_speedup()[0].ratio is None
    assert never.mean_speedup()[0].missing == (f"{TASK2}: mini/mvp never solved it online",)
    # A task that one of them was not tried on is no task of the two.
    alone = made(tmp_path / "c", fmq_1=EARLY, mvp_1=LATE, fmq_2=LATE)
    assert (alone.mean_speedup()[0].tasks, alone.mean_speedup()[0].ratio) == (
        (TASK1,), pytest.approx(3.0),
    )  # fmt: skip


def test_the_pages_two_speedups_stand_beside_ours_of_the_same_methods(tmp_path):
    """2.77 on average, 6.14 on the maze; of FMQ over MVP, in that direction, at its target."""
    assert sorted(page.speedups().values()) == [2.77, 6.14]
    assert {task for _, _, task in page.speedups()} - {task for task, _ in page.table()} == {
        page.ALL_TASKS
    }
    found = made(tmp_path, fmq_1=EARLY, fmq_2=EARLY, mvp_1=LATE, mvp_2=LATE, qc_1=LATE, qc_2=LATE)
    tables = comparison_tables.tables(found, {})
    printed = {
        (row[0], row[2], row[3], row[6]): row[-1]
        for row in tables["speedup"].rows
        if row[-1] is not None
    }
    assert printed == {(TASK2, "best of second", "mini/fmq", "mini/mvp"): 6.14}
    means = {row[:2]: row[-1] for row in tables["mean_speedup"].rows if row[-1] is not None}
    assert means == {("mini/fmq", "mini/mvp"): 2.77}


def test_the_page_shows_the_means(two, tmp_path):
    out = write_comparison(compared(two), tmp_path / "page.html")
    assert "there is no mean" in Reader(out.read_text(encoding="utf-8")).text.lower()
    with (tmp_path / "page" / "mean_speedup.csv").open(newline="") as file:
        rows = {(row["first"], row["second"]): row for row in csv.DictReader(file)}
    ours = rows["mini/fmq", "mini/mvp"]
    assert float(ours["first_sooner_by"]) == 1.0
    assert (ours["missing"], ours["page_sooner_by"]) == ("", "2.77")
    theirs = rows["mini/mvp", "mini/fmq"]
    assert theirs["first_sooner_by"] == ""
    assert theirs["missing"].count("mini/mvp not within 300, mini/fmq at 300") == 2
