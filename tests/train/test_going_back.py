"""What follows on bad updates: one seed goes back, one of several is frozen, healthy runs go on."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from small_runs import QUIET, agents, train
from test_resume import StopAt
from whole_state import parts_of

import flowpolicy as fp
from flowpolicy.envs.toy import PointMass, point_mass_data
from flowpolicy.nets import LARGEST
from flowpolicy.train.guards import Guard, trainables
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.sentinel import Sentinel
from flowpolicy.train.stop import Stopped

PLAN = {
    "phases": (fp.Offline(20), fp.Online(50, start_after=7)),
    "checkpoint_every": 5,
    "block": 5,
    "keep": 3,
    "evaluation": Evaluation(every=0, final_episodes=1),
    "guard": Guard(in_a_row=1, rollbacks=60, value_limit=1e37),
}


def poisoned():
    """Rows of which three have a reward of 1e30, whose square overflows."""
    rows = fp.Dataset.from_arrays(**point_mass_data(500, 0)).rows
    reward = np.array(rows.reward)
    reward[[77, 160, 300]] = 1e30
    return fp.Dataset.from_rows(dataclasses.replace(rows, reward=reward), {})


def told(run):
    """Why it went back, line by line."""
    path = run.path / "rollbacks.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def back(tmp_path_factory):
    """A run that meets a poisoned row now and then, each time goes back, and comes to its end."""
    watch = StopAt(0)
    run = train(tmp_path_factory.mktemp("back") / "r", data=poisoned(), watch=watch, **PLAN)
    return run, watch.said


def test_a_run_goes_back_and_on_with_other_numbers(back):
    """From the newest checkpoint, logs and rows cut to it, the episode in flight played again with
    the numbers it began with, and to its end."""
    run, said = back
    went = told(run)
    assert len(went) >= 2
    assert any(line["updates"] > 20 for line in went), went
    assert all("not finite" in line["why"] for line in went)
    _, meta = run.load()
    assert (run.status()["state"], meta["attempt"]) == ("finished", len(went))
    assert not [text for text in said if "not as it would have been" in text]
    updates = [line["updates"] for line in run.metrics() if "critic/loss" in line]
    assert updates == sorted(set(updates))
    assert meta["env_steps"] == [50]
    assert meta["updates"] == 20 + 42


@pytest.mark.parametrize("n", [7])
def test_a_run_that_goes_back_can_be_stopped_too(back, tmp_path, n):
    """Stopped at every n-th block or tick it ends, and goes back, as if it had not been."""
    run, _ = back
    try:
        train(tmp_path / "r", data=poisoned(), watch=StopAt(n), **PLAN)
    except Stopped:
        pass
    other = fp.Run(tmp_path / "r")
    while not other.status():
        try:
            fp.resume(other, poisoned(), watch=StopAt(n))
        except Stopped:
            pass
    assert told(other) == told(run)
    assert list(parts_of(other)) == list(parts_of(run))


@fp.register("one_of_two")
@dataclasses.dataclass(frozen=True)
class OneOfTwo:
    """Two point masses; the second one's tenth step is worth ``reward``."""

    reward: float = -1.0
    name = "one-of-two"
    playable = True
    made = []  # noqa: RUF012

    def dataset(self):
        return fp.Dataset.from_arrays(**point_mass_data(200, 0))

    def env(self):
        self.made.append(0)
        spoiled, reward = len(self.made) % 2 == 0, self.reward

        class Env(PointMass):
            def step(self, action):
                step = super().step(action)
                return step._replace(reward=reward) if spoiled and self._steps == 10 else step

        return Env()


def pair(out, reward, watch=None):
    """Two seeds, of which the second's environment is spoiled."""
    phases = (fp.Offline(10), fp.Online(30, start_after=3))
    return train(
        out, task=OneOfTwo(reward), seeds=[3, 5], phases=phases, evaluation=QUIET,
        checkpoint_every=10, watch=watch,
    )  # fmt: skip


def test_of_two_seeds_one_is_frozen_and_the_other_goes_on_to_the_bit(tmp_path):
    """The frozen one keeps its agent, gets zeros as actions, and is reported."""
    watch = StopAt(0)
    healthy, run = pair(tmp_path / "h", -1.0), pair(tmp_path / "r", 1e9, watch)
    status = run.status()
    assert status["state"] == "finished"
    assert list(status["diverged"]) == ["5"]
    assert "rewards of size 1e+09" in status["diverged"]["5"]
    assert any("seed 5 diverged and is frozen" in x and "--seed 5" in x for x in watch.said)
    for a, b in zip(*(jax.tree.leaves(agents(x)) for x in (healthy, run)), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    count = agents(run).count
    assert (int(count[0]), int(count[1])) == (36, 16)  # ten offline, ticks 3 to 5
    rows = [x.path / "replay" / "seed-3" / "rows-000000000000.bin" for x in (healthy, run)]
    assert rows[0].read_bytes() == rows[1].read_bytes()
    lines = [
        [
            {name: value for name, value in line.items() if name != "seconds"}
            for line in x.metrics()
            if line.get("seed") == 3
        ]
        for x in (healthy, run)
    ]
    assert lines[0] == lines[1]
    last = [line for line in run.metrics() if line.get("seed") == 5 and "guard/bad" in line][-1]
    assert last["guard/frozen"] == 1.0
    assert "critic/loss" not in last


def test_guards_change_no_number(tmp_path):
    """Of a healthy run: parameters, moments and metrics are those of a run without guards."""
    phases = (fp.Offline(20), fp.Online(20, start_after=4))
    runs = [
        train(tmp_path / name, phases=phases, evaluation=QUIET, guard=guard)
        for name, guard in (("on", Guard()), ("off", None))
    ]
    on, off = (agents(run) for run in runs)
    for (path, a), b in zip(
        jax.tree_util.tree_flatten_with_path(on)[0], jax.tree.leaves(off), strict=True
    ):
        if not jax.tree_util.keystr(path).endswith(".limit"):
            np.testing.assert_array_equal(a, b)
    assert all(float(x.limit[0]) < LARGEST for x in trainables(on).values())
    one, two = ([x for x in run.metrics() if "critic/loss" in x] for run in runs)
    for a, b in zip(one, two, strict=True):
        assert a["guard/bad"] == 0.0
        for name in (k for k in b if "/" in k):
            assert a[name] == pytest.approx(b[name], rel=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fmq", *(f"{x}/unequal-modes" for x in ("qc", "fql", "rlpd"))])
def test_twenty_healthy_runs_raise_nothing(tmp_path, name, monkeypatch):
    """Four methods, five seeds each, 500 updates offline and 300 online, default guards: not one
    bad update, while every block was looked at and every limit set."""
    looked = []
    read = Sentinel.read
    monkeypatch.setattr(
        Sentinel, "read", lambda *a, **k: (looked.append(a[2].faults.size), read(*a, **k))
    )
    phases = (fp.Offline(500), fp.Online(300, start_after=0))
    run = fp.train(
        f"toy/{name}", phases=phases, seeds=range(5), evaluation=QUIET, out=tmp_path / "r"
    )
    assert run.status() == {"state": "finished", "updates": run.load()[1]["updates"]}
    assert sum(looked) == 5 * run.load()[1]["updates"]
    assert all(line["guard/bad"] == 0.0 for line in run.metrics() if "guard/bad" in line)
    for node in trainables(agents(run)).values():
        assert (node.limit < LARGEST).all()
    assert not (run.path / "reproductions").exists()
