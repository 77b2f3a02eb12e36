"""Rewards for OGBench's rows: equal to its own relabelling, and to what its environments pay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpolicy.data.npz import read_npz, write_npz
from flowpolicy.data.ogbench import (
    dataset_of,
    default_path,
    find,
    load,
    problems_in_file,
    task_successes,
)
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData, UnknownName
from flowpolicy.randomness import GlobalNumpy
from flowpolicy.simulators import gymnasium_with_ogbench


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        ("cube", "cube-single-play-singletask-task1-v0"),
        ("maze", "pointmaze-medium-navigate-singletask-task4-v0"),
    ],
)
def test_ogbench_loads_what_we_collect_and_agrees(
    fixture: str, name: str, request: pytest.FixtureRequest
):
    """Row for row the same as OGBench's loader, labels included."""
    path = request.getfixturevalue(fixture).path
    gymnasium_with_ogbench()
    import ogbench

    with GlobalNumpy(0).active():
        _, theirs, validation = ogbench.make_env_and_datasets(name, dataset_path=str(path))
    ours = load(path, name)
    pairs = {
        "observations": ours.rows.obs,
        "actions": ours.rows.action,
        "next_observations": ours.rows.next_obs,
        "terminals": ours.rows.ended,
        "rewards": ours.rows.reward,
    }
    for key, array in pairs.items():
        np.testing.assert_array_equal(theirs[key], array)
    np.testing.assert_array_equal(theirs["masks"], ~ours.rows.terminated)
    assert len(validation["rewards"]) > 0


def _reference(name: str, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    gymnasium = gymnasium_with_ogbench()
    from ogbench.relabel_utils import relabel_dataset

    with GlobalNumpy(0).active():
        env = gymnasium.make(name, disable_env_checker=True)
        labelled = dict(arrays)
        relabel_dataset(name, env, labelled)
    return labelled["rewards"], labelled["masks"]


def _near_goals(name: str, width: int, buttons: int) -> dict[str, np.ndarray]:
    """Rows that lie about the tolerance away from the goals of ``name``, and some far away."""
    gymnasium = gymnasium_with_ogbench()
    goal = vars(gymnasium.make(name, disable_env_checker=True).unwrapped)["task_infos"][1]
    random = np.random.default_rng(0)
    qpos = random.uniform(-0.03, 0.03, (400, width))
    start, blocks = 14, goal.get("goal_xyzs", goal.get("goal", {}).get("block_xyzs", []))
    for block in blocks:
        qpos[:, start : start + 3] += block
        start += 7
    if "goal" in goal:
        qpos[:, -2:] += [goal["goal"]["drawer_pos"], goal["goal"]["window_pos"]]
    if "goal_xy" in goal:
        start = 15 if "soccer" in name else 0
        qpos[:, start : start + 2] = random.uniform(-0.6, 0.6, (400, 2)) + goal["goal_xy"]
    qpos[:50] += 0.2
    wanted = goal.get("goal_button_states", goal.get("goal", {}).get("button_states", []))
    flips = random.uniform(size=(400, buttons)) < 0.05
    states = np.where(flips, 1 - np.asarray(wanted), wanted).astype(np.int64)
    return {"qpos": qpos.astype(np.float32), "button_states": states}


@pytest.mark.parametrize(
    ("environment", "width", "buttons"),
    [
        ("cube-double", 28, 0),
        ("puzzle-3x3", 23, 9),
        ("scene", 25, 2),
        ("antmaze-medium", 15, 0),
        ("antsoccer-arena", 22, 0),
    ],
)
def test_every_kind_of_goal_is_ogbenchs(environment: str, width: int, buttons: int):
    name = f"{environment}-singletask-task2-v0"
    arrays = _near_goals(name, width, buttons)
    rewards, masks = _reference(name, arrays)
    reached = task_successes(environment, 2)(arrays)
    np.testing.assert_array_equal(reached.sum(axis=1) - reached.shape[1], rewards)
    np.testing.assert_array_equal(reached.all(axis=1), 1 - masks)
    assert 20 < reached.all(axis=1).sum() < 380


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A walk into the goal and on, with what the two environments paid for each step."""
    gymnasium = gymnasium_with_ogbench()
    name = "pointmaze-medium-singletask-task3-v0"
    paid: dict[str, Any] = {}
    for timing in ("pre", "post"):
        with GlobalNumpy(0).active():
            env = gymnasium.make(
                name, success_timing=timing, terminate_at_goal=False, disable_env_checker=True
            ).unwrapped
            env.action_space.seed(0)
            obs, _ = env.reset(seed=0)
            rows = []
            for step in range(160):
                subgoal, _ = env.get_oracle_subgoal(env.get_xy(), env.cur_goal_xy)
                away = np.array([-1.0, 0.3]) if step > 110 else subgoal - env.get_xy()
                action = np.clip(away / (np.linalg.norm(away) + 1e-6), -1, 1).astype(np.float32)
                rows.append((obs, action, env.data.qpos.copy()))
                obs, reward, _, _, info = env.step(action)
                paid.setdefault(timing, []).append((reward, info["success"]))
    observations, actions, qpos = (
        np.array(column, np.float32) for column in zip(*rows, strict=True)
    )
    path = tmp_path_factory.mktemp("walk") / "walk.npz"
    write_npz(
        path,
        {
            "observations": observations,
            "actions": actions,
            "qpos": qpos,
            "terminals": np.isin(np.arange(160), (59, 159)),
        },
    )
    return {"path": path, **paid}


@pytest.mark.parametrize("timing", ["pre", "post"])
def test_rewards_are_those_the_environment_pays(walk: dict[str, Any], timing: str):
    data = load(walk["path"], "pointmaze-medium-task3", reward_timing=timing)
    kept = np.r_[0:59, 60:159]  # the last row of each trajectory has no successor
    reward, success = np.array(walk[timing])[kept].T
    np.testing.assert_array_equal(data.rows.reward, reward)
    np.testing.assert_array_equal(data.rows.terminated, success)
    assert 5 < data.rows.terminated.sum() < 100
    assert data.info["reward_timing"] == timing


def test_post_is_pre_of_the_next_row(walk: dict[str, Any]):
    pre = load(walk["path"], "pointmaze-medium-task3").rows
    post = load(walk["path"], "pointmaze-medium-task3", reward_timing="post").rows
    inside = ~pre.ended[:-1]
    np.testing.assert_array_equal(post.reward[:-1][inside], pre.reward[1:][inside])
    assert (post.terminated != pre.terminated).sum() == 2  # where it enters, where it leaves


def test_sparse_rewards_pay_for_the_whole_task_alone(tmp_path: Path):
    """-1 wherever anything is left to do, 0 where nothing is; terminations stay as they are."""
    arrays = _near_goals("cube-double-singletask-task2-v0", 28, 0)
    path = tmp_path / "cube-double-play-v0.npz"
    rows = len(arrays["qpos"])
    numbers = {"observations": np.zeros((rows, 37), np.float32), "qpos": arrays["qpos"]}
    ends = np.arange(rows) % 100 == 99
    np.savez(path, actions=np.zeros((rows, 5), np.float32), terminals=ends, **numbers)
    dense, sparse = (
        load(path, "cube-double-task2", sparse=choice).rows for choice in (False, True)
    )
    assert set(np.unique(dense.reward)) == {-2.0, -1.0, 0.0}
    np.testing.assert_array_equal(sparse.reward, -(dense.reward != 0).astype(np.float32))
    np.testing.assert_array_equal(sparse.terminated, dense.terminated)
    assert load(path, "cube-double-task2", sparse=True).info["sparse"] is True


def test_where_it_comes_from(maze: Any):
    info = load(maze.path, "pointmaze-medium-task1").info
    assert info["task"] == "pointmaze-medium-task1"
    assert info["sha256"] == maze.record["files"][maze.path.name]["sha256"]
    assert info["collected"]["arguments"]["seed"] == 3
    assert set(info["versions"]) >= {"ogbench", "mujoco"}


def _altered(maze: Any, folder: Path, **change: Any) -> Path:
    arrays = {**read_npz(maze.path), **change}
    path = folder / "altered.npz"
    write_npz(path, {name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terminals": None}, "terminals is missing; the file holds observations, actions"),
        ({"qpos": None}, "qpos is missing, and without it"),
        ({"qpos": np.zeros((903, 1))}, "qpos has 1 entries .* another environment"),
        ({"qpos": np.full((903, 2), np.nan)}, "qpos is NaN or infinite"),
        ({"qpos": np.zeros((902, 2))}, r"qpos must have shape \(rows, size\)"),
        ({"actions": np.full((903, 2), 1.1)}, "actions must lie in"),
        ({"actions": np.zeros((903, 2, 1))}, "actions must have shape"),
        ({"observations": np.full((903, 2), np.inf)}, "observations is NaN or infinite in 903"),
        ({"terminals": np.zeros(903)}, "no row ends an episode"),
        ({"observations": np.zeros((9, 2))}, "same number of rows"),
    ],
)
def test_wrong_contents(maze: Any, tmp_path: Path, change: dict[str, Any], message: str):
    path = _altered(maze, tmp_path, **change)
    with pytest.raises(InvalidData, match=rf"altered\.npz: .*{message}"):
        load(path, "pointmaze-medium-task1")


def test_a_file_of_another_environment(maze: Any):
    with pytest.raises(InvalidData, match="needs 21: the file belongs to another environment"):
        load(maze.path, "cube-single-task1")


def test_truncated_file(maze: Any, tmp_path: Path):
    path = tmp_path / "cut.npz"
    path.write_bytes(maze.path.read_bytes()[:-1000])
    with pytest.raises(CorruptFile, match=r"cut\.npz"):
        load(path, "pointmaze-medium-task1")


def test_names_and_arguments(maze: Any):
    with pytest.raises(UnknownName, match="did you mean 'pointmaze-medium-task5'"):
        load(maze.path, "pointmaze-medium-task6")
    with pytest.raises(UnknownName, match="did you mean 'cube-single-task"):
        load(maze.path, "cube-sngle-1")
    with pytest.raises(InvalidConfig, match="reward_timing must be 'pre' or 'post', got 'now'"):
        load(maze.path, "pointmaze-medium-task1", reward_timing="now")


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FLOWPOLICY_DATA", raising=False)
    assert default_path("a-v0", 5) == tmp_path / ".flowpolicy" / "data" / "a-v0-5.npz"
    assert dataset_of("cube-single") == "cube-single-play-v0"
    assert dataset_of("antmaze-giant") == "antmaze-giant-navigate-v0"
    with pytest.raises(MissingData, match="flowpolicy data collect cube-single --rows 5000"):
        find("cube-single-task1", 5000)
    with pytest.raises(MissingData, match=r"flowpolicy data download antmaze-giant-navigate"):
        find("antmaze-giant-task1")
    with pytest.raises(
        MissingData, match=r"data collect scene --rows \d+ --out .*scene-play-v0\.npz"
    ):
        load(tmp_path / "scene-play-v0.npz", "scene-task1")
    official = tmp_path / ".ogbench" / "data" / "cube-single-play-v0.npz"
    official.parent.mkdir(parents=True)
    official.touch()
    assert find("cube-single-task1", 5000) == official
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path / "mine"))
    mine = default_path("cube-single-play-v0", 5000)
    mine.parent.mkdir()
    mine.touch()
    assert find("cube-single-play-singletask-task1-v0", 5000) == mine


def test_without_a_number_of_rows_the_collected_file_of_most_rows_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After the official names. No validation file, nor one of another set, is taken for it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    name = "cube-double-play-v0"
    for ending in ("9000", "100000", "100000-val", "200000-val", "7e9"):
        (tmp_path / f"{name}-{ending}.npz").touch()
    (tmp_path / "cube-double-noisy-v0-500000.npz").touch()
    assert find("cube-double-task1") == default_path(name, 100_000)
    assert find("cube-double-task1", 9000) == default_path(name, 9000)
    with pytest.raises(MissingData, match="flowpolicy data collect cube-double --rows 8000"):
        find("cube-double-task1", 8000)
    default_path(name).touch()
    assert find("cube-double-task1") == default_path(name)


def test_nothing_at_all():
    assert problems_in_file({}) == [
        f"{name} is missing; the file holds nothing"
        for name in ("observations", "actions", "terminals")
    ]
