"""RoboMimic as a task: which file, which rows, which runs."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import flowpolicy as fp
from data.demos import ARGS, demonstration
from flowpolicy import parts, runs
from flowpolicy.cli import main
from flowpolicy.data.demonstrations import Demonstration, writing
from flowpolicy.envs import scripted
from flowpolicy.envs.robomimic import WORLDS, fields_of, usual_env_args
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData, UnknownName
from flowpolicy.refine import BestOfN
from flowpolicy.runs import demonstrations
from flowpolicy.runs.demonstrations import demonstrate
from flowpolicy.runs.robomimic import RoboMimic
from flowpolicy.train.task import Task, TellsFields


def can(steps: int, seed: int) -> Demonstration:
    """Random rows of Can's shape."""
    draws, plain = np.random.default_rng(seed), demonstration(steps, seed)
    sizes = dict(zip(fields_of("can"), (3, 4, 2, 14), strict=True))
    seen = {field: draws.normal(size=(steps + 1, size)) for field, size in sizes.items()}
    return plain._replace(
        obs={field: rows[:-1] for field, rows in seen.items()},
        next_obs={field: rows[1:] for field, rows in seen.items()},
    )


def test_rows_are_joined_in_the_papers_order_and_cost_one_a_step(tmp_path: Path):
    path, episodes = tmp_path / "a.hdf5", [can(4, 0), can(6, 1)]
    with writing(path, usual_env_args("can")) as writer:
        for episode in episodes:
            writer.append(episode)
    task = RoboMimic("can", file=str(path))
    data = task.dataset()
    for name in ("obs", "next_obs"):
        wanted = np.concatenate(
            [np.concatenate([e._asdict()[name][f] for e in episodes]) for f in fields_of("can")], 1
        )
        np.testing.assert_array_equal(vars(data.rows)[name], wanted.astype(np.float32))
    assert data.rows.reward.tolist() == [-1.0] * 3 + [0.0] + [-1.0] * 5 + [0.0]
    assert data.info["env_args"] == usual_env_args("can")
    assert (data.info["task"], task.name) == ("robomimic-can", "robomimic-can")
    assert sum(entry.size for entry in task.fields()["obs"]) == data.obs_shape[0] == 23
    with writing(path, usual_env_args("can")) as writer:
        writer.append(can(4, 0)._replace(reward=np.array([0.0, 0.25, 0.5, 1.0])))
    with pytest.raises(InvalidData, match="got 0 to 1; take the file with sparse rewards"):
        task.dataset()
    with writing(path, ARGS) as writer:
        writer.append(can(4, 0))
    with pytest.raises(InvalidData, match="must be 'PickPlaceCan' for can, got 'Lift'"):
        task.env()
    with writing(path, {}) as writer:
        writer.append(can(4, 0))
    assert len(task.dataset()) == 4
    with pytest.raises(InvalidData, match=r"a\.hdf5: data has no attribute env_args"):
        task.env()


def test_it_says_where_demonstrations_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=r"square/mh/low_dim_v15\.hdf5; put .*square/mh there"):
        RoboMimic("square").dataset()
    with pytest.raises(MissingData, match="flowpolicy data demonstrate can --rows 20000"):
        RoboMimic("can", data="ph").dataset()
    with pytest.raises(MissingData, match=r"robomimic-lift-scripted-500\.hdf5; make .*--rows 500"):
        RoboMimic("lift", data="scripted", rows=500).dataset()
    with pytest.raises(MissingData, match=r"can --rows 20000 --out 'my file\.hdf5'"):
        RoboMimic("can", file="my file.hdf5").dataset()
    with pytest.raises(UnknownName, match="did you mean 'transport'"):
        RoboMimic("transprt")
    with pytest.raises(InvalidConfig, match="no script for square, only for lift, can"):
        RoboMimic("square", data="scripted")


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_it_is_a_task(name):
    task = RoboMimic(name, data="ph")
    assert isinstance(task, Task)
    assert isinstance(task, TellsFields)
    assert parts.parse(parts.describe(task)) == task
    assert task.control_interval == 0.05


def _played(monkeypatch: pytest.MonkeyPatch, unsolved: tuple[int, ...]) -> None:
    """Episode i has 10 + i rows; no simulator is asked."""

    def play(task: str, noise: float, mistakes: float, seed: int, index: int):
        return None if index in unsolved else can(10 + index, index)

    monkeypatch.setattr(demonstrations, "demonstration", play)
    monkeypatch.setattr(demonstrations, "robosuite_alone", lambda: None)


def test_collecting_leaves_out_what_is_not_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _played(monkeypatch, (1, 2))
    path, told = tmp_path / "a.hdf5", []
    record = demonstrate(
        "can", 30, path, workers=1, progress=lambda done, rows: told.append((done, rows))
    )
    assert (record["rows"], record["episodes"], record["unsolved_episodes"]) == (37, 3, 2)
    assert told == [(10, 30), (23, 30), (30, 30)]
    assert len(RoboMimic("can", file=str(path)).dataset()) == 37
    with pytest.raises(InvalidConfig, match="is there already"):
        demonstrate("can", 30, path)
    demonstrate("can", 5, path, workers=1, overwrite=True)
    assert len(RoboMimic("can", file=str(path)).dataset()) == 10


def test_collecting_gives_up_where_nothing_is_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _played(monkeypatch, tuple(range(1000)))
    with pytest.raises(InvalidConfig, match=r"none of 20 episodes of can was solved with noise=1"):
        demonstrate("can", 30, tmp_path / "a.hdf5", noise=1.0, workers=1)
    assert not list(tmp_path.iterdir())
    for wrong in ({"rows": 0}, {"seed": -1}, {"out": tmp_path / "a.npz"}):
        with pytest.raises(InvalidConfig, match=next(iter(wrong))):
            demonstrate(**{"task": "can", "rows": 9, "out": tmp_path / "a.hdf5", **wrong})
    with pytest.raises(UnknownName, match="known: can, lift"):
        demonstrate("square", 9, tmp_path / "a.hdf5")
    assert set(scripted.JOBS) == {"can", "lift"}


def test_the_named_runs():
    """People's demonstrations at the papers' size; small runs collect where there is a script."""
    assert runs.get("fmq/robomimic-can").config.task == RoboMimic("can", "mh")
    assert runs.get("mini/qc/robomimic-can").config.task == RoboMimic(
        "can", "scripted", rows=20_000
    )
    assert runs.get("mini/qc/robomimic-square").config.task == RoboMimic("square", "mh")
    assert runs.get("mini/qc/robomimic-lift").config.agent.act == BestOfN(16)
    assert fp.RoboMimic is RoboMimic


def test_the_page_says_what_is_so(tmp_path: Path):
    """Its Python runs, and its table has every task's limit, observation, action and script."""
    page = (Path(__file__).parents[2] / "docs" / "robomimic.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.S | re.M)
    (tmp_path / "block.py").write_text(block)
    runpy.run_path(str(tmp_path / "block.py"))
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (yes|no) \|$", page, flags=re.M)
    assert rows == [
        (
            name,
            str(world.max_steps),
            str(sum(entry.size for entry in RoboMimic(name).fields()["obs"])),
            str(7 * world.arms),
            "yes" if name in scripted.JOBS else "no",
        )
        for name, world in WORLDS.items()
    ]


def test_the_command_line_collects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Where small runs look, unless told otherwise."""
    _played(monkeypatch, ())
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    assert main(["data", "demonstrate", "can", "--rows", "15", "--workers", "1"]) == 0
    task = RoboMimic("can", "scripted", rows=15)
    assert capsys.readouterr().out.strip() == str(task.path)
    assert len(task.dataset()) == 21
    assert RoboMimic("can", "scripted").path == task.path  # as its own error advises
    assert not RoboMimic("can", "scripted", rows=14).path.exists()
    assert main(["data", "demonstrate", "can", "--rows", "15", "--workers", "1"]) == 2
    assert "is there already" in capsys.readouterr().err.replace("\n", " ")
