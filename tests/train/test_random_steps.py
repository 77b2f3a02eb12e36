"""The first steps of an online phase may be uniform, whatever the agent is."""

import numpy as np
import pytest
import small_runs as small

import flowpolicy as fp
from flowpolicy.agents import SFP
from flowpolicy.data.replay import OfflineShare
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPGaussian, MLPVelocity
from flowpolicy.train import online
from flowpolicy.train.random import random_chunk


def test_random_chunks_are_uniform_and_repeatable():
    """A function of (seed, tick). Two moments of 8 000 numbers within 5 sigma: a false
    alarm in 1e-6 of such tests, were the seeds others."""
    numbers = np.concatenate(
        [random_chunk(seed, tick, 4) for seed in (0, 1) for tick in range(1000)]
    )
    assert numbers.dtype == np.float32
    assert np.abs(numbers).max() <= 1
    assert abs(numbers.mean()) < 5 * np.sqrt(1 / 3 / numbers.size)
    assert abs(np.square(numbers).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / numbers.size)
    assert np.unique(numbers).size > 7900
    np.testing.assert_array_equal(random_chunk(3, 7, 4), random_chunk(3, 7, 4))


@pytest.fixture
def executed(monkeypatch):
    """The chunks that environments are given, one array of (seeds, h, action) a tick."""
    chunks = []
    step = online.Stepper.step

    def spy(self, given, limit):
        chunks.append(np.array(given))
        return step(self, given, limit)

    monkeypatch.setattr(online.Stepper, "step", spy)
    return chunks


def test_random_steps_come_first_and_end(executed, tmp_path):
    """5 of 12 steps in chunks of 2: the first 3 ticks are random, the rest the agent's own.

    Each seed has its own; without random steps the later chunks are those of a run that had none
    as long as nothing is learned.
    """
    common = {"seeds": (4, 5), "evaluation": small.QUIET}
    phase = {"env_steps": 12, "start_after": 100}
    small.train(tmp_path / "a", phases=(fp.Online(**phase, random_steps=5),), **common)
    ticks = len(executed)
    small.train(tmp_path / "b", phases=(fp.Online(**phase),), **common)
    first, second = executed[:ticks], executed[ticks:]
    assert ticks == len(second) == 6
    for tick in range(6):
        for i, seed in enumerate((4, 5)):
            uniform = random_chunk(seed, tick, 4).reshape(2, 2)
            assert np.array_equal(first[tick][i], uniform) == (tick < 3)
            assert not np.array_equal(second[tick][i], uniform)


def test_rlpd_runs_from_its_first_step(tmp_path):
    """No offline phase, random steps, half of each batch offline; it is evaluated and loaded."""
    agent = fp.RLPD(
        chunk=2,
        bc=0.01,
        ensemble=2,
        actor=MLPGaussian(width=8, depth=1),
        critic=MLPCritic(width=8, depth=1),
    )
    config = fp.RunConfig(
        agent=agent,
        task=small.TINY["task"],
        phases=(fp.Online(40, start_after=10, random_steps=10),),
        batch=8,
        evaluation=small.TINY["evaluation"],
        draw=OfflineShare(0.5),
    )
    run = fp.train(config, out=tmp_path / "run")
    assert len(run.evaluations()) == 1
    assert small.lines(run, "rlpd/temperature")
    assert fp.Policy.load(run.path).act([0.5, 0.5]).shape == (2, 2)
    assert fp.evaluate(run, episodes=1, write=False).nfe == 1


def test_an_agent_that_remembers_its_actions_takes_none(tmp_path):
    """Before anything is trained or written: the flow of SFP goes on from its last action."""
    config = fp.RunConfig(
        agent=SFP(horizon=4, execute=2, actor=MLPVelocity(width=8, depth=1)),
        task=small.TINY["task"],
        phases=(fp.Offline(20), fp.Online(20, random_steps=5)),
    )
    with pytest.raises(InvalidConfig, match=r"online\.random_steps must be 0 for sfp, got 5"):
        fp.train(config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_negative_number_is_refused():
    """The message names the field."""
    with pytest.raises(InvalidConfig, match="random_steps"):
        fp.Online(10, random_steps=-1)
