"""Mistakes on the command line: exit code 2, a line that says what is allowed, nothing written."""

import json
import subprocess
import sys

import pytest

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.runs import PointMassTask
from flowpolicy.train import attempts
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


def test_one_phase_need_not_be_a_tuple(run, monkeypatch, tmp_path):
    """In Python and on the command line, and where a flow is distilled."""
    asked = []

    def attempt(config, *_, **__):
        asked.append(config.phases)
        raise fp.FlowPolicyError("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "toy/fmq", "--phases", "offline(steps=3)"]) == 2
    for call in (fp.train, lambda _, **more: fp.distil(run, run.config().agent, **more)):
        with pytest.raises(fp.FlowPolicyError, match="enough"):
            call("toy/fmq", phases=fp.Offline(3))
    assert asked == [(fp.Offline(3),)] * 3


ALONE = """
import contextlib, io, json, sys
from flowpolicy import FlowPolicyError, Policy
from flowpolicy.cli import main
answers = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = main(arguments)
        except Exception as error:
            code = repr(error)
    answers.append([code, " ".join(said.getvalue().split())])
try:
    Policy.load(sys.argv[2], refiner="qgbs(beam=4)")
except FlowPolicyError as error:
    answers.append([2, str(error)])
print(json.dumps(answers))
"""
OTHERS = (
    (["train", "toy/fmq", "--phases", "5"], "phases must be offline(...) or online(...)"),
    (["train", "toy/fmq", "--phases", "(adam(),)"], "or a tuple of them, got Adam("),
    (["train", "toy/fmq", "--task", "5"], "task must be one, as in ogbench("),
    (["train", "toy/fmq", "--task", "best_of_n(n=2)"], "task must be one, as in ogbench("),
    (["evaluate", "RUN", "--refiner", "minimum"], "refiner must be one, as in fp.best_of_n"),
    (["package", "RUN", "--refiner", "5"], "refiner must be one, as in fp.best_of_n"),
    (["package", "RUN", "--refiner", "adam"], "refiner must be one, as in fp.best_of_n"),
    (["diagnose", "RUN", "--refiners", "5"], "refiner must be one, as in fp.best_of_n"),
    (["sweep-refiner", "RUN", "--refiners", "one_step", "{}"], "as in fp.best_of_n"),
)


def test_values_of_another_kind(run, tmp_path):
    """As a user meets them: without the annotations that tests check."""
    arguments = [
        [str(run.path) if word == "RUN" else word for word in words] for words, _ in OTHERS
    ]
    before = contents(run.path)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(arguments), str(run.path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    loaded = ("Policy.load", "refiner must be one, as in fp.best_of_n")
    for (words, what), (code, said) in zip([*OTHERS, loaded], answers, strict=True):
        assert (code, what in said) == (2, True), (words, said)
    assert contents(run.path) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("eta", ["nan", "inf", "0", "-0.1"])
def test_radii_that_are_none(eta, run, capsys):
    """Before anything is computed."""
    assert main(["diagnose", str(run.path), "--etas", "0.1", eta]) == 2
    assert "etas must be above 0 and finite" in " ".join("".join(capsys.readouterr()).split())
