"""Reading a run folder: what is there, what is missing, what is broken."""

import dataclasses
import json

import numpy as np
import pytest

from flowpolicy import runs
from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.report import progress, runfiles, scores
from flowpolicy.report.methods import gather
from flowpolicy.train.folder import RunFolder
from flowpolicy.types import Spec

HEADER = ",".join(runfiles.COLUMNS)


def test_reads_what_was_written(make_run):
    run = runfiles.read_run(make_run((0, 1), logged=True))
    assert len(run.evaluations) == 12
    first = run.evaluations[0]
    assert (first.phase, first.step, first.episodes, first.successes) == ("offline", 400, 50, 1)
    assert run.seconds == pytest.approx(30.0)
    assert run.cut_off == ()
    series = list(runfiles.metric_series(run.metrics, "flow/diagonal"))
    assert [(seed, phase) for seed, phase, _, _ in series] == [(0, "offline"), (1, "offline")]
    assert series[0][2] == [0.0, 100.0, 200.0, 300.0]


def test_a_summary_says_the_wall_time(make_run):
    folder = make_run()
    (folder / "summary.json").write_text('{"seconds": 12.5}')
    assert runfiles.read_run(folder).seconds == 12.5


def test_blocks_of_episodes_add_up(make_run):
    rows = [
        [0, "online", 5, "one_step()", 10, 0.3, -10.0, 100.0, 1.0],
        [0, "online", 5, "one_step()", 30, 0.5, -2.0, 60.0, 2.0],
    ]
    (one,) = runfiles.read_run(make_run(rows=rows)).evaluations
    assert (one.episodes, one.successes, one.seconds) == (40, 18, 3.0)
    assert one.success == pytest.approx(18 / 40)
    assert (one.reward, one.length) == pytest.approx((-4.0, 70.0))


def test_a_missing_configuration_is_an_error(make_run):
    folder = make_run()
    (folder / "config.json").unlink()
    with pytest.raises(MissingData, match=r"config\.json"):
        runfiles.read_run(folder)


def test_missing_tables_are_empty_and_named(make_run):
    folder = make_run()
    (folder / "evaluations.csv").unlink()
    (folder / "metrics.jsonl").unlink()
    run = runfiles.read_run(folder)
    assert run.absent == ("evaluations.csv", "metrics.jsonl")
    assert (run.evaluations, run.metrics, run.seconds) == ((), (), None)
    with pytest.raises(MissingData, match=r"evaluations\.csv"):
        runfiles.read_evaluations(folder / "evaluations.csv")


def test_a_configuration_that_was_changed_is_refused(tmp_path):
    """As by ``evaluate``: its sum says so, and a package's is not a run's."""
    run, package = tmp_path / "run", tmp_path / "package"
    config = runs.get("mini/fmq/cube-single-task1").config
    RunFolder(run).create(config, Spec((28,), 5), {"run": "a"})
    record = dict(runfiles.read_run(run).config)
    (run / "config.json").write_text(json.dumps({**record, "run": "another"}))
    with pytest.raises(CorruptFile, match=r"config\.json was changed after it was written"):
        runfiles.read_run(run)
    package.mkdir()
    (package / "config.json").write_text('{"agent": {"part": "fmq"}, "format": 1}')
    with pytest.raises(CorruptFile, match=r"config\.json is not a run's configuration"):
        runfiles.read_run(package)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MissingData, match="nowhere"):
        runfiles.read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.json", '{"a": NaN}', "config.json.*NaN"),
        ("config.json", "[1]", "config.json.*object"),
        ("config.json", '{"a": ', "config.json"),
        ("metrics.jsonl", '{"seed": 0, "phase": "offline", "step": 1}\nx\n', "jsonl, line 2"),
        ("metrics.jsonl", '{"seed": 0, "phase": "offline"}\n', "line 1: step must be"),
        ("metrics.jsonl", '{"seed": 0, "phase": "later", "step": 1}\n', "line 1: phase.*later"),
        ("evaluations.csv", "", "evaluations.csv is empty"),
        ("evaluations.csv", "seed,step\n", "first line"),
        ("evaluations.csv", f"{HEADER}\n0,online,1\n", "line 2: 3 fields"),
        ("evaluations.csv", f"{HEADER}\n0,online,x,a,5,0.2,0,0,0\n", "line 2.*'x'"),
        ("evaluations.csv", f"{HEADER}\n0,online,1,a,5,1.2,0,0,0\n", "line 2.*success"),
        ("evaluations.csv", f"{HEADER}\n0,online,1,a,5,0.33,0,0,0\n", "0.33 is no fraction of 5"),
        ("evaluations.csv", f"{HEADER}\n0,online,1,a,0,0,0,0,0\n", "episodes >= 1"),
    ],
)
def test_a_broken_file_is_named_with_its_line(make_run, name, text, says):
    folder = make_run()
    (folder / name).write_text(text)
    with pytest.raises(CorruptFile, match=says):
        runfiles.read_run(folder)


def test_bytes_that_are_no_text(make_run):
    folder = make_run()
    (folder / "metrics.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFile, match=r"metrics\.jsonl is not UTF-8"):
        runfiles.read_run(folder)


def test_a_last_line_that_was_cut_off_is_left_out_and_named(make_run):
    folder = make_run()
    path = folder / "evaluations.csv"
    path.write_text(path.read_text() + "0,online,600,best_of_n(n=32),20,0.5")
    run = runfiles.read_run(folder)
    assert run.cut_off == ("evaluations.csv",)
    assert len(run.evaluations) == 6


def test_null_metrics_become_gaps():
    metrics = tuple(
        json.loads(f'{{"seed": 0, "phase": "online", "step": {i}, "x": {x}}}')
        for i, x in enumerate(("1.0", "null", "2.0"))
    )
    ((_, _, steps, values),) = runfiles.metric_series(metrics, "x")
    assert steps == [0.0, 1.0, 2.0]
    np.testing.assert_equal(values, [1.0, np.nan, 2.0])


def test_before_and_after_take_the_last_common_step_not_the_best(make_run):
    run = runfiles.read_run(make_run((0, 1, 2)))
    # Seed 2 never reached the last step: the result is that of the last step all three have.
    kept = [e for e in run.evaluations if not (e.seed == 2 and e.step == 500)]
    before, after = progress.before_after(kept, "best_of_n(n=32)", np.random.default_rng(0))
    assert (before.phase, before.step, before.rate) == ("offline", 400, pytest.approx(0.02))
    assert (after.step, after.rate, after.episodes) == (400, 0.75, 60)
    assert after.low < 0.75 < after.high
    assert after.rates == (0.75, 0.75, 0.75)
    notes = progress.missing_evaluations(kept, run.settings)
    assert notes == ("seed 2: no evaluation at online step 500 with best_of_n(n=32)",)
    online = progress.phase_curves(kept, "best_of_n(n=32)", np.random.default_rng(0))[1]
    assert online.steps.tolist() == [100, 200, 300, 400]
    assert online.seeds[0][0].tolist() == [100, 200, 300, 400, 500]


def test_missing_seeds_and_ends_are_named(make_run):
    folder = make_run((0, 1))
    config = {**runfiles.read_run(folder).settings, "seeds": [0, 1, 7]}
    config["phases"] = [{"part": "offline", "steps": 900}, {"part": "online", "env_steps": 500}]
    evaluations = runfiles.read_run(folder).evaluations
    assert progress.missing_evaluations(evaluations, config) == (
        "seed 7: no evaluation at all",
        "offline phase: no evaluation at its end, 900 updates (the last is at 400)",
    )
    only = [e for e in evaluations if e.phase == "online"]
    assert progress.before_after(only, only[0].refiner, np.random.default_rng(0))[0] is None
    none = progress.missing_evaluations(only, config)
    assert "offline phase: no evaluation at its end, 900 updates (none was made)" in none


@pytest.mark.parametrize("part", [{}, [], {"part": "online"}, None, 3, "later"])
def test_a_phase_of_an_odd_kind_ends_nothing(make_run, part):
    """A configuration that somebody altered; the phase before it is the last that counts."""
    run = runfiles.read_run(make_run())
    phases = [{"part": "offline", "steps": 400}, {"part": part, "env_steps": 500}]
    config = {**run.config, "config": {**run.settings, "phases": phases}}
    assert scores.end_of(dataclasses.replace(run, config=config)) == ("offline", 400)


def test_phases_of_one_kind_end_where_their_steps_add_up(make_run):
    """Twice online: the end of the first is no end of training, and the last row is the result."""
    rows = [
        [0, "online", step, "own", 50, rate, 0, 9, 1] for step, rate in ((1000, 0.2), (1500, 0.8))
    ]
    settings = {
        **runfiles.read_run(make_run()).settings,
        "phases": [{"part": "online", "env_steps": steps} for steps in (1000, 500)],
    }
    run = runfiles.read_run(make_run(rows=rows, config=settings))
    assert scores.end_of(run) == ("online", 1500)
    (cell,) = gather([[run]])
    assert scores.final(cell) == {0: (0.8, 50)}
    _, after = progress.before_after(run.evaluations, "own", np.random.default_rng(0))
    assert (after.step, after.rate) == (1500, 0.8)
    assert progress.missing_evaluations(run.evaluations, run.settings) == ()
    assert progress.missing_evaluations(run.evaluations[:1], run.settings) == (
        "online phase: no evaluation at its end, 1,500 environment steps (the last is at 1,000)",
    )
