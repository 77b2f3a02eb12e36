"""Push-T's task and the collecting of its demonstrations; most of it without the simulator."""

import json
from pathlib import Path

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy import parts
from flowpolicy.cli import main
from flowpolicy.data.npz import sha256
from flowpolicy.data.record import read_record
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.randomness import seed_for
from flowpolicy.runs import pusht
from flowpolicy.runs.pusht import PushT, demonstrate_pusht, pusht_episode
from flowpolicy.train.task import Task, TellsFields


def test_it_is_a_task():
    task = PushT(rows=5)
    assert isinstance(task, Task)
    assert isinstance(task, TellsFields)
    assert parts.parse(parts.describe(task)) == task
    assert sum(entry.size for entry in task.fields()["obs"]) == 6
    assert fp.PushT is PushT


def test_where_there_are_none_it_says_how_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=r"pusht-scripted-500\.npz; .*demonstrate pusht --rows 5"):
        PushT(rows=500).dataset()
    with pytest.raises(MissingData, match=r"pusht --rows 20000 --out mine\.npz"):
        PushT(file="mine.npz").dataset()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episode i has 10 + i rows; 1 and 2 are not solved; no simulator is asked."""

    def play(noise: float, mistakes: float, seed: int, index: int):
        n, draws = 10 + index, np.random.default_rng(index)
        last = (np.arange(n) == n - 1).astype(np.float32)
        seen = draws.normal(size=(n + 1, 6)).astype(np.float32)
        return None if index in (1, 2) or noise == 1.0 else {
            "observations": seen[:-1],
            "actions": draws.uniform(-1, 1, (n, 2)).astype(np.float32),
            "rewards": draws.uniform(0, 1, n).astype(np.float32),
            "terminals": last,
            "masks": 1 - last,
            "next_observations": seen[1:],
        }  # fmt: skip

    monkeypatch.setattr(pusht, "pusht_episode", play)
    monkeypatch.setattr(pusht, "needs_pusht", lambda: None)


def test_collecting(tmp_path: Path, played, monkeypatch, capsys):
    """Whole solved episodes; the record is true; the command writes where the task looks."""
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    path, told = tmp_path / "a.npz", []
    record = demonstrate_pusht(
        20, path, workers=1, progress=lambda done, rows: told.append((done, rows))
    )
    assert (record["rows"], record["episodes"], record["unsolved_episodes"]) == (23, 2, 2)
    assert told == [(10, 20), (20, 20)]
    rows = PushT(file=str(path)).dataset().rows
    assert rows.terminated.tolist() == [i in (9, 22) for i in range(23)]
    written = json.loads(path.with_suffix(".json").read_text())
    assert written["files"]["a.npz"]["sha256"] == sha256(path)
    assert read_record(path) == written
    with pytest.raises(InvalidConfig, match="is there already"):
        demonstrate_pusht(20, path)

    assert main(["data", "demonstrate", "pusht", "--rows", "15", "--workers", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(PushT(rows=15).path)
    assert len(PushT(rows=15).dataset()) == 23
    assert PushT().path == PushT(rows=15).path  # as its own error advises
    assert not PushT(rows=14).path.exists()


def test_actions_may_be_where_the_finger_was_seen_next(tmp_path: Path, played):
    """Nothing else of the rows changes, and what they are is told to runs."""
    path = tmp_path / "a.npz"
    demonstrate_pusht(20, path, workers=1)
    aims, positions = (PushT(file=str(path), positions=p).dataset() for p in (False, True))
    seen = np.clip(aims.rows.next_obs[:, :2], -1, 1)
    np.testing.assert_array_equal(positions.rows.action, seen)
    for field in ("obs", "next_obs", "reward", "terminated", "ended"):
        one, other = (getattr(d.rows, field) for d in (aims, positions))
        np.testing.assert_array_equal(one, other)
    assert positions.record["actions"] == "positions"
    assert positions.record["rows_sha256"] != aims.record["rows_sha256"]


@pytest.mark.extras
def test_a_stiff_controller_reaches_positions():
    """A demonstration's own positions, given as actions, lead to nearly the same places; followed
    with gym-pusht's gains the finger stays behind."""
    pytest.importorskip("gym_pusht")
    episode = pusht_episode(0.01, 0.0, 0, 3)
    assert episode is not None
    wanted = np.clip(episode["next_observations"][:, :2], -1, 1)
    off = []
    for positions in (True, False):
        env = PushT(positions=positions).env()
        env.reset(seed_for(0, 3))
        seen = np.stack([env.step(action).obs[:2] for action in wanted[:30]])
        off.append(np.abs(seen - wanted[:30]).mean())
    assert off[0] < 0.5 * off[1]


def test_collecting_gives_up(tmp_path: Path, played, capsys):
    with pytest.raises(InvalidConfig, match="none of 20 episodes of pusht was solved with noise=1"):
        demonstrate_pusht(30, tmp_path / "a.npz", noise=1.0, workers=1)
    assert not list(tmp_path.iterdir())
    for wrong in ({"rows": 0}, {"seed": -1}, {"out": tmp_path / "a.hdf5"}, {"mistakes": 2.0}):
        with pytest.raises(InvalidConfig, match=next(iter(wrong))):
            demonstrate_pusht(**{"rows": 9, "out": tmp_path / "b.npz", **wrong})
    assert main(["data", "demonstrate", "pushed"]) == 2
    assert "did you mean 'pusht'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.extras
def test_an_episode_is_a_function_of_its_seed_and_number():
    pytest.importorskip("gym_pusht")
    one, again, other = (pusht_episode(0.01, 0.0, seed, 3) for seed in (0, 0, 1))
    assert one is not None
    assert again is not None
    assert other is not None
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(one["observations"][0], other["observations"][0])
    np.testing.assert_array_equal(one["next_observations"][:-1], one["observations"][1:])
    assert np.abs(one["actions"]).max() <= 1.0
    assert one["terminals"].tolist() == [0.0] * (len(one["terminals"]) - 1) + [1.0]
