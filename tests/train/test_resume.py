"""Going on with a run: its end is that of a run that was never interrupted, to the bit."""

import dataclasses
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from small_runs import train
from whole_state import fingerprint_of, parts_of

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.cli.main import main
from flowpolicy.envs.fleet import Local
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import Busy, CorruptFile, Inexact, InvalidData, MissingData
from flowpolicy.train import checkpoint
from flowpolicy.train.lock import only_writer
from flowpolicy.train.loop import Loop
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.resume import _below
from flowpolicy.train.stop import Stopped
from flowpolicy.train.watch import Silent

PLAN = {
    "evaluation": Evaluation(every=10, episodes=1, final_episodes=2, side_by_side=2),
    "phases": (fp.Offline(20), fp.Online(30, start_after=7)),
    "checkpoint_every": 15,
    "capacity": 20,
}


class StopAt(Silent):
    """Asks for a stop at the n-th block or tick, and remembers what was said."""

    def __init__(self, n):
        self.left, self.said = n, []

    def advance(self, done):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    def say(self, text):
        self.said.append(text)


def stopped(out, n, **changes):
    """A run that was stopped at its n-th block or tick."""
    with pytest.raises(Stopped):
        train(out, watch=StopAt(n), **{**PLAN, **changes})
    return fp.Run(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody interrupts."""
    return train(tmp_path_factory.mktemp("whole") / "r", **PLAN)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 11, 17])
def test_a_stopped_run_ends_as_if_it_had_not_been(whole, tmp_path, n):
    """Stopped offline, between the phases, before online updates, amid an episode, at the end."""
    run = stopped(tmp_path / "r", n)
    assert fp.resume(run).status() == {"state": "finished", "updates": whole.load()[1]["updates"]}
    assert list(parts_of(run)) == list(parts_of(whole))


def test_stopped_again_and_again(whole, tmp_path):
    """After every third block or tick."""
    run, times = stopped(tmp_path / "r", 3), 1
    while not run.status():
        try:
            fp.resume(run, watch=StopAt(3))
        except Stopped:
            times += 1
    assert times >= 4
    assert fingerprint_of(run) == fingerprint_of(whole)


def test_several_seeds_go_on(tmp_path):
    """Each with its own ring, episode and journal."""
    changes = {**PLAN, "seeds": [3, 0]}
    whole = train(tmp_path / "whole", **changes)
    run = stopped(tmp_path / "r", 9, seeds=[3, 0])
    fp.resume(run)
    assert list(parts_of(run)) == list(parts_of(whole))


def test_the_fingerprint_sees_one_row_and_one_counter(whole, tmp_path):
    """One bit of one replay row, one line of a log: another hash. It can fail."""
    shutil.copytree(whole.path, tmp_path / "r")
    run = fp.Run(tmp_path / "r")
    assert fingerprint_of(run) == fingerprint_of(whole)
    for name in ("replay/seed-0/rows-000000000000.bin", "metrics.jsonl"):
        good = (run.path / name).read_bytes()
        bad = good.replace(b'"updates": 20', b'"updates": 21') if name[0] == "m" else None
        (run.path / name).write_bytes(bad or bytes([good[0] ^ 1]) + good[1:])
        assert fingerprint_of(run) != fingerprint_of(whole)
        (run.path / name).write_bytes(good)


def test_without_a_checkpoint_it_begins_again(whole, tmp_path):
    """A run killed before its first checkpoint; what its logs had is made again."""
    run = stopped(tmp_path / "r", 1)
    shutil.rmtree(run.checkpoints)
    watch = StopAt(0)
    fp.resume(run, watch=watch)
    assert any("begins again" in text for text in watch.said)
    assert fingerprint_of(run) == fingerprint_of(whole)


@pytest.mark.parametrize(
    "what",
    [
        "state.safetensors",
        "rows",
        pytest.param("loop.safetensors", marks=pytest.mark.slow),
        pytest.param("meta.json", marks=pytest.mark.slow),
    ],
)
def test_from_an_altered_checkpoint_back_to_the_one_before(whole, tmp_path, what):
    """The newest is put aside, the reason said; rows the older one does not need are cut."""
    run = stopped(tmp_path / "r", 16)
    newest = checkpoint.checkpoints(run.checkpoints)[-1]
    path = newest / what
    if what == "rows":
        path = run.journal(0) / "rows-000000000000.bin"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    watch = StopAt(0)
    fp.resume(run, watch=watch)
    assert any(path.name in text and "passed over" in text for text in watch.said)
    assert (run.checkpoints / f".refused-{newest.name}").is_dir()
    assert fingerprint_of(run) == fingerprint_of(whole)


def test_a_log_that_was_edited_is_not_built_on(tmp_path):
    """Every checkpoint that speaks of the line is passed over; here that is all of them."""
    run = stopped(tmp_path / "r", 6)
    text = (run.path / "evaluations.csv").read_text()
    (run.path / "evaluations.csv").write_text(text.replace("offline,10", "offline,11"))
    with pytest.raises(CorruptFile, match=r"evaluations\.csv: lines were changed"):
        fp.resume(run)


def test_a_finished_run_is_left_alone(whole, tmp_path):
    """Nothing is written, and that is said."""
    shutil.copytree(whole.path, tmp_path / "r")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*.json*")}
    watch = StopAt(0)
    fp.resume(tmp_path / "r", watch=watch)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*.json*")} == before
    assert "finished" in watch.said[0]


def test_one_writer_a_run(tmp_path):
    """A second one is refused, by the number of the first; no run, no lock left behind."""
    run = stopped(tmp_path / "r", 1)
    with only_writer(run.path), pytest.raises(Busy, match=f"number {os.getpid()}"):
        fp.resume(run)
    with pytest.raises(MissingData):
        fp.resume(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_other_rows_are_refused(tmp_path):
    """A data set under the same name that holds other rows; both sums are told."""
    run = stopped(tmp_path / "r", 2)
    other = runs.PointMassTask(rows=301).dataset()
    with pytest.raises(InvalidData, match=r"was trained on other rows: .*SHA-256"):
        fp.resume(run, other)


def test_another_machine_is_told(tmp_path, monkeypatch, whole):
    """Refused with what differs; gone on with where that is allowed."""
    run = stopped(tmp_path / "r", 3)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " ")
    with pytest.raises(Inexact, match=r"xla_flags was .* and is .*--allow-inexact"):
        fp.resume(run)
    watch = StopAt(0)
    fp.resume(run, watch=watch, allow_inexact=True)
    assert any("xla_flags" in text for text in watch.said)
    assert run.load()[1]["updates"] == whole.load()[1]["updates"]


class Moody(PointMass):
    """Does not repeat itself while ``calm`` is False."""

    calm = True

    def step(self, action):
        step = super().step(action)
        return step if type(self).calm else step._replace(obs=step.obs + np.float32(0.01))


@fp.register("moody")
@dataclasses.dataclass(frozen=True)
class MoodyTask(runs.PointMassTask):
    def env(self):
        return Moody()


def test_an_environment_that_does_not_repeat_itself(tmp_path, monkeypatch):
    """Refused; where that is allowed, the episode ends where its rows do, also after a resume."""
    run = stopped(tmp_path / "r", 12, task=MoodyTask(rows=300))
    monkeypatch.setattr(Moody, "calm", False)
    with pytest.raises(Inexact, match="played again, is another one"):
        fp.resume(run)
    with pytest.raises(Stopped):
        fp.resume(run, watch=StopAt(2), allow_inexact=True)
    meta = checkpoint.read(checkpoint.checkpoints(run.checkpoints)[-1]).meta
    ((cut,),) = meta["cuts"]
    assert 0 < cut < 30
    monkeypatch.setattr(Moody, "calm", True)
    fp.resume(run, allow_inexact=True)
    assert run.status()["state"] == "finished"


def test_the_rings_come_back_as_they_were(tmp_path, monkeypatch):
    """A ring that is full and has wrapped, made again of the journal: leaf by leaf what it was.

    The eighth chunk is lost with its episode: that ends at row 13, in the ring at place 13.
    """
    seen, chunks = [], []
    real, play = Loop.go, Local.play

    def lose(self, actions):
        chunks.extend([0] if 0 in actions else [])  # evaluations have environments of their own
        return {0: None} if 0 in actions and len(chunks) == 8 else play(self, actions)

    monkeypatch.setattr(Local, "play", lose)

    def look(loop):
        if loop.rings is not None:  # a copy: the loop gives its buffers away
            seen.append(jax.tree.map(np.array, loop.rings))

    def go(self):
        look(self)
        try:
            return real(self)
        finally:
            look(self)

    monkeypatch.setattr(Loop, "go", go)
    run = stopped(tmp_path / "r", 16)
    assert int(seen[0].written[0]) > PLAN["capacity"]
    fp.resume(run)
    was, now = seen[:2]
    assert np.flatnonzero(was.rows.ended[0]).tolist() == [13]
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), was, now)
    assert all(jax.tree.leaves(same))


def test_a_branch_of_arrays_is_its_own():
    """Entries of an observation may be called as branches are, or be numbers; a typed key's name
    has its implementation before it."""
    names = (
        "['memory'].count",
        "key<threefry2x32>:['memory'].key",
        "['recorded']['0']['obs']['memory']",
        "['recorded']['1']['obs']['0']",
        "['blocks']['critic/loss']",
        "['recorded']['0']['obs']['blocks']",
    )
    arrays = {name: np.zeros(1) for name in names}
    assert set(_below("memory", arrays)) == {".count", "key<threefry2x32>:.key"}
    assert set(_below("blocks", arrays)) == {"['critic/loss']"}
    recorded = _below("recorded", arrays)
    assert set(_below("0", recorded)) == {"['obs']['memory']", "['obs']['blocks']"}
    assert set(_below("1", recorded)) == {"['obs']['0']"}


def test_the_command(whole, tmp_path, capsys):
    """``flowpolicy resume RUN``; without a run it says so in one line."""
    run = stopped(tmp_path / "r", 4)
    assert main(["resume", str(run.path), "--quiet"]) == 0
    assert "the run is in" in capsys.readouterr().out
    assert fingerprint_of(run) == fingerprint_of(whole)
    assert main(["resume", str(tmp_path / "nowhere")]) == 2
    assert "no run folder" in capsys.readouterr().err
