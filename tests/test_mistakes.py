"""Mistakes on the command line: exit code 2, a line that says what is allowed, nothing written."""

import io
import json
import os
import subprocess
import sys

import pytest

import flowpolicy as fp
from data.own_files import write_own_npz
from flowpolicy import parts
from flowpolicy.cli import commands, main
from flowpolicy.errors import StorageFailed
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


def said_of(arguments, capsys):
    """The one error that ``arguments`` are answered with."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # of values that the options' own reader refuses
        code = stop.code
    assert code == 2
    return " ".join("".join(capsys.readouterr()).replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "None"], "run.task must be a part, got None"),
        (["--phases", "None"], "run.phases must be a part, got None"),
        (["--evaluation", "None"], "run.evaluation must be a part"),
        (
            ["--seed", str(2**63)],
            f"run.seeds must be distinct and in 0 .. 2**32 - 1, got ({2**63},)",
        ),
        (["--seeds", "0"], "seeds must be at least 1, as one number is how many there are, got 0"),
        (["--seeds", "-2"], "got -2"),
        (["--out", "file"], "out must be a folder, got 'file', and file is a file"),
        (["--out", "file/x"], "out must be a folder, got 'file/x', and file is a file"),
    ],
)
def test_what_a_run_cannot_be_made_of(options, words, monkeypatch, tmp_path, capsys):
    """And never the defaults in its place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert words in said_of(["train", "toy/bc/equal-modes", *options, "--quiet"], capsys)
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_no_folder_before_rows_are_read(run, tmp_path):
    """Which may take long; of a run that is distilled as of one that is trained."""
    (tmp_path / "file").touch()
    with pytest.raises(fp.FlowPolicyError, match="out must be a folder"):
        fp.train("toy/fmq", task=fp.OGBench(file="nowhere.npz"), out=tmp_path / "file")
    with pytest.raises(fp.FlowPolicyError, match="out must be a folder"):
        fp.distil(run, run.config().agent, out=tmp_path / "file")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("point_mass(rows=0)", "point_mass.rows must be at least 1, got 0"),
        ("point_mass(rows=-5)", "point_mass.rows must be at least 1, got -5"),
        ("point_mass(seed=-5)", "point_mass.seed must be at least 0, got -5"),
        ("two_modes(rows=0)", "two_modes.rows must be at least 1, got 0"),
        ("two_modes(seed=-1)", "two_modes.seed must be at least 0, got -1"),
        ("two_ways(episodes=0)", "two_ways.episodes must be at least 1, got 0"),
        ("two_ways(seed=-1)", "two_ways.seed must be at least 0, got -1"),
        ("ogbench(rows=-1)", "ogbench.rows must be at least 0, got -1"),
        ("ogbench(stack=0)", "ogbench.stack must be at least 1, got 0"),
        ("ogbench(rotate=0)", "ogbench.rotate must be at least 1, got 0"),
        ("own_data(path='a.npz', rotate=0)", "own_data.rotate must be at least 1, got 0"),
        ("gymnasium(max_steps=-1)", "gymnasium.max_steps must be at least 0, got -1"),
        ("minari(max_steps=-1)", "minari.max_steps must be at least 0, got -1"),
        ("robomimic(rows=-1)", "robomimic.rows must be at least 0, got -1"),
        ("pusht(rows=-1)", "pusht.rows must be at least 0, got -1"),
    ],
)
def test_numbers_of_tasks(task, words):
    """By the field's name, before anything is looked for or made."""
    with pytest.raises(fp.FlowPolicyError) as error:
        parts.parse(task)
    assert words in str(error.value)


def test_rows_alone_for_a_run_that_is_all_online(tmp_path, monkeypatch, capsys):
    """It has no offline phase that could be left, and says what to give."""
    write_own_npz(tmp_path / "a.npz")
    asked = []

    def attempt(config, *_, **__):
        asked.append(config.phases)
        raise fp.FlowPolicyError("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    words = ["train", "mini/rlpd/cube-single-task1", "--data", str(tmp_path / "a.npz")]
    said = said_of(words, capsys)
    assert "online phases alone, and a.npz has no environment; give --phases 'offline(" in said
    assert "enough" in said_of([*words, "--phases", "offline(steps=3)"], capsys)
    assert asked == [(fp.Offline(3),)]


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    ["report {}/run", "resume {}/run", "train toy/fmq --out {}/new", "data check {}/rows.npz",
     "train toy/fmq --data {}/rows.npz"],
)  # fmt: skip
def test_what_the_operating_system_refuses(words, monkeypatch, tmp_path, capsys):
    """A line that names the file; a name that is too long is refused to root as well."""
    monkeypatch.chdir(tmp_path)
    said = said_of(words.format(LONG).split(), capsys)
    assert said.startswith("error: ")
    assert "Filename too long" in said or "File name too long" in said
    assert LONG in said.replace(" ", "")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            PermissionError(13, "Permission denied", "locked/a"),
            2,
            "error: locked/a: Permission denied",
        ),
        (OSError("no file, no number"), 2, "error: no file, no number"),
        (StorageFailed("a could not be written"), 74, "stopped: a could not be written"),
    ],
)
def test_refusals_have_their_codes(error, code, words, monkeypatch, capsys):
    """The disk that a run is written to keeps its own."""

    def refused(_):
        raise error

    monkeypatch.setattr(commands, "list_runs", refused)
    assert main(["list"]) == code
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_pipe_whose_reader_has_gone_is_no_mistake(monkeypatch):
    """It stays what it is."""

    def gone(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(commands, "list_runs", gone)
    with pytest.raises(BrokenPipeError):
        main(["list"])


def test_letters_that_the_terminal_lacks(monkeypatch):
    """A curve after hours of work; what was trained is not lost for it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(commands, "list_runs", lambda _: print("⣿ a curve") or 0)
    assert main(["list"]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"? a curve\n"
