"""Agents that FMQ is compared with, as runs: n-step returns, what a jump costs, refusals."""

import numpy as np
import pytest
from small_runs import TINY

import flowpolicy as fp
from flowpolicy.agents import bfn_n
from flowpolicy.agents.base import REFINABLE
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, MLPVelocity, Plain

RUN = {k: TINY[k] for k in ("task", "phases", "batch", "block", "checkpoint_every", "evaluation")}
OBS = np.array([0.3, -0.8], np.float32)


@pytest.fixture(scope="module")
def n_step(tmp_path_factory):
    """BFN-n: windows of 3 rows, single actions, best of 2, in 4 Euler steps."""
    nets = {"actor": MLPVelocity(width=8, depth=1), "critic": MLPCritic(width=8, depth=1)}
    agent = bfn_n(n=2, horizon=3, steps=4, **nets)
    return fp.train(agent, out=tmp_path_factory.mktemp("n_step") / "r", **RUN)


def test_n_step_returns_execute_one_action_a_call(n_step):
    """One action per call in acting and collecting; a tick is one step, followed by one update."""
    policy = fp.Policy.load(n_step.path)
    chunk = policy.act(OBS)
    assert (policy.horizon, chunk.shape) == (1, (1, 2))
    act = policy.session()
    assert not np.array_equal(act(OBS), act(OBS))  # planned anew at every step
    meta = n_step.load()[1]
    assert meta["env_steps"] == [60]
    assert meta["updates"] == 20 + 59  # the first step has no rows before it
    assert [row.step for row in n_step.evaluations()] == [20, 60]


def test_results_count_evaluations_of_the_net(n_step):
    """N candidates of 4 Euler steps each, whichever refiner acts."""
    assert fp.evaluate(n_step, episodes=1, write=False).nfe == 2 * 4
    search = fp.qgbs(beam=2, branches=2)
    assert fp.evaluate(n_step, search, episodes=1, write=False).nfe == (2 + 4) * 4


def test_refiners_that_need_a_critic_are_refused_where_there_is_none(tmp_path):
    """Before anything is played, by the names of the agents that have both."""
    nets = {"chunk": 2, "actor": MLPFlow(width=8, depth=1, embed=Plain())}
    run = fp.train(fp.BC(**nets), out=tmp_path / "r", **{**RUN, "phases": (fp.Offline(10),)})
    before = run.evaluations()
    for ask in (
        lambda: fp.evaluate(run, fp.qgbs(), episodes=1),
        lambda: fp.Policy.load(run.path, refiner=fp.best_of_n(n=2)),
    ):
        with pytest.raises(InvalidConfig, match=f"bc has no critic.*both: {', '.join(REFINABLE)}"):
            ask()
    assert run.evaluations() == before
    assert fp.evaluate(run, fp.one_step(), episodes=1, write=False).nfe == 1
