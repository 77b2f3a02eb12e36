"""What is added to the tables of a run's folder, whatever a kill left at their end."""

import pytest

from flowpolicy.errors import CorruptFile
from flowpolicy.report.costs import read_costs
from flowpolicy.report.runfiles import read_evaluations
from flowpolicy.train.folder import COLUMNS, CostRow, EvaluationRow, RunFolder

HEADER = ",".join(COLUMNS)
ROW = EvaluationRow(0, "online", 60, "own", 4, 0.5, -10.0, 9.0, 1.0)
LINE = "0,online,60,own,4,0.5,-10.0,9.0,1.0\n"
BEFORE = "0,online,50,own,4,0.25,-10.0,9.0,1.0\n"


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
