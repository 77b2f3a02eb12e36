"""Collected play data: layout, reproducibility, and that nothing half-written is left."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flowpolicy.data.collect import collect, collected
from flowpolicy.data.npz import read_npz, sha256
from flowpolicy.data.sets import SETS
from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.runs.episodes import in_order
from flowpolicy.simulators import gymnasium_with_ogbench


def _play_module() -> ModuleType:
    source = importlib.util.find_spec("flowpolicy.data.play")
    assert source is not None
    assert source.origin is not None
    spec = importlib.util.spec_from_file_location("play", source.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layout_is_that_of_ogbench(cube: Any):
    arrays = read_npz(cube.path)
    shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    assert shapes == {
        "observations": ((242, 28), "float32"),
        "actions": ((242, 5), "float32"),
        "qpos": ((242, 21), "float32"),
        "qvel": ((242, 20), "float32"),
        "terminals": ((242,), "bool"),
    }
    assert np.flatnonzero(arrays["terminals"]).tolist() == [120, 241]
    assert np.abs(arrays["actions"]).max() <= 1
    assert np.abs(arrays["actions"]).max(axis=0).min() > 0.2  # every action is used
    validation = read_npz(cube.path.with_name("cube-single-val.npz"))
    assert len(validation["terminals"]) == 121


def test_observations_belong_to_their_qpos(cube: Any):
    arrays = read_npz(cube.path)
    np.testing.assert_array_equal(arrays["observations"][:, :6], arrays["qpos"][:, :6])
    cube_xyz = arrays["observations"][:, 19:22] / 10 + [0.425, 0, 0]
    np.testing.assert_allclose(cube_xyz, arrays["qpos"][:, 14:17], atol=1e-6)


def test_record_names_versions_and_bytes(cube: Any):
    beside = json.loads(cube.path.with_suffix(".json").read_text())
    assert beside == cube.record
    assert beside["arguments"] == {"rows": 240, "seed": 3, "episode_steps": 121}
    assert beside["files"]["cube-single.npz"]["sha256"] == sha256(cube.path)
    assert set(beside["versions"]) >= {"ogbench", "mujoco", "numpy"}


def test_progress_counts_all_rows(maze: Any):
    assert maze.progress == [(301, 1204), (602, 1204), (903, 1204), (1204, 1204)]


def test_rows_do_not_depend_on_workers_nor_on_how_many_are_asked_for(maze: Any, tmp_path: Path):
    path = tmp_path / "again.npz"
    record = collect("pointmaze-medium", 900, path, seed=3, workers=1, episode_steps=301)
    told = record["files"]["again.npz"]["sha256"]
    assert told == maze.record["files"]["pointmaze-medium.npz"]["sha256"]
    collect("pointmaze-medium-navigate-v0", 10, path, seed=3, episode_steps=301, overwrite=True)
    first, long = read_npz(path), read_npz(maze.path)
    for name, array in first.items():
        np.testing.assert_array_equal(array, long[name][:301])


def test_seeds_splits_and_episodes_differ(maze: Any, tmp_path: Path):
    path = tmp_path / "other.npz"
    collect("pointmaze-medium", 10, path, seed=4, workers=1, episode_steps=11)
    starts = [read_npz(path)["observations"][0]]
    starts += list(read_npz(maze.path)["observations"][[0, 301, 602]])
    starts.append(read_npz(maze.path.with_name("pointmaze-medium-val.npz"))["observations"][0])
    assert len(np.unique(np.stack(starts), axis=0)) == len(starts)


def test_maze_data_reaches_goals(maze: Any):
    observations = read_npz(maze.path)["observations"]
    steps = np.linalg.norm(np.diff(observations[:301], axis=0), axis=1)
    assert 0.1 < steps.mean() < 0.3
    assert np.ptp(observations[:301], axis=0).max() > 8  # two cells of the maze at least


@pytest.mark.parametrize("kind", ["play", "noisy"])
def test_skipping_work_changes_no_bit(kind: str):
    """The quick environment against OGBench's own, over a change of target."""
    gymnasium_with_ogbench()
    play = _play_module()
    before = np.random.get_state()
    try:
        quick, _ = play.play_episode(play.make_player("scene", kind, 120), 0, 0, 2)
        play._quick = lambda creator: creator
        plain, _ = play.play_episode(play.make_player("scene", kind, 120), 0, 0, 2)
    finally:
        np.random.set_state(before)
    assert set(quick) == set(plain) >= {"button_states"}
    for name, array in plain.items():
        np.testing.assert_array_equal(quick[name], array)


def test_a_number_of_workers_that_is_none_is_refused(tmp_path: Path):
    """By name, before anything is made; once it waited for nobody for ever."""
    with pytest.raises(InvalidConfig, match=r"workers must be at least 1.*got -1"):
        collect("pointmaze-medium", 10, tmp_path / "out" / "x.npz", workers=-1)
    with pytest.raises(InvalidConfig, match=r"workers.*got -2"), in_order(abs, -2):
        pass
    assert not list(tmp_path.iterdir())


def _drawn(draw: Callable[[], Any]) -> Any:
    """What ``draw`` makes of numpy's global generator, which is put back."""
    before = np.random.get_state()
    try:
        np.random.seed(0)
        return draw()
    finally:
        np.random.set_state(before)


def test_noise_is_the_authors():
    """Level U(0, 0.1) once an episode, times (1, 1, 1, 3, 10): squares have mean 0.1^2 / 3 times
    the squared scale. Over 4 000 episodes they have a relative error of 0.033; six are allowed."""
    play = _play_module()
    zeros = np.zeros(5)
    actions = _drawn(lambda: [play._disturbed(0.0)(lambda: zeros) for _ in range(4000)])
    squares = np.mean(np.square(actions), axis=0) / np.square([1, 1, 1, 3, 10])
    np.testing.assert_allclose(squares, 0.1**2 / 3, rtol=0.2)


def test_the_level_of_noise_stays_for_an_episode():
    """Two halves of an episode have one spread (relative error 0.03 of 1 000 draws, six are
    allowed); two episodes have not."""
    play = _play_module()

    def spreads() -> list[float]:
        act = play._disturbed(0.0)
        draws = np.array([act(lambda: np.zeros(5)) for _ in range(1000)])
        return [float(half[:, 4].std()) for half in np.split(draws, 2)]

    first, second = _drawn(lambda: [spreads(), spreads()])
    assert first[0] == pytest.approx(first[1], rel=0.2)
    assert first[0] != pytest.approx(second[0], rel=0.2)


@pytest.mark.parametrize(("environment", "share"), [("cube", 0.1), ("scene", 0.1), ("puzzle", 0.2)])
def test_some_actions_are_uniform(environment: str, share: float):
    """The oracle asks for 5, out of reach of the noise. Of 4 000 draws the share has a standard
    error of at most 0.0063; six are allowed."""
    play = _play_module()
    assert play.RANDOM_ACTIONS[environment] == share
    act = _drawn(lambda: play._disturbed(share))
    actions = _drawn(lambda: np.array([act(lambda: np.full(5, 50.0)) for _ in range(4000)]))
    uniform = actions[np.abs(actions).max(axis=1) <= 1]
    assert len(uniform) / 4000 == pytest.approx(share, abs=0.038)
    assert np.abs(uniform).max() > 0.99


def test_noisy_rows_are_collected(tmp_path: Path):
    """By the name of the set or by the kind; the arm moves, and no row is that of play data."""
    path = tmp_path / "noisy.npz"
    record = collect("cube-single", 40, path, kind="noisy", seed=3, workers=1, episode_steps=41)
    assert record["dataset"] == "cube-single-noisy-v0"
    arrays = read_npz(path)
    assert arrays["observations"].shape == (41, 28)
    assert np.ptp(arrays["qpos"][:, :6], axis=0).max() > 0.1
    assert np.abs(np.diff(arrays["actions"], axis=0)).max() > 0.5


def test_short_walks_stay_near(tmp_path: Path):
    """Four cells of four metres away at most, and the noise of a path that stays."""
    path = tmp_path / "stitch.npz"
    collect("pointmaze-medium-stitch", 1000, path, seed=0, workers=1)
    arrays = read_npz(path)
    assert np.flatnonzero(arrays["terminals"]).tolist() == [200 + 201 * i for i in range(5)]
    walks = arrays["observations"].reshape(5, 201, 2)
    cells = np.abs(walks - walks[:, :1]).sum(axis=-1).max(axis=1) / 4
    assert 2 < cells.max() < 5.5


def test_cells_at_a_distance_are_those_of_a_breadth_first_search():
    """Against distances by relaxing until nothing changes."""
    play = _play_module()
    walls = np.array(
        [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1], [1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 1], [1] * 6]
    )
    cells = play._Cells.of(walls)
    far = np.where(walls == 0, 99, 1000)
    far[1, 1] = 0
    for _ in range(20):
        for i, j in cells.free:
            around = min(far[i - 1, j], far[i + 1, j], far[i, j - 1], far[i, j + 1])
            far[i, j] = min(far[i, j], around + 1)
    for steps in range(7):
        assert sorted(cells.at_distance((1, 1), steps)) == sorted(
            (int(i), int(j)) for i, j in np.argwhere(far == steps)
        )


def test_unhealthy_episodes_are_played_again():
    play = _play_module()
    verdicts = iter([False, False, True])
    player = play.Player(lambda seed: {"seed": np.array(seed)}, lambda arrays: next(verdicts))
    before = np.random.get_state()
    try:
        arrays, retries = play.play_episode(player, 0, 0, 0)
    finally:
        np.random.set_state(before)
    words = np.random.SeedSequence(0, spawn_key=(0, 0, 2)).generate_state(5)
    assert retries == 2
    assert arrays["seed"] == words[0]


def test_scene_health_is_the_authors():
    play = _play_module()
    rows = np.zeros((3, 20))
    assert play._cube_in_sight({"qpos": rows})
    for y, z, healthy in ((0.29, 0.02, False), (-0.3, 0.02, False), (-0.3, 0.07, True)):
        rows[1, 15:17] = y, z
        assert play._cube_in_sight({"qpos": rows}) is healthy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"episode_steps": 1}, "episode_steps must be at least 2, got 1"),
        ({"out": "data.npy"}, r"out must end in \.npz, got 'data\.npy'"),
        ({"name": "antmaze-medium"}, "learned experts"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str, tmp_path: Path):
    arguments = {"name": "pointmaze-medium", "rows": 10, "out": tmp_path / "x.npz", **change}
    with pytest.raises(InvalidConfig, match=message):
        collect(**arguments)  # type: ignore[arg-type]


def test_an_existing_file_stays(maze: Any):
    with pytest.raises(InvalidConfig, match="is there already"):
        collect("pointmaze-medium", 10, maze.path)


def test_names():
    for name, found in SETS.items():
        if found.shards:
            with pytest.raises(InvalidConfig, match=r"comes in 100 files|learned experts"):
                collected(name)
        elif re.match("(visual-)?(ant|human)", name):
            with pytest.raises(InvalidConfig, match="flowpolicy data download"):
                collected(name)
        else:
            assert collected(name) == found
    assert collected("cube-octuple").name == "cube-octuple-play-v0"
    with pytest.raises(UnknownName, match="did you mean 'cube-single"):
        collected("cube-sngle")
    with pytest.raises(InvalidConfig, match="flowpolicy data demonstrate can"):
        collected("robomimic-can")


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path):
    script = (
        "import signal, sys\n"
        # Whatever runs the tests in the background may have them ignore it, and children inherit.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from flowpolicy.data.collect import collect\n"
        "def told(done, total):\n"
        "    sys.stdout.write('rows\\n')\n"
        "    sys.stdout.flush()\n"
        "try:\n"
        "    collect('pointmaze-medium', 10**6, sys.argv[1], workers=1, progress=told)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data.npz")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "rows\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors == ""
    assert os.listdir(tmp_path) == []


def test_a_worker_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And the other, from which nothing would come for a minute, is ended and not waited for."""
    from flowpolicy.data import collect as module

    (tmp_path / "broken.py").write_text(
        "import os, time\n"
        "try:\n"
        "    os.mkdir('first')\n"  # one of two processes can
        "except FileExistsError:\n"
        "    time.sleep(60)\n"
        "else:\n"
        "    raise SystemExit('no simulator here')\n"
    )
    monkeypatch.setattr(module, "WORKER", tmp_path / "broken.py")
    children, start = [], module._start

    def started(*arguments: Any) -> Any:
        children.append(start(*arguments))
        return children[-1]

    monkeypatch.setattr(module, "_start", started)
    with pytest.raises(module.CollectionFailed, match="no simulator here"):
        module.collect("pointmaze-medium", 10, tmp_path / "out" / "x.npz", workers=2)
    assert sorted(child.returncode for child in children) == [-signal.SIGKILL, 1]
    assert os.listdir(tmp_path / "out") == []
