"""The parts of ``flowpolicy bench`` at a size of seconds, and what the command writes."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy import cli
from flowpolicy.agents import FMQ
from flowpolicy.bench import actions, suite
from flowpolicy.bench.flops import Problem
from flowpolicy.bench.latency import latency
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow
from flowpolicy.refine import BestOfN

TINY = FMQ(
    chunk=2, bootstrap=BestOfN(2),
    actor=MLPFlow(width=8, depth=1), critic=MLPCritic(width=8, depth=1),
)  # fmt: skip
PROBLEM = Problem(obs=3, action=2, batch=4)


def test_both_back_ends_act_alike():
    """What is compared is the same work."""
    made = actions.actors(BestOfN(4), TINY, PROBLEM)
    assert list(made) == ["jax", "numpy"]
    obs = np.array([0.5, -1.0, 0.25], np.float32)
    policies = [actions.policy(actor)[0] for actor in made.values()]
    for policy in policies:
        policy.reset()
    np.testing.assert_allclose(*(policy.act(obs) for policy in policies), atol=1e-5)


def test_missed_deadlines_are_counted():
    found = actions.summary(np.array([0.001] * 98 + [0.021, 0.5]))
    assert (found["calls"], found["missed"]) == (100, 2)
    assert found["p50_ms"] == pytest.approx(1.0)
    assert found["max_ms"] == pytest.approx(500.0)


def test_steps_are_counted_over_the_ends_of_episodes():
    assert suite._steps_per_second(PointMass(), 100) > 0


def test_the_command_writes_strict_json(tmp_path, monkeypatch, capsys):
    """The table names what was measured; the file holds all of it."""
    ms = {"min": 1.0, "median": 2.0, "max": 3.0}
    one = {"p50_ms": 0.1, "p99_ms": 0.2, "first_ms": 0.3}
    results = {
        "machine": {"cpu": "a processor", "cores": 2, "device": "cpu", "load_before": 0.1},
        "peak": {"gflops": 200.0},
        "updates": {"FMQ": {"wall_ms": ms, "share_of_peak": 0.8}},
        "actions": {"one_step, numpy": one},
        "environment_steps_per_second": {"point-mass": 1e5},
        "loop": {"steps_per_second": 80.0, "updates": 0.7, "rest": 0.001},
    }
    asked = []

    def bench(told, *, quick):
        told("something")
        asked.append(quick)
        return results

    monkeypatch.setattr(suite, "bench", bench)
    file = tmp_path / "b.json"
    assert cli.main(["bench", "--quick", "--out", str(file)]) == 0
    assert asked == [True]
    assert json.loads(file.read_text()) == results
    out = " ".join(capsys.readouterr().out.split())
    assert "80 % of that product" in out
    assert "updates 70 %" in out
    assert "rest 0 %" not in out


@pytest.mark.parametrize("out", [".", "there.json", "no/folder/b.json"])
def test_where_numbers_cannot_be_written_is_told_before_they_are_measured(
    tmp_path, monkeypatch, capsys, out
):
    monkeypatch.setattr(suite, "bench", pytest.fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("{}")
    assert cli.main(["bench", "--out", out]) == 2
    assert "must be a file that is not there yet" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "there.json").read_text() == "{}"


def test_a_policy_s_calls_are_timed_without_an_environment():
    """Every call counts; the episode that was going on is forgotten."""
    policy = fp.Policy(actions.actors(BestOfN(4), TINY, PROBLEM)["numpy"])
    assert (policy.latencies(7) > 0).all()
    found = latency(policy, calls=20, deadline=1e-9)
    assert (found["calls"], found["missed"]) == (20, 20)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["p999_ms"] <= found["max_ms"]
    assert latency(policy, calls=20, deadline=60.0)["missed"] == 0
    for wrong in ({"calls": 0}, {"deadline": 0.0}, {"deadline": float("nan")}):
        with pytest.raises(InvalidConfig, match=f"{next(iter(wrong))} must be"):
            latency(policy, **wrong)


def test_latency_needs_no_jax():
    code = "import sys, flowpolicy.bench.latency; assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_tells_a_policy_s_latency(tmp_path, monkeypatch, capsys):
    """Of a run and of its package; nothing is written."""
    rows = np.zeros((20, 3), np.float32)
    data = fp.Dataset.from_arrays(
        obs=rows, action=rows[:, :2], reward=rows[:, 0], next_obs=rows,
        terminated=rows[:, 0] == 0, truncated=rows[:, 0] > 0,
    )  # fmt: skip
    agent = fp.BC(chunk=1, actor=MLPFlow(width=8, depth=1))
    run = fp.train(agent, data, phases=fp.Offline(1), batch=4, out=tmp_path / "r")
    folder = fp.package(run)
    monkeypatch.setattr(suite, "bench", pytest.fail)
    monkeypatch.chdir(tmp_path)
    ways = (
        [str(run.path)],
        [str(folder), "--backend", "numpy"],
        [str(run.path), "--refiner", "one_step"],
    )
    for way in ways:
        assert cli.main(["bench", "--policy", *way, "--calls", "5", "--deadline", "60"]) == 0
        out = capsys.readouterr().out
        assert re.search(r"p50 [\d.]+, p99 [\d.]+, p99.9 [\d.]+, max [\d.]+\n0 of 5 calls", out)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    for wrong, option in (("--calls 5", "--calls"), ("--policy r --quick", "--quick")):
        assert cli.main(["bench", *wrong.split()]) == 2
        assert f"{option} is for bench with" in " ".join(capsys.readouterr().err.split())
