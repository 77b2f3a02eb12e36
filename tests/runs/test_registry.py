"""The named runs: each can be built, written, read, and is what its name says."""

import dataclasses

import pytest

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.agents.base import AgentConfig
from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.runs.registry import TASKS, summary
from flowpolicy.train.task import Task
from flowpolicy.values import mean, member, minimum


def test_every_run_can_be_built_written_and_read():
    """As JSON and as text; its agent and task are what the loop asks for."""
    names = runs.names()
    assert len(names) == len(set(names)) > 200
    for name in names:
        run = runs.get(name)
        assert run.name == name
        assert summary(name) == run.summary
        assert isinstance(run.config.agent, AgentConfig)
        assert isinstance(run.config.task, Task)
        assert run.config.task.name in (name.rsplit("/", 1)[-1], "point-mass")
    for name in ("toy/fmq", "fmq/cube-single-task1", "mini/bc/scene-task5"):
        config = runs.get(name).config
        assert parts.decode(parts.encode(config)) == config
        assert parts.parse(parts.describe(config)) == config


def test_the_papers_setting():
    """A million updates, a million steps, 5 000 without updates; best-of-32, or one sample."""
    config = runs.get("fmq/cube-double-task3").config
    assert config.phases == (
        fp.Offline(1_000_000), fp.Online(1_000_000, updates_per_step=1, start_after=5_000),
    )  # fmt: skip
    assert (config.batch, config.evaluation.every, config.evaluation.episodes) == (256, 100_000, 50)
    agent = config.agent
    assert (agent.chunk, agent.discount, agent.ensemble, agent.tau) == (5, 0.99, 2, 0.005)
    assert (agent.act, agent.bootstrap) == (BestOfN(32), BestOfN(32))
    assert (agent.actor.width, agent.actor.depth) == (512, 4)
    assert (agent.gradient, agent.aggregate_online) == (member(0), minimum)
    single = runs.get("fmq-single/cube-double-task3").config
    assert dataclasses.replace(single.agent, act=agent.act) == agent
    assert single.agent.act == OneStep()
    released = runs.get("fmq-released/cube-double-task3").config.agent
    assert (released.aggregate_offline, released.clip_endpoint) == (mean, True)
    assert (agent.aggregate_offline, agent.clip_endpoint) == (minimum, False)


def test_every_task_has_every_family():
    """Forty tasks of OGBench, seven families, and the toy."""
    assert len(TASKS) == 40
    assert len([name for name in runs.names() if name.endswith("/puzzle-3x3-task4")]) == 7


def test_unknown_and_taken_names():
    """The nearest names are suggested; a name is given once."""
    with pytest.raises(UnknownName, match="did you mean 'fmq/cube-single-task1'"):
        runs.get("fmq/cube-singel-task1")
    with pytest.raises(InvalidConfig, match="already registered"):
        runs.add("toy/fmq", "", lambda: runs.get("toy/fmq").config)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"batch": 0}, "batch"),
        ({"capacity": -1}, "capacity"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"seeds": ()}, "distinct"),
        ({"phases": ()}, "at least one phase"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(change, what):
    """By name of the field."""
    with pytest.raises(InvalidConfig, match=what):
        dataclasses.replace(runs.get("toy/fmq").config, **change)


def test_phases_are_checked():
    """Steps below 0, no updates per step."""
    for build in (
        lambda: fp.Offline(-1), lambda: fp.Online(-1), lambda: fp.Online(updates_per_step=0),
    ):  # fmt: skip
        with pytest.raises(InvalidConfig, match=r"at least 0|>= 0"):
            build()


def test_the_toy_task_gives_rows_and_environments_that_fit():
    """Rows of real episodes with ends and successes, the same for the same seed."""
    task = runs.get("toy/fmq").config.task
    data, env = task.dataset(), task.env()
    assert (data.obs_shape, data.action_size) == (env.obs_shape, env.action_size)
    assert data.rows.terminated.sum() > 10
    assert (data.rows.ended & ~data.rows.terminated).sum() > 10
    assert task.dataset() is data
    assert len(runs.PointMassTask(rows=50, seed=1).dataset()) == 50
