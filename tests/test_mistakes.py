"""Mistakes on the command line: exit code 2, a line that says what is allowed, nothing written."""

import pytest

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.runs import PointMassTask
from flowpolicy.train.phases import Evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two seeds that learned next to nothing."""
    return fp.train(
        "toy/fmq", out=tmp_path_factory.mktemp("runs") / "r", seeds=2, chunk=2,
        task=PointMassTask(rows=100), phases=(fp.Offline(2),), batch=4, block=2,
        evaluation=Evaluation(every=0, episodes=1, final_episodes=1, side_by_side=1),
        actor=MLPFlow(width=8, depth=1, embed=Plain()), critic=MLPCritic(width=8, depth=1),
        act=BestOfN(2), bootstrap=BestOfN(2),
    )  # fmt: skip


def contents(folder):
    """Every file's bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["evaluate", "sweep-refiner"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--episodes", "0"], "need episodes >= 1 and episode_seed >= 0, got 0 and None"),
        (["--episodes", "-3"], "got -3 and None"),
        (["--episode-seed", "-1"], "got 50 and -1"),
        (["--seeds", "0", "0"], "seeds must be distinct, got (0, 0)"),
        (["--seeds", "0", "7"], "seeds must be among the run's, (0, 1), got 7"),
    ],
)
def test_episodes_and_seeds_that_cannot_be_played(command, options, words, run, capsys):
    """Whatever is written first, a row of NaN would spoil every later reading of the run."""
    before = contents(run.path)
    assert main([command, str(run.path), *options]) == 2
    assert words in " ".join("".join(capsys.readouterr()).split())
    assert contents(run.path) == before
