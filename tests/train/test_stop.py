"""Ctrl-C and SIGTERM: a checkpoint is written, ``Stopped`` is raised, nothing waits or is lost."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import OFFLINE, train

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.envs.toy import PointMass
from flowpolicy.refine import BestOfN
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.stop import Stopped, stop_on_signal

HERE = Path(__file__).parent

CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import flowpolicy as fp
from flowpolicy.train.stop import Stopped
from flowpolicy.train.watch import Silent
from small_runs import QUIET, train

class Marker(Silent):
    def advance(self, done):
        if done >= 20:
            print("ready", flush=True)

phase = fp.Offline(10_000_000) if sys.argv[3] == "offline" else fp.Online(10_000_000, start_after=0)
try:
    train(sys.argv[2], phases=(phase,), evaluation=QUIET, watch=Marker(), capacity=100)
except Stopped as stopped:
    print(json.dumps({"signal": stopped.signal, "message": str(stopped)}))
"""


@pytest.mark.parametrize(
    ("phase", "number"), [("offline", signal.SIGINT), ("online", signal.SIGTERM)]
)
def test_a_signal_leaves_a_checkpoint(tmp_path, phase, number):
    """Sent when the child says that it is training; the policy of the folder loads and acts."""
    command = [sys.executable, "-c", CHILD, str(HERE), str(tmp_path / "r"), phase]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        told = [line for line in child.stdout if line != "ready\n"]
    assert child.returncode == 0
    record = json.loads(told[-1])
    assert record["signal"] == number
    assert f"stopped by signal {int(number)}" in record["message"]
    (saved,) = (tmp_path / "r" / "checkpoints").iterdir()
    assert str(saved) in record["message"]
    _, meta = fp.Run(tmp_path / "r").load()
    at = meta["position"]
    assert at["phase"] == 0
    assert at["done"] >= 20
    if phase == "offline":
        assert meta["updates"] == at["done"]
    else:
        assert meta["env_steps"] == [at["done"]]
    assert fp.Policy.load(tmp_path / "r").act([0.5, 0.5]).shape == (2, 2)


class Signalling(PointMass):
    """Asks for a stop in the middle of an episode."""

    def step(self, action):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().step(action)


@fp.register("signalling")
@dataclasses.dataclass(frozen=True)
class SignallingTask(runs.PointMassTask):
    def env(self):
        return Signalling()


@pytest.mark.parametrize(("every", "done"), [(10, (0, 10)), (0, (0, 20))])
def test_a_signal_does_not_wait_for_an_evaluation(tmp_path, every, done):
    """One within a phase and the one at its end are given up; a checkpoint is there, no row is."""
    evaluation = Evaluation(every=every, episodes=2, final_episodes=2, side_by_side=1)
    with pytest.raises(Stopped) as stopped:
        train(tmp_path / "r", phases=OFFLINE, evaluation=evaluation, task=SignallingTask(rows=300))
    run = fp.Run(tmp_path / "r")
    _, meta = run.load()
    assert (meta["position"]["phase"], meta["position"]["done"]) == done
    assert stopped.value.signal == signal.SIGTERM
    assert not list(run.evaluations())


class Late(PointMass):
    """Asks for a stop as the third episode of a process begins."""

    begun = 0

    def reset(self, seed):
        Late.begun += 1
        if Late.begun == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().reset(seed)


@fp.register("late")
@dataclasses.dataclass(frozen=True)
class LateTask(runs.PointMassTask):
    def env(self):
        return Late()


def test_an_evaluation_that_is_stopped_at_its_second_refiner_is_told_once(tmp_path):
    """What the agent's own way had played is not written twice by the run that goes on."""
    evaluation = Evaluation(
        every=0, final_episodes=2, side_by_side=1, refiners=(BestOfN(2),)
    )  # fmt: skip
    with pytest.raises(Stopped):
        train(tmp_path / "r", phases=OFFLINE, evaluation=evaluation, task=LateTask(rows=300))
    run = fp.Run(tmp_path / "r")
    assert not list(run.evaluations())
    fp.resume(run)
    told = [(row.refiner, row.episodes) for row in run.evaluations()]
    assert told == [("own", 2), (parts.describe(BestOfN(2)), 2)]


def test_handlers_are_put_back():
    """Within the context the first signal sets a flag, a second SIGINT interrupts; after it the
    handlers are those from before."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stop:  # noqa: PT012
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_stopped_is_one_of_ours():
    """Caught with the library's errors; it carries the number for an exit status."""
    stopped = Stopped("text", signal.SIGTERM)
    assert isinstance(stopped, fp.FlowPolicyError)
    assert (str(stopped), stopped.exit_code) == ("text", 75)
    assert Stopped("text", signal.SIGINT).exit_code == 130
