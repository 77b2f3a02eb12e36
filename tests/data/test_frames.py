"""Stacked frames: the same as the stack written out, and the same as the environment shows."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.frames import Frames, stacked
from flowpolicy.data.host import HostWindows, asked
from flowpolicy.data.npz import write_npz
from flowpolicy.data.ogbench import find_shards
from flowpolicy.data.own import convert, load_data
from flowpolicy.data.replay import UniformDraw
from flowpolicy.envs.base import Step
from flowpolicy.envs.drawing import can_render
from flowpolicy.envs.stacked import Stacked
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3)).astype(np.uint8)
LAST = np.isin(np.arange(9), (3, 8))


def _written_out(row: int, begin: int) -> np.ndarray:
    return np.concatenate([FRAMES[max(row + back, begin)] for back in (-2, -1, 0)], axis=-1)


def test_rows_are_the_stack_written_out():
    """Two trajectories, of 4 and 5 frames: the first frame repeats, nothing crosses the end."""
    obs, following = stacked(FRAMES, LAST, 3)
    rows = [(i, 0) for i in range(3)] + [(i, 4) for i in range(4, 8)]
    assert obs.shape == following.shape == (7, 4, 5, 9)
    np.testing.assert_array_equal(obs, np.stack([_written_out(i, b) for i, b in rows]))
    np.testing.assert_array_equal(following, np.stack([_written_out(i + 1, b) for i, b in rows]))
    assert np.asarray(obs).dtype == np.uint8


def test_it_is_indexed_like_the_array():
    """By numbers, slices, lists and grids of places."""
    obs, _ = stacked(FRAMES, LAST, 3)
    whole = np.asarray(obs)
    for places in (2, slice(1, 4), np.array([6, 0, 0]), np.array([[1, 5], [3, 2]])):
        np.testing.assert_array_equal(obs[places], whole[places])
    assert (len(obs), obs.ndim, obs.dtype, obs.nbytes) == (7, 4, np.uint8, whole.nbytes)


class _Film:
    """Shows ``FRAMES`` one after the other."""

    name, obs_shape, action_size, max_steps = "film", (4, 5, 3), 1, 8

    def reset(self, seed: int) -> np.ndarray:
        self._at = seed
        return FRAMES[seed]

    def step(self, action: np.ndarray) -> Step:
        self._at += 1
        return Step(FRAMES[self._at], -1.0, False, False, False)

    def render(self) -> None:
        return None

    def close(self) -> None:
        pass


def test_the_environment_shows_what_the_rows_hold():
    """From the first step of the second trajectory on; a reset forgets the episode before."""
    env = Stacked(_Film(), 3)
    env.reset(0)
    env.step(np.zeros(1))
    obs, following = stacked(FRAMES, LAST, 3)
    np.testing.assert_array_equal(env.reset(4), obs[3])
    for row in range(3, 7):
        np.testing.assert_array_equal(env.step(np.zeros(1)).obs, following[row])
    assert env.obs_shape == (4, 5, 9)


def _visual(path: Path, rows: int) -> None:
    """A file as OGBench's visual ones: frames, and what rewards are made of."""
    last = np.arange(rows) % 4 == 3
    names = {"observations": np.resize(FRAMES, (rows, 4, 5, 3)), "terminals": last}
    write_npz(path, names | {"actions": np.zeros((rows, 5), np.float32), "qpos": QPOS[:rows]})


QPOS = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 21)).astype(np.float32)


def test_frames_of_a_file_stay_bytes(tmp_path: Path):
    """Stacked, each kept once; they are what a copy of the same rows, written out, would be."""
    path = tmp_path / "visual-cube-single-play-v0.npz"
    _visual(path, 8)
    task = fp.OGBench("visual-cube-single-task1", file=str(path))
    data = task.dataset()
    assert isinstance(data.rows.obs, Frames)
    assert data.obs_shape == (4, 5, 9)
    assert len(data) == 6
    written = Dataset.from_rows(jax.tree.map(np.asarray, data.rows), {})
    assert written.rows.obs.dtype == np.uint8
    assert written.digest == data.digest
    windows = HostWindows(data.rows, horizon=2, batch=3, draw=UniformDraw())
    wanted = asked(jax.random.split(jax.random.key(0), 2))
    ours, theirs = (
        windows(wanted),
        HostWindows(written.rows, horizon=2, batch=3, draw=UniformDraw())(wanted),
    )
    assert ours.rows.obs.shape == (2, 3, 2, 4, 5, 9)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frames_are_converted_and_mapped(tmp_path: Path):
    """As bytes; what is read back is what was there."""
    last = np.arange(len(FRAMES)) % 4 == 3
    actions = np.zeros((len(FRAMES), 2), np.float32)
    write_npz(tmp_path / "a.npz", {"observations": FRAMES, "terminals": last, "actions": actions})
    read = load_data(tmp_path / "a.npz")
    mapped = load_data(convert(tmp_path / "a.npz", tmp_path / "rows"))
    assert isinstance(mapped.rows.obs, np.memmap)
    assert mapped.rows.obs.dtype == np.uint8
    assert mapped.digest == read.digest


def test_a_folder_of_files_is_trained_on_one_after_the_other(tmp_path: Path):
    """By the updates; all have as many rows as the first, whose rows are the data set."""
    for i in range(3):
        _visual(tmp_path / f"cube-single-{i:03}.npz", 8 - 4 * (i == 1))
    _visual(tmp_path / "cube-single-000-val.npz", 8)
    task = fp.OGBench("visual-cube-single-task1", file=str(tmp_path))
    task = dataclasses.replace(task, rotate=10)
    first = task.dataset()
    shards = task.shards(first)
    found = [shards.rows(update) for update in (0, 9, 10, 25, 30)]
    shards.close()
    assert [len(data) for data in found] == [6] * 5
    assert found[0] is found[1] is found[4] is first
    short = found[2].rows
    assert short.ended.tolist() == [False, False, True] * 2  # the shorter one begins again
    np.testing.assert_array_equal(short.obs[3:], short.obs[:3])
    assert task.shards(Dataset(first.rows, {})) is None  # somebody's own rows


def test_a_set_of_many_files_is_looked_for_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And fetched by its name where it is not there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path / "data"))
    task = fp.OGBench("cube-quadruple-play-100m-task2")
    with pytest.raises(MissingData, match="flowpolicy data download cube-quadruple-play-100m"):
        task.dataset()
    folder = tmp_path / "data" / "cube-quadruple-play-100m-v0"
    folder.mkdir(parents=True)
    (folder / "b.npz").touch()
    (folder / "a.npz").touch()
    assert [path.name for path in find_shards(task.task)] == ["a.npz", "b.npz"]


def test_a_visual_task_is_seen():
    """Rendered here: bytes, three frames, an episode that repeats itself."""
    if not can_render():
        pytest.skip("this machine cannot draw")
    env = fp.OGBench("visual-cube-single-task1").env()
    first = env.reset(3)
    step = env.step(np.ones(5))
    assert first.shape == step.obs.shape == env.obs_shape == (64, 64, 9)
    assert first.dtype == step.obs.dtype == np.uint8
    np.testing.assert_array_equal(step.obs[..., :6], first[..., 3:])
    assert first.std() > 5
    np.testing.assert_array_equal(env.reset(3), first)
    env.close()


def test_what_is_refused():
    """No frames, none at a time."""
    with pytest.raises(InvalidData, match="uint8 of shape"):
        Frames(FRAMES.astype(np.float32), np.arange(3), np.zeros(3, int), 2)
    with pytest.raises(InvalidConfig, match="stack must be at least 1, got 0"):
        stacked(FRAMES, LAST, 0)
    film = _Film()
    film.obs_shape = (4,)  # type: ignore[assignment]
    with pytest.raises(InvalidConfig, match="only frames"):
        Stacked(film, 3)
