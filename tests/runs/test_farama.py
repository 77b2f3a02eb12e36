"""Tasks of Gymnasium: as data, and trained without any."""

import re
import runpy
from pathlib import Path

import pytest

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.agents import RLPD
from flowpolicy.envs.base import Env
from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.nets import MLPCritic, MLPGaussian
from flowpolicy.train.phases import Evaluation, RunConfig
from flowpolicy.train.task import Task

TINY = RLPD(
    ensemble=2, actor=MLPGaussian(width=8, depth=1), critic=MLPCritic(width=8, depth=1)
)  # fmt: skip


def _config(*phases: fp.Online | fp.Offline) -> RunConfig:
    return RunConfig(
        agent=TINY,
        task=fp.Gymnasium("Pendulum-v1", max_steps=10),
        phases=phases,
        batch=8,
        evaluation=Evaluation(every=0, final_episodes=3, side_by_side=2),
    )


def test_a_task_is_data():
    """Written and read; it makes environments and has no rows."""
    task = fp.Gymnasium("Pendulum-v1", max_steps=10)
    assert isinstance(task, Task)
    assert parts.parse(parts.describe(task)) == task == parts.decode(parts.encode(task))
    assert (task.name, task.playable, task.dataset()) == ("Pendulum-v1", True, None)
    env = task.env()
    assert isinstance(env, Env)
    assert env.max_steps == 10
    assert runs.get("rlpd/HalfCheetah-v5").config.task == fp.Gymnasium("HalfCheetah-v5")


def test_a_run_without_data_trains_and_is_evaluated_again(tmp_path: Path):
    """Every row is the agent's own; the same checkpoint plays the same episodes once more."""
    run = fp.train(_config(fp.Online(25, start_after=12)), out=tmp_path / "run")
    (row,) = run.evaluations()
    again = fp.evaluate(run, episodes=3, write=False)
    assert run.record()["data"] is None
    assert (row.step, row.episodes, row.success, row.length) == (25, 3, 0.0, 10.0)
    assert row.returns < 0
    assert again.rows[0].returns == row.returns
    episodes = [line for line in run.metrics() if "episode/return" in line]
    assert [line["episode/length"] for line in episodes] == [10, 10]


def test_what_cannot_be_run(tmp_path: Path):
    """An offline phase without rows, before anything is written; names and spaces by the task."""
    with pytest.raises(InvalidConfig, match="needs data, and task 'Pendulum-v1' gives none"):
        fp.train(_config(fp.Offline(5)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UnknownName, match="did you mean 'Pendulum-v1'"):
        fp.Gymnasium("Pendulun-v1").env()
    with pytest.raises(InvalidConfig, match="must be a Box"):
        fp.Gymnasium("CartPole-v1").env()


def test_the_example_of_the_page_holds(tmp_path: Path):
    """docs/tasks.md, the block that is Python."""
    page = Path(__file__).parents[2] / "docs" / "tasks.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.S | re.M)
    assert "reward_shift" in block
    (tmp_path / "block.py").write_text(block, encoding="utf-8")
    runpy.run_path(str(tmp_path / "block.py"))
