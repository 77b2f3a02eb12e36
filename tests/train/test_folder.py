"""What a run's folder may hold at its beginning, and how its tables grow, whatever a kill left."""

import dataclasses

import pytest
from small_runs import TINY

from flowpolicy import runs
from flowpolicy.errors import CorruptFile, InvalidConfig
from flowpolicy.report.costs import read_costs
from flowpolicy.report.runfiles import read_evaluations
from flowpolicy.train import attempts
from flowpolicy.train.folder import COLUMNS, CostRow, EvaluationRow, RunFolder
from flowpolicy.types import Spec

HEADER = ",".join(COLUMNS)
ROW = EvaluationRow(0, "online", 60, "own", 4, 0.5, -10.0, 9.0, 1.0)
LINE = "0,online,60,own,4,0.5,-10.0,9.0,1.0\n"
BEFORE = "0,online,50,own,4,0.25,-10.0,9.0,1.0\n"
CONFIG = dataclasses.replace(runs.get("toy/fmq").config, task=TINY["task"])


@pytest.mark.parametrize(
    ("left", "whole"),
    [
        ("", ""),
        ("seed,ph", ""),
        (f"{HEADER}\n", ""),
        (f"{HEADER}\n0,online,50", ""),
        (f"{HEADER}\n{BEFORE}", BEFORE),
        (f"{HEADER}\n{BEFORE}0,online,55,own,4,0.2", BEFORE),
    ],
)
def test_a_line_follows_the_last_whole_one(tmp_path, left, whole):
    """A cut-off line is no start of the next, and an empty file gets the names of its columns."""
    path, folder = tmp_path / "evaluations.csv", RunFolder(tmp_path)
    path.write_text(left)
    assert len(folder.evaluations()) == bool(whole)
    folder.append_evaluation(ROW)
    assert path.read_text() == f"{HEADER}\n{whole}{LINE}"
    assert folder.evaluations()[-1] == ROW
    assert read_evaluations(path)[1] is False


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "evaluations.csv").write_text("something else")
    with pytest.raises(CorruptFile, match=r"evaluations\.csv"):
        RunFolder(tmp_path).evaluations()


def test_an_empty_table_of_a_task_with_scores_has_their_column(tmp_path):
    scored = EvaluationRow(0, "online", 60, "own", 4, 0.5, -10.0, 9.0, 1.0, 33.3)
    (tmp_path / "evaluations.csv").write_text("seed,phase")
    RunFolder(tmp_path).append_evaluation(scored)
    assert RunFolder(tmp_path).evaluations() == [scored]


def test_a_cost_follows_one_that_was_cut_off(tmp_path):
    """The same of ``costs.csv``."""
    folder, row = RunFolder(tmp_path), CostRow("own", 32, 0.5, 0.6, 200, "cpu")
    folder.append_cost(row)
    path = tmp_path / "costs.csv"
    path.write_text(path.read_text() + "own,32,0.")
    folder.append_cost(CostRow("own", 32, 0.25, 0.3, 200, "cpu"))
    assert read_costs(tmp_path)["own"].ms_p50 == 0.25


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints", "best", "replay", "evaluations.csv", "metrics.jsonl", "status.json",
        "rollbacks.jsonl",
    ],
)  # fmt: skip
def test_what_another_run_left_is_refused(tmp_path, name):
    """Its checkpoints have the higher numbers, and of all the highest stay; nothing is written."""
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidConfig, match=rf"another run left \({name}\).*remove the folder"):
        RunFolder(tmp_path).create(CONFIG, Spec((2,), 2, 0), {})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_run_s_own_is_not_in_its_way(tmp_path):
    """Event files are there before the run, and so is what a kill left of its beginning."""
    for name in ("tensorboard", ".config.json.1.tmp", "notes.txt"):
        (tmp_path / name).mkdir()
    RunFolder(tmp_path).create(CONFIG, Spec((2,), 2, 0), {})
    assert RunFolder(tmp_path).config() == CONFIG


def test_a_run_that_diverged_says_why(tmp_path):
    """A status without the verdict is not one that a run wrote."""
    folder = RunFolder(tmp_path)
    folder.create(CONFIG, Spec((2,), 2, 0), {})
    for status in ({"state": "diverged"}, {"state": "diverged", "verdict": 3}):
        folder.write_status(status)
        with pytest.raises(CorruptFile, match=r"status\.json: 'verdict' must be a text"):
            attempts.resume(tmp_path, CONFIG.task, None)
