"""Runs as methods and tasks: names, protocols, what is missing, and every number's definition."""

import numpy as np
import pytest
from run_folders import write_run

from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.report import methods, scores, statistics
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.runfiles import read_run

QGBS = "qgbs(steps=1, beam=4, branches=4, snr=1.5, eta=0.3)"
TASK1, TASK2 = "cube-single-task1", "cube-single-task2"
HIGH = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0], 2: [0.0, 0.4, 0.8]}
LOW = {0: [0.0, 0.2, 0.7], 1: [0.1, 0.3, 0.6], 2: [0.1, 0.1, 0.5]}


def compared(*groups):
    return Comparison(methods.gather([[read_run(p) for p in group] for group in groups]))


@pytest.fixture
def two(tmp_path):
    """Two methods on two tasks; the first better by 0.3 on average."""
    return [
        write_run(tmp_path / f"{name}-{task}", f"mini/{name}/{task}", curves)
        for name, curves in (("fmq", HIGH), ("mvp", LOW))
        for task in (TASK1, TASK2)
    ]


def test_a_run_of_an_older_version_is_of_the_same_method(tmp_path):
    """A field that was added since is at its default there; at another value it tells."""
    folders = []
    for seed, more in enumerate(({}, {"precision": "float32"}, {"precision": "bfloat16"})):
        settings = {"part": "run", "agent": {"part": "fmq", "eta": 0.3}, "seeds": [seed], **more}
        curves = {seed: HIGH[seed]}
        folder = tmp_path / str(seed)
        folders.append(write_run(folder, f"mini/fmq/{TASK1}", curves, settings=settings))
    assert compared(folders[:2]).methods == ("mini/fmq",)
    assert compared(folders).methods == (
        "mini/fmq, precision=float32", "mini/fmq, precision=bfloat16",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "base", "task"),
    [
        ({"run": "mini/fmq/cube-single-task1", "task": TASK1}, "mini/fmq", TASK1),
        ({"run": "fmq/cube-single-task1", "task": "cube-single-play-singletask-task1-v0"},
         "fmq", TASK1),
        ({"run": "toy/fmq", "task": "point-mass"}, "toy/fmq", "point-mass"),
        ({"run": "fmq/point-mass", "task": "point-mass"}, "fmq", "point-mass"),
        ({"run": "own agent", "task": TASK1, "config": {"agent": {"part": "bc"}}}, "bc", TASK1),
        ({}, "unnamed", "not recorded"),
    ],
)  # fmt: skip
def test_a_run_is_named_by_its_method_and_task(make_run, config, base, task):
    folder = make_run(**{"run": None, "task": None, "config": {}, **config})
    run = read_run(folder)
    assert (methods.base_of(run), methods.task_of(run)) == (base, task)


def test_a_refiner_is_part_of_the_method(tmp_path):
    both = {QGBS: {0: [None, None, 1.0]}, "best_of_n(n=8)": {0: [None, None, 0.5]}}
    write_run(tmp_path / "a", f"mini/fmq/{TASK1}", HIGH, refiners=both)
    found = compared([tmp_path / "a"])
    assert found.methods == ("mini/fmq", "mini/fmq + QGBS", "mini/fmq + best_of_n")
    means = {row.method: row.mean for row in found.table()}
    assert means == pytest.approx(
        {"mini/fmq": 0.9, "mini/fmq + QGBS": 1.0, "mini/fmq + best_of_n": 0.5}
    )
    other = "qgbs(steps=2, beam=4, branches=4, snr=1.5, eta=0.3)"
    write_run(tmp_path / "b", f"mini/fmq/{TASK2}", HIGH, refiners={other: HIGH, QGBS: HIGH})
    named = compared([tmp_path / "a", tmp_path / "b"]).methods
    assert {f"mini/fmq + {QGBS}", f"mini/fmq + {other}"} <= set(named)


def test_runs_of_one_name_with_other_settings_are_other_methods(tmp_path):
    agents = {eta: {"part": "fmq", "eta": eta} for eta in (0.1, 0.5)}
    for eta, agent in agents.items():
        write_run(tmp_path / str(eta), f"mini/fmq/{TASK1}", HIGH, settings={"agent": agent})
    assert compared([tmp_path / "0.1", tmp_path / "0.5"]).methods == (
        "mini/fmq, eta=0.1",
        "mini/fmq, eta=0.5",
    )
    # Settings that go with the task are no other method, nor is another block of metrics.
    more = {"agent": agents[0.5], "block": 7}
    write_run(tmp_path / "task2", f"mini/fmq/{TASK2}", HIGH, settings=more)
    assert compared([tmp_path / "0.1", tmp_path / "task2"]).methods == ("mini/fmq",)


def test_how_many_checkpoints_stay_makes_no_other_method(tmp_path):
    """Nor how often one is written: the seeds are of one method."""
    kept = {"keep": 9, "keep_best": False, "checkpoint_every": 7}
    one = write_run(tmp_path / "a", f"mini/fmq/{TASK1}", {0: [0.5]})
    two = write_run(tmp_path / "b", f"mini/fmq/{TASK1}", {1: [0.7]}, settings=kept)
    assert compared([one, two]).methods == ("mini/fmq",)


def test_other_timing_is_never_pooled(tmp_path):
    for seed, timing in enumerate(("pre", "post")):
        task = {"part": "ogbench", "task": TASK1, "timing": timing}
        run = f"mini/fmq/{TASK1}"
        write_run(tmp_path / timing, run, {seed: [0.0, 0.1, 0.5]}, settings={"task": task})
    found = compared([tmp_path / "pre", tmp_path / "post"])
    assert found.methods == ("mini/fmq, task.timing=pre", "mini/fmq, task.timing=post")


def test_seeds_of_several_runs_are_pooled_and_a_seed_counts_once(tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("c", 1)):
        write_run(tmp_path / name, f"mini/fmq/{TASK1}", {seed: HIGH[seed]})
    (row,) = compared([tmp_path / "a", tmp_path / "b"]).table()
    assert (row.seeds, row.mean) == ((0, 1), pytest.approx(0.95))
    with pytest.raises(InvalidConfig, match=r"b and .*c both hold seed 1 of mini/fmq on cube"):
        compared([tmp_path / "a", tmp_path / "b", tmp_path / "c"])


def test_methods_can_be_picked(two):
    found = compared(two).only("mini/mvp", "mini/fmq")
    assert found.methods == ("mini/mvp", "mini/fmq")
    assert found.paired()[0].difference == pytest.approx(-0.3)
    with pytest.raises(UnknownName, match="mini/mvp"):
        found.only("mini/mpv")


def test_groups_stay_apart(two):
    found = compared(two[:1], two[:1])
    assert found.methods == ("mini/fmq [1]", "mini/fmq [2]")
    (pair,) = found.paired()
    assert pair.difference == 0
    assert pair.interval.low < 0 < pair.interval.high


def test_the_table_is_the_final_step_and_the_mean_of_the_last_three(tmp_path):
    curves = {0: [1.0, 0.8, 0.2, 0.4], 1: [1.0, 0.6, 0.4, 0.2], 4: [1.0, 0.7, 0.0, 0.6]}
    write_run(tmp_path / "a", f"fmq/{TASK1}", curves)
    found = compared([tmp_path / "a"])
    (last,), (three,) = found.table(), found.table(scores.last_three)
    assert last.mean == pytest.approx(0.4)
    assert last.deviation == pytest.approx(0.2)
    assert last.iqm == pytest.approx(0.4)  # of three scores none is dropped
    assert (last.seeds, last.episodes) == ((0, 1, 4), 60)
    rates = [sum(curve[1:]) / 3 for curve in curves.values()]
    assert three.mean == pytest.approx(np.mean(rates))
    assert three.deviation == pytest.approx(np.std(rates, ddof=1))
    assert last.interval == pytest.approx(
        statistics.success_interval(
            np.array([8, 4, 12]), np.array([20] * 3), np.random.default_rng(0)
        )
    )


def test_one_seed_has_no_deviation_and_no_bootstrap(tmp_path):
    write_run(tmp_path / "a", f"fmq/{TASK1}", {0: HIGH[0]})
    (row,) = compared([tmp_path / "a"]).table()
    assert (row.deviation, row.iqm_interval) == (None, None)
    assert row.interval == statistics.wilson(18, 20)
    (over,) = compared([tmp_path / "a"]).aggregate()
    assert (over.mean_interval, over.iqm_interval) == (None, None)


def test_a_run_that_did_not_end_has_no_result_and_is_named(tmp_path):
    curves = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, None], 2: [None, None, None], 3: [None, None, 0.5]}
    folder = write_run(tmp_path / "a", f"fmq/{TASK1}", curves)
    found = compared([folder])
    (row,) = found.table()
    assert (row.seeds, row.mean) == ((0, 3), pytest.approx(0.7))
    assert [r.seeds for r in found.table(scores.last_three)] == [(0,)]
    notes = "\n".join(found.missing())
    assert f"seed 1 ({folder}): no evaluation at the end, online step 300; the last is at 200" in (
        notes
    )
    assert f"seed 2 ({folder}): no evaluation at the end, online step 300; none was made" in notes
    assert f"seed 3 ({folder}): fewer than three evaluations" in notes
    assert len(found.missing()) == 3


def test_a_later_evaluation_of_the_last_checkpoint_is_the_same_moment(tmp_path):
    """It counts the steps that were made, 303, and must not be a fourth point of three."""
    folder = write_run(tmp_path / "a", f"fmq/{TASK1}", {0: [0.0, 0.6, 0.9]})
    with (folder / "evaluations.csv").open("a") as file:
        file.write("0,online,303,own,50,0.5,-100.0,120.0,1.5\n")
        file.write("0,online,303,one_step(),50,0.2,-100.0,120.0,1.5\n")
    found = compared([folder])
    assert [row.mean for row in found.table()] == pytest.approx([0.9, 0.2])
    assert [row.mean for row in found.table(scores.last_three)] == pytest.approx([0.5])


def test_aggregates_are_over_all_runs_and_tasks(two):
    first, second = compared(two).aggregate()
    assert (first.method, second.method) == ("mini/fmq", "mini/mvp")
    assert first.tasks == (TASK1, TASK2)
    # Six scores: 0.8, 0.8, 0.9, 0.9, 1, 1; floor(6 / 4) = 1 is dropped at each end.
    assert first.iqm == pytest.approx(0.9)
    assert first.mean == pytest.approx(0.9)
    assert second.iqm == pytest.approx((0.5 + 0.6 + 0.6 + 0.7) / 4)
    table = np.array([[0.9, 0.9], [1.0, 1.0], [0.8, 0.8]])
    rng = np.random.default_rng(0)
    assert first.iqm_interval == statistics.stratified_bootstrap(table, statistics.iqm, rng)


def test_a_task_that_one_method_lacks_is_named_and_not_averaged(two):
    found = compared(two[:3])
    assert [row.tasks for row in found.aggregate()] == [(TASK1,), (TASK1,)]
    assert found.missing() == (f"mini/mvp on {TASK2}: no run",)


def test_pairs_are_seeds_on_tasks(two, tmp_path):
    by_tasks = {pair.tasks: pair for pair in compared(two).paired()}
    assert set(by_tasks) == {(TASK1,), (TASK2,), (TASK1, TASK2)}
    over = by_tasks[TASK1, TASK2]
    assert (over.first, over.second, over.pairs) == ("mini/fmq", "mini/mvp", 6)
    assert over.difference == pytest.approx(np.mean([0.2, 0.4, 0.3]))
    assert over.interval.low < over.difference < over.interval.high
    assert over.same_episodes
    # Only common seeds make pairs.
    other = write_run(tmp_path / "c", f"mini/qc/{TASK1}", {2: [0, 0, 0.3], 9: [0, 0, 1.0]})
    (pair,) = compared([two[0], other]).paired()
    assert (pair.pairs, pair.difference) == (1, pytest.approx(0.5))
    apart = write_run(tmp_path / "d", f"mini/qc/{TASK1}", {9: [0, 0, 1.0]})
    assert compared([two[0], apart]).paired() == ()
    short = write_run(tmp_path / "e", f"mini/qc/{TASK1}", {2: [0, 0, 0.3]}, episodes=10)
    assert not compared([two[0], short]).paired()[0].same_episodes


def test_improvement_and_profile(two):
    (found,) = compared(two).improvement()
    assert found.probability == pytest.approx(1.0)  # 0.8 is above 0.7
    assert found.interval == (1.0, 1.0)
    profile = compared(two).profile(np.array([0.0, 0.65, 0.85, 1.0]))
    assert profile["mini/fmq"] == pytest.approx([1, 1, 2 / 3, 0])
    assert profile["mini/mvp"] == pytest.approx([1, 1 / 3, 0, 0])


def test_the_text_says_the_numbers_and_what_is_missing(two):
    lines = str(compared(two[:3])).splitlines()
    assert lines[0].startswith("cube-single-task1  mini/fmq: 0.900 [")
    assert lines[-1] == f"missing: mini/mvp on {TASK2}: no run"
