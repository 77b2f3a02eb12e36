"""A robot as a task: one environment, nothing beside it, nothing played again; and its units."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from small_runs import QUIET, TINY, train

import flowpolicy as fp
from flowpolicy.agents import SFP
from flowpolicy.agents.sfp import Measured
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPVelocity
from flowpolicy.runs import PointMassTask
from flowpolicy.train.loop import Loop
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.random import Stream, episode_seed
from flowpolicy.train.stop import Stopped
from flowpolicy.train.watch import Silent

LOG = []  # what the robot was asked for, in order
COLLECTED = {episode_seed(0, Stream.EXPLORE, i) for i in range(100)}
TRIED = {episode_seed(0, Stream.EVALUATE, i) for i in range(100)}


class Arm(PointMass):
    """Writes down what it is asked for."""

    def __init__(self):
        super().__init__()
        LOG.append("made")

    def reset(self, seed):
        LOG.append("collect" if seed in COLLECTED else "try" if seed in TRIED else "other")
        return super().reset(seed)

    def step(self, action):
        LOG.append("step")
        return super().step(action)


@fp.register("one_arm")
@dataclasses.dataclass(frozen=True)
class ArmTask(PointMassTask):
    """A point mass that is there once."""

    @property
    def physical(self):
        return True

    def env(self):
        return Arm()


ARM = ArmTask(rows=300)
PLAN = {"task": ARM, "phases": (fp.Online(24, start_after=4),)}


def trials(log):
    """What stands behind each trial: the first word that is neither a trial's nor a step."""
    after = []
    for i, word in enumerate(log):
        if word == "try":
            rest = [w for w in log[i + 1 :] if w != "step"]
            after.append(rest[0] if rest else "end")
    return after


def test_a_robot_is_tried_between_what_it_collects(tmp_path):
    """One is made; after a trial the next word is a reset, and not the rest of an episode."""
    LOG.clear()
    evaluation = Evaluation(every=8, episodes=2, final_episodes=2)
    run = train(tmp_path / "r", evaluation=evaluation, **PLAN)
    assert LOG.count("made") == 1
    assert "other" not in LOG
    assert trials(LOG) == ["try", "collect", "try", "collect", "try", "end"]
    meta = run.load()[1]
    assert (meta["env_steps"], meta["cuts"], meta["stepper"]["episodes"]) == ([24], [[7, 15]], [2])
    first = LOG.index("try")
    assert LOG[:first].count("step") == 8


class StopAt(Silent):
    """Asks for a stop once so many steps are made."""

    def advance(self, done):
        if done >= 10:
            os.kill(os.getpid(), signal.SIGTERM)


def test_no_action_of_a_robot_is_played_again(tmp_path):
    """A run that goes on begins an episode, and is no less exact for it."""
    LOG.clear()
    with pytest.raises(Stopped):
        train(tmp_path / "r", watch=StopAt(), evaluation=QUIET, **PLAN)
    assert LOG.count("step") == 10
    LOG.clear()
    run = fp.resume(fp.Run(tmp_path / "r"))
    assert [word for word in LOG if word != "step"] == ["made", "collect"]
    assert LOG.count("step") == 14
    meta = run.load()[1]
    assert (meta["env_steps"], meta["cuts"], meta["stepper"]["episodes"]) == ([24], [[9]], [1])


def test_what_is_broken_off_ends_in_the_ring(tmp_path, monkeypatch):
    """At rows 7 and 15 by trials; at row 9 by a stop, once the run goes on."""
    ends, real = [], Loop.go

    def look(loop):
        if loop.rings is not None:
            ends.append(np.flatnonzero(loop.rings.rows.ended[0]).tolist())

    def go(loop):
        look(loop)
        try:
            return real(loop)
        finally:
            look(loop)

    monkeypatch.setattr(Loop, "go", go)
    evaluation = Evaluation(every=8, episodes=1, final_episodes=0)
    with pytest.raises(Stopped):
        train(tmp_path / "r", watch=StopAt(), evaluation=evaluation, **PLAN)
    fp.resume(fp.Run(tmp_path / "r"))
    assert ends == [[7], [7, 9], [7, 9, 15]]


def test_evaluating_moves_one_robot_and_a_report_none(tmp_path):
    """Episode after episode; the page says why it shows none."""
    run = train(tmp_path / "r", evaluation=QUIET, **PLAN)
    LOG.clear()
    result = fp.evaluate(run, episodes=3)
    assert result.rows[0].episodes == 3
    assert [word for word in LOG if word != "step"] == ["made", "try", "try", "try"]
    LOG.clear()
    page = fp.report(run).read_text(encoding="utf-8")
    assert "is a robot, and nothing is played on it" in page
    assert not LOG


@pytest.mark.parametrize("wrong", [{"seeds": (0, 1)}, {"hardware": fp.Hardware(workers=1)}])
def test_a_robot_has_one_seed_and_no_workers(tmp_path, wrong):
    """There is one of it."""
    with pytest.raises(InvalidConfig, match="is a robot: it needs one seed and no workers"):
        train(tmp_path / "r", **PLAN, **wrong)


def test_own_data_are_of_a_robot_where_their_world_is(tmp_path):
    """The world says it."""
    assert fp.OwnData("rows.npz", world=ARM).physical
    assert not fp.OwnData("rows.npz", world=PointMassTask()).physical
    assert not fp.OwnData("rows.npz").physical


@pytest.fixture
def recorded(tmp_path):
    """Rows whose actions lie in [-0.5, 0.5]."""
    draws = np.random.default_rng(0)
    np.savez(
        tmp_path / "own.npz",
        observations=draws.normal(size=(60, 2)).astype(np.float32),
        actions=draws.uniform(-0.5, 0.5, (60, 2)),
        rewards=np.zeros(60, np.float32),
        terminals=np.arange(60) % 20 == 19,
    )
    return tmp_path / "own.npz"


def test_an_environment_gets_the_units_of_the_data(recorded, tmp_path):
    """Scaled rows and an environment by hand are refused, with the way that scales both."""
    data = fp.load_data(recorded, actions=fp.action_min_max())
    with pytest.raises(InvalidConfig, match=r"units of their own.*task=fp\.OwnData"):
        train(tmp_path / "r", data=data, task=PointMassTask(), phases=TINY["phases"])
    task = fp.OwnData(str(recorded), actions=fp.action_min_max(), world=PointMassTask())
    train(tmp_path / "own", task=task, phases=(fp.Offline(2),), evaluation=QUIET)
    plain = fp.load_data(recorded)
    train(tmp_path / "as", data=plain, task=PointMassTask(), phases=(fp.Offline(2),))


def test_a_start_that_is_measured_has_no_units_of_its_own(recorded, tmp_path):
    """Entries of the observation would stand beside scaled actions."""
    task = fp.OwnData(str(recorded), actions=fp.action_min_max())
    agent = SFP(start=Measured((0, 1)), actor=MLPVelocity(width=8, depth=1))
    with pytest.raises(InvalidConfig, match="sfp: a trajectory begins at entries"):
        fp.train(agent, task=task, phases=[fp.Offline(2)], out=tmp_path / "r")


def test_worlds_with_a_box_of_their_own_are_not_given_units():
    """Gymnasium's environments scale what they get already."""
    with pytest.raises(InvalidConfig, match="scaled to a box of its own"):
        fp.OwnData("a.npz", actions=fp.action_min_max(), world=fp.Gymnasium("Pendulum-v1"))
    fp.OwnData("a.npz", world=fp.Gymnasium("Pendulum-v1"))
