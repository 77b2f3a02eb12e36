"""From a run on disk to a flow map: what is taken over, what is refused, what the page shows."""

import dataclasses
import re
import runpy
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.agents.distilled import eulerian_distillation
from flowpolicy.cli import main
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData
from flowpolicy.nets import MLPCritic, MLPFlow, MLPVelocity, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.runs import PointMassTask
from flowpolicy.train import attempts
from flowpolicy.train.normalise import Standardise
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.task import RowsOnly

SHARED = {"chunk": 2, "critic": MLPCritic(width=8, depth=1)}
RANKED = {"act": BestOfN(2), "bootstrap": BestOfN(2)}
QC = fp.QC(**SHARED, **RANKED, steps=2, actor=MLPVelocity(width=8, depth=1))
FMQ = fp.FMQ(**SHARED, **RANKED, actor=MLPFlow(width=8, depth=1, embed=Plain()))


def _config(agent, phases):
    return fp.RunConfig(
        agent=agent,
        task=PointMassTask(rows=200),
        phases=phases,
        seeds=(3, 4),
        batch=8,
        block=10,
        normaliser=Standardise(),
        evaluation=Evaluation(every=0, episodes=2, final_episodes=2, side_by_side=2),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of QC with two seeds."""
    out = tmp_path_factory.mktemp("runs") / "qc"
    return fp.train(_config(QC, (fp.Offline(10),)), out=out)


def _arrays(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_a_run_becomes_fmq(trained, tmp_path):
    """The source and the normaliser are the run's to the bit, the map is new, FMQ ends it."""
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    phases = (fp.Offline(10), fp.Online(8, start_after=0))
    other = PointMassTask(rows=150, seed=9).dataset()  # whose mean and deviation are not the run's
    half = fp.distil(trained.path, FMQ, other, phases=phases[:1], out=tmp_path / "half")
    (old, _), (new, meta) = trained.load(), half.load()
    for a, b in zip(
        _arrays(old), _arrays(type(old)(new.agents.source, new.normaliser)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert meta["updates"] == 10
    whole = fp.distil(
        trained, FMQ, phases=phases, terms=eulerian_distillation(), out=tmp_path / "b"
    )
    online, meta = whole.load()
    assert meta["online"]
    assert online.agents.config == FMQ
    critics = online.agents.critic.online.model.members
    assert jax.tree.leaves(critics)[0].shape[0] == len(whole.config().seeds) == 2
    rows = whole.evaluations()
    assert {(row.seed, row.phase) for row in rows} == {
        (seed, phase) for seed in (3, 4) for phase in ("offline", "online")
    }
    assert fp.Policy.load(whole.path, seed_index=1).act([0.5, 0.5]).shape == (2, 2)
    record = whole.record()
    assert record["run"] == "distilled-own run"
    assert record["from"] == str(trained.path.resolve())
    after = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    assert before == after


def test_two_seeds_have_maps_of_their_own(trained, tmp_path):
    """Before any update already; and the same call gives the same bits."""
    runs = [fp.distil(trained, FMQ, phases=(fp.Offline(0),), out=tmp_path / x) for x in "ab"]
    one, two = (_arrays(run.load()[0].agents.actor.model) for run in runs)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a[0] != a[1]).any() for a in one)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (fp.FMQ(**{**SHARED, "chunk": 3}), "chunk"),
        (fp.FMQ(**SHARED, tau=0.5), "tau"),
    ],
)
def test_a_target_that_does_not_fit(trained, tmp_path, target, message):
    """Refused before anything is written."""
    with pytest.raises(InvalidConfig, match=message):
        fp.distil(trained, target, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_distilled(tmp_path):
    """BC has no critics; FMQ is another agent once it is online; a folder may hold no run."""
    phases = (fp.Offline(2),)
    quiet = Evaluation(every=0, final_episodes=0)
    bc = fp.train(
        _config(fp.BC(chunk=2, actor=FMQ.actor), phases), evaluation=quiet, out=tmp_path / "bc"
    )
    with pytest.raises(InvalidConfig, match=r"bc has not; .*fmq, fql, .*qc have both"):
        fp.distil(bc, FMQ, out=tmp_path / "run")
    online = (*phases, fp.Online(4, start_after=0))
    fmq = fp.train(_config(FMQ, online), evaluation=quiet, out=tmp_path / "fmq")
    with pytest.raises(InvalidConfig, match="fmq is another agent once it is online"):
        fp.distil(fmq, FMQ, out=tmp_path / "run")
    with pytest.raises(MissingData, match="no run folder"):
        fp.distil(tmp_path / "nothing", FMQ)
    assert not (tmp_path / "run").exists()


def test_data_of_another_shape(trained, tmp_path):
    """The message says both shapes."""
    rows, no = np.zeros((8, 3), np.float32), np.zeros(8, bool)
    other = fp.Dataset.from_arrays(
        obs=rows, action=rows, reward=rows[:, 0], terminated=no, truncated=~no, next_obs=rows
    )
    with pytest.raises(InvalidData, match=r"\(\(2,\), 2\), got \(\(3,\), 3\)"):
        fp.distil(trained, FMQ, other, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _in_units(data, **told):
    return fp.Dataset(data.rows, {**data.info, **told})


def test_data_in_other_units(trained, tmp_path):
    """The message says both; a run in units of its own takes data in the same ones."""
    rows = PointMassTask(rows=50).dataset()
    units = ActionUnits((1.0, 2.0), (3.0, 4.0))
    scaled = _in_units(rows, action_units=units.record())
    same = _in_units(rows, action_units=ActionUnits.unchanged(2).record())
    out, phases = tmp_path / "run", (fp.Offline(2),)
    with pytest.raises(InvalidData, match=r"action_units .*\(0\.0.*, got .*shift=\(1\.0, 2\.0\)"):
        fp.distil(trained, FMQ, scaled, phases=phases, out=out)
    quiet = Evaluation(every=0, final_episodes=0)
    config = dataclasses.replace(_config(QC, phases), task=RowsOnly(), evaluation=quiet)
    own = fp.train(config, scaled, out=tmp_path / "own")
    for other in (rows, same):
        with pytest.raises(InvalidData, match=r"shift=\(1\.0, 2\.0\).*, got .*\(0\.0"):
            fp.distil(own, FMQ, other, phases=phases, out=out)
    assert not out.exists()
    assert fp.action_units(fp.distil(own, FMQ, scaled, phases=phases, out=out).path) == units
    fp.distil(trained, FMQ, same, phases=phases, out=tmp_path / "same")


@pytest.mark.parametrize(
    "phases",
    [
        fp.Online(8),
        (fp.Offline(0), fp.Online(8)),
        (fp.Online(8), fp.Offline(2)),
    ],
)
def test_online_without_a_distillation_before(trained, tmp_path, phases):
    """The reference would be the flow map as it was drawn, and stay so."""
    message = r"phases must have offline updates before the first online phase.*, got \(.*online\("
    with pytest.raises(InvalidConfig, match=message):
        fp.distil(trained, FMQ, phases=phases, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_processes_and_devices_are_chosen(trained, monkeypatch, tmp_path):
    """From Python and from a terminal, by the names that training has."""
    asked = []

    def attempt(*_, hardware, **__):
        asked.append(hardware)
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    chosen = fp.Hardware(2, False, 2, 4, True)
    with pytest.raises(InvalidConfig, match="enough"):
        fp.distil(trained, FMQ, hardware=chosen)
    fields = ["--chunk", "2", "--critic", "mlp_critic(width=8, depth=1)", "--discount", "0.99"]
    words = ["distil", str(trained.path), "toy/fmq", *fields]
    flags = ["--workers", "2", "--no-overlap", "--seed-devices", "2", "--batch-devices", "4"]
    assert main([*words, *flags, "--host-rows"]) == main(words) == 2
    assert asked == [chosen, chosen, fp.Hardware()]


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    """docs/existing_flows.md: the Python, and then the command on the run that it made."""
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parent.parent / "docs" / "existing_flows.md"
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    (python, text), (bash, command) = blocks
    assert (python, bash) == ("python", "bash")
    (tmp_path / "block.py").write_text(text, encoding="utf-8")
    space = runpy.run_path(str(tmp_path / "block.py"))
    assert space["adapted"].load()[1]["online"]
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "flowpolicy"
    assert main([*arguments, "--quiet"]) == 2  # the folder is taken
    assert "already holds a run" in capsys.readouterr().err
    assert main([*arguments[:-1], "runs/second", "--quiet"]) == 0
    second = fp.Run("runs/second")
    assert second.load()[1]["online"]
    source, target = second.config().agent.source, second.config().agent.target
    assert (source, target.critic) == (space["qc"], space["small"])
    assert target.eta == 0.3  # of the named run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "toy/fmq"], "no run folder nowhere"),
        (["nowhere", "toy/fmg"], "did you mean 'toy/fmq'"),
        (["nowhere", "toy/bc/equal-modes"], "toy/bc/equal-modes is a run of bc; give one of fmq"),
        (["nowhere"], "usage: flowpolicy distil RUN NAME"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, words, capsys):
    """In a line, with exit code 2."""
    assert main(["distil", *arguments]) == 2
    text = "".join(capsys.readouterr())
    assert words in " ".join(text.split())
    assert "Traceback" not in text
