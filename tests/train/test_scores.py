"""The normalised score beside the return: made where a task has references, written, read."""

import dataclasses

import pytest
from small_runs import OFFLINE, train

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.errors import CorruptFile, InvalidData
from flowpolicy.report.runfiles import read_evaluations
from flowpolicy.train.evaluate import scored
from flowpolicy.train.folder import COLUMNS, SCORED, EvaluationRow, RunFolder
from flowpolicy.train.phases import Evaluation

ROW = EvaluationRow(3, "online", 10, "own", 5, 0.4, -7.0, 20.0, 1.0)
POINT_MASS = runs.PointMassTask(rows=300)


@fp.register("referenced")
@dataclasses.dataclass(frozen=True)
class Referenced:
    """The point mass with reference returns, if it has any."""

    there: bool = True
    name = "referenced"
    playable = True

    def dataset(self):
        return POINT_MASS.dataset()

    def env(self):
        return POINT_MASS.env()

    def normalised(self, returns, length):
        if not self.there:
            raise InvalidData("none")
        return 100.0 * (returns + length) / 50.0


def test_it_is_that_of_the_task():
    assert scored(ROW, Referenced()) == dataclasses.replace(ROW, score=26.0)
    assert scored(ROW, Referenced(there=False)) is ROW
    assert scored(ROW, POINT_MASS) is ROW


def test_a_file_with_scores_is_read_by_both_readers(tmp_path):
    """Blocks of episodes are added up: 5 and 15 episodes of scores 26 and 30 make 29."""
    folder, path = RunFolder(tmp_path), tmp_path / "evaluations.csv"
    rows = [
        dataclasses.replace(ROW, score=26.0),
        dataclasses.replace(ROW, episodes=15, score=30.0),
    ]
    for row in rows:
        folder.append_evaluation(row)
    assert path.read_text().splitlines()[0] == ",".join(SCORED)
    assert folder.evaluations() == rows
    ((both,), _) = read_evaluations(path)
    assert both.score == pytest.approx(29.0)
    path.write_text(path.read_text().replace(",30.0", ","))
    with pytest.raises(CorruptFile, match="score must be a number"):
        folder.evaluations()


def test_a_file_without_scores_goes_on_without(tmp_path):
    """One that an older version began."""
    folder, path = RunFolder(tmp_path), tmp_path / "evaluations.csv"
    folder.append_evaluation(ROW)
    folder.append_evaluation(dataclasses.replace(ROW, score=26.0))
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert folder.evaluations() == [ROW, ROW]
    ((both,), _) = read_evaluations(path)
    assert both.score is None


def test_a_run_writes_it_and_evaluate_shows_it(tmp_path):
    final = Evaluation(every=0, final_episodes=2, side_by_side=2)
    run = train(tmp_path / "r", task=Referenced(), phases=OFFLINE, evaluation=final)
    (row,) = run.evaluations()
    assert row.score == pytest.approx(2.0 * (row.returns + row.length), abs=1e-4)
    (again,) = fp.evaluate(run, episodes=2, write=False).rows
    assert again.score == row.score
    page = fp.report(run, episodes=False).read_text()
    assert f"{row.returns:.2f} ({row.score:.1f})" in page
