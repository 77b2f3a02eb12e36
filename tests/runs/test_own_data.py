"""A data set by its path as a task: trained on, found again, its units undone at the end."""

import json
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowpolicy as fp
from data.own_files import write_own_npz
from flowpolicy import parts
from flowpolicy.cli import main
from flowpolicy.data.actions import ActionMinMax
from flowpolicy.data.chunk import Views, shorter_returns, whole_chunks
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.envs.toy import PointMass
from flowpolicy.envs.units import InUnits
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData
from flowpolicy.nets import MLPCritic, MLPFlow, MLPVelocity
from flowpolicy.refine import BestOfN
from flowpolicy.runs import OwnData, PointMassTask
from flowpolicy.train import attempts

TINY = [
    "--actor", "mlp_flow(width=8, depth=1)", "--critic", "mlp_critic(width=8, depth=1)",
    "--act", "best_of_n(n=2)", "--bootstrap", "best_of_n(n=2)", "--batch", "8", "--block", "2",
]  # fmt: skip
SCALE, SHIFT = np.array([5.0, 0.01]), np.array([2.0, -7.0])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Actions in the robot's own units."""
    path = tmp_path_factory.mktemp("own") / "a.npz"
    write_own_npz(path)
    write_own_npz(path, actions=np.load(path)["actions"] * SCALE + SHIFT)
    return path


def test_a_run_finds_its_rows_again_and_its_package_knows_the_units(path: Path, tmp_path: Path):
    task = OwnData(str(path), actions=ActionMinMax(), reward_shift=-1.0)
    assert parts.parse(parts.describe(task)) == task
    config = fp.RunConfig(
        agent=fp.BC(chunk=2, actor=MLPVelocity(width=8, depth=1)), task=task,
        phases=(fp.Offline(2),), batch=8, block=2,
    )  # fmt: skip
    run = fp.train(config, out=tmp_path / "run")
    fp.resume(run)
    folder = fp.package(run, numpy=False)
    wanted = ActionMinMax().units(np.load(path)["actions"])
    assert fp.action_units(run.path) == fp.action_units(folder) == wanted
    told = json.loads((folder / "config.json").read_text())["action"]
    assert told["action_units"] == wanted.record()
    assert "shift + scale * box" in (folder / "README.md").read_text()
    told["action_units"]["scale"] = [1.0]
    with pytest.raises(fp.FlowPolicyError, match="action_units must have 2"):
        fp.action_units(_with_action(folder, tmp_path / "altered", told))


def _with_action(folder: Path, copy: Path, action: dict) -> Path:
    copy.mkdir()
    config = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "action": action}))
    return copy


def test_the_world_is_played_in_the_data_s_units(path: Path):
    """A step with -1 or 1 is one with the least or the greatest recorded action."""
    task = OwnData(str(path), actions=ActionMinMax(), world=PointMassTask())
    env, bare = task.env(), PointMass()
    assert isinstance(env, InUnits)
    low, high = (f(np.load(path)["actions"], axis=0) for f in (np.min, np.max))
    for action, robot in ((-np.ones(2), low), (np.ones(2), high), (np.zeros(2), (low + high) / 2)):
        env.reset(3), bare.reset(3)
        one, other = env.step(action.astype(np.float32)), bare.step(robot.astype(np.float32))
        np.testing.assert_allclose(one.obs, other.obs, atol=1e-5)
    with pytest.raises(InvalidConfig, match="actions of size 2, the data of 3"):
        InUnits(PointMass(), ActionUnits.unchanged(3))


def test_without_a_world_nothing_is_played(path: Path):
    task = OwnData(str(path))
    assert (task.name, task.playable) == ("a.npz", False)
    with pytest.raises(MissingData, match=r"'a\.npz' has no environment"):
        task.env()
    with pytest.raises(InvalidConfig, match="must name a file"):
        OwnData("")
    with pytest.raises(InvalidConfig, match="must be a task"):
        OwnData("a", world=3)


def test_a_changed_file_is_read_again(tmp_path: Path):
    write_own_npz(tmp_path / "a.npz")
    task = OwnData(str(tmp_path / "a.npz"))
    first = task.dataset()
    assert task.dataset() is first
    write_own_npz(tmp_path / "a.npz", rewards=None)
    assert not task.dataset().rows.reward.any()
    write_own_npz(tmp_path / "a.npz", actions=np.full((30, 2), 9.0))
    with pytest.raises(InvalidData, match=r"a\.npz: action must lie"):
        task.dataset()


def test_a_folder_is_read_again_where_a_file_in_it_was_changed(tmp_path: Path):
    """In place: neither the folder's size nor its own time changes."""
    folder = tmp_path / "many"
    folder.mkdir()
    write_own_npz(folder / "a.npz", rewards=np.zeros(30, np.float32))
    before = os.stat(folder)
    task = OwnData(str(folder))
    assert not task.dataset().rows.reward.any()
    assert task.dataset() is task.dataset()
    write_own_npz(folder / "a.npz", rewards=np.ones(30, np.float32))
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert task.dataset().rows.reward.all()


def test_a_critic_that_no_chunk_would_teach_is_refused(tmp_path: Path):
    """Trajectories of 4 rows whose last one is dropped: what clones, or counts shorter returns, is
    trained on them, and what wants whole chunks of 4 would never learn a value.
    """
    rows = np.random.default_rng(0).uniform(-1, 1, (80, 2)).astype(np.float32)
    last = np.arange(80) % 4 == 3
    np.savez(tmp_path / "a.npz", observations=rows, actions=rows, terminals=last)
    data = fp.load_data(tmp_path / "a.npz")
    net, critic = MLPFlow(width=8, depth=1), MLPCritic(width=8, depth=1)
    how = {"phases": [fp.Offline(2)], "batch": 8, "block": 2}

    def fmq(chunk: int, ends: Views) -> fp.FMQ:
        return fp.FMQ(chunk=chunk, ends=ends, actor=net, critic=critic, bootstrap=BestOfN(2))

    with pytest.raises(InvalidConfig, match=r"have 4 rows of a trajectory, .* has 3:"):
        fp.train(fmq(4, whole_chunks), data, out=tmp_path / "refused", **how)
    assert not (tmp_path / "refused").exists()
    for i, agent in enumerate((fmq(3, whole_chunks), fmq(4, shorter_returns), fp.BC(4, actor=net))):
        fp.train(agent, data, out=tmp_path / f"{i}", **how)


def test_the_command_trains_offline_on_one_s_own_rows(tmp_path: Path):
    write_own_npz(tmp_path / "a.npz")
    name, out = "mini/fmq/cube-single-task1", tmp_path / "run"
    data = ["--data", str(tmp_path / "a.npz")]
    both = ["train", name, *data, "--task", "point_mass"]
    assert main([*both, "--out", str(out)]) == 2
    assert main(["train", name, "--data", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert not out.exists()
    phases = ["--phases", "(offline(steps=2),)"]
    assert main(["train", name, *data, *TINY, *phases, "--out", str(out), "--quiet"]) == 0
    assert fp.Run(out).config().task == OwnData(str(tmp_path / "a.npz"))
    assert fp.Policy.load(out).act(np.zeros(3)).shape == (5, 2)


def test_the_readme_trains_critics_on_rewards_that_differ(tmp_path: Path):
    """The rows of its example, without the training that follows."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = (b for b in readme.split("```python\n") if "Dataset.from_arrays" in b)
    (tmp_path / "rows.py").write_text(block.split("agent =")[0])
    rows = runpy.run_path(str(tmp_path / "rows.py"))["data"].rows
    assert rows.reward.tolist() == rows.terminated.tolist() == rows.ended.tolist()
    assert 0 < rows.reward.mean() < 1


def test_observations_are_scaled_where_it_is_asked_for_alone(path: Path, tmp_path: Path):
    """By public names; those on the command line are the same."""
    data = fp.load_data(path, actions=fp.action_min_max())
    how = {"phases": [fp.Offline(2)], "batch": 8, "block": 2}
    scaled = {name: {"normaliser": getattr(fp, name)()} for name in ("min_max", "standardise")}
    for name, given in {"identity": {}, **scaled}.items():
        agent = fp.BC(chunk=2, actor=MLPVelocity(width=8, depth=1))
        run = fp.train(agent, data, out=tmp_path / name, **how, **given)
        assert run.config().normaliser == parts.parse(name)


def test_the_command_scales_actions_and_plays_only_what_can_be_played(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The error of unscaled actions says how; a task of rows alone leaves the offline phases."""
    asked: list[fp.RunConfig] = []

    def attempt(config: fp.RunConfig, *_: Any, **__: Any) -> None:
        asked.append(config)
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)

    def said(*options: str) -> str:
        assert main(["train", "mini/fmq/cube-single-task1", *options]) == 2
        return " ".join(capsys.readouterr().err.split())

    data, scaled = ("--data", str(path)), OwnData(str(path), actions=ActionMinMax())
    assert "rescale it, as load_data(..., actions=fp.action_min_max()) does" in said(*data)
    said(*data, "--actions", "action_min_max")
    said("--task", parts.describe(scaled))
    assert [config.task for config in asked] == [scaled, scaled]
    assert [config.phases for config in asked] == [(fp.Offline(5_000),)] * 2
    said("--task", "point_mass")
    assert [type(phase) for phase in asked[-1].phases] == [fp.Offline, fp.Online]
    assert "about the rows of --data" in said("--actions", "action_min_max")
    assert "actions must be as_recorded, action_min_max" in said(*data, "--actions", "identity")
