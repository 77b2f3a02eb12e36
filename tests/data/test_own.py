"""The same rows in every format give the same data set, and what is chosen is done."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from data.own_files import LENGTHS, write_hdf5, write_lerobot, write_own_npz
from flowpolicy.data import own
from flowpolicy.data.actions import ActionMeanStd, ActionMinMax
from flowpolicy.data.check import examine
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.own import convert, kind, load_data
from flowpolicy.deploy.units import RECORD, ActionUnits
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData, UnknownName

WRITERS: dict[str, tuple[str, Callable[[Path], dict[str, np.ndarray]], str]] = {
    "npz": ("a.npz", write_own_npz, ""),
    "robomimic": ("a.hdf5", functools.partial(write_hdf5, next_obs=False), "h5py"),
    "lerobot": ("set", write_lerobot, "pyarrow"),
}


@pytest.fixture(params=WRITERS)
def source(request: Any, tmp_path: Path) -> tuple[str, Path, dict[str, np.ndarray]]:
    """Kind, path, and the rows in it."""
    name, write, needs = WRITERS[request.param]
    if needs:
        pytest.importorskip(needs)
    return request.param, tmp_path / name, write(tmp_path / name)


def test_rows_of_every_format(source: Any):
    """The last row of a trajectory goes unless it terminates; then it is its own successor."""
    what, path, rows = source
    assert kind(path) == what
    data = load_data(path)
    keep = ~rows["last"] | rows["done"]
    assert len(data) == keep.sum() == sum(LENGTHS) - 1
    obs, following = data.rows.obs, data.rows.next_obs
    if what == "robomimic":
        assert data.obs_shape == {"object": (2,), "robot0_eef_pos": (3,)}
        np.testing.assert_array_equal(obs["object"], rows["object"][keep].astype(np.float32))
        obs, following = obs["robot0_eef_pos"], following["robot0_eef_pos"]
    state = rows["state"].astype(np.float32)
    np.testing.assert_array_equal(obs, state[keep])
    after = np.minimum(np.arange(len(state)) + ~rows["last"], len(state) - 1)
    np.testing.assert_array_equal(following, state[after][keep])
    np.testing.assert_array_equal(data.rows.action, rows["action"][keep].astype(np.float32))
    np.testing.assert_array_equal(data.rows.reward, rows["reward"][keep].astype(np.float32))
    np.testing.assert_array_equal(data.rows.terminated, rows["done"][keep])
    assert np.flatnonzero(data.rows.ended).tolist() == [9, 20, 28]
    assert data.info["source"] == what


def test_next_observations_are_taken_where_they_are_recorded(tmp_path: Path):
    pytest.importorskip("h5py")
    rows = write_hdf5(tmp_path / "a.hdf5")
    data = load_data(tmp_path / "a.hdf5")
    assert len(data) == sum(LENGTHS)
    expected = rows["next_state"].astype(np.float32)
    np.testing.assert_array_equal(data.rows.next_obs["robot0_eef_pos"], expected)
    write_own_npz(tmp_path / "b.npz", next_observations=expected)
    other = load_data(tmp_path / "b.npz")
    np.testing.assert_array_equal(other.rows.next_obs, expected)


def test_fields_and_filter_keys_choose(tmp_path: Path):
    pytest.importorskip("h5py")
    path = tmp_path / "a.hdf5"
    rows = write_hdf5(path)
    data = load_data(path, fields=("object",), subset="some", reward_shift=-1.0)
    here = rows["episode"] != 1
    np.testing.assert_array_equal(data.rows.obs, rows["object"][here].astype(np.float32))
    np.testing.assert_array_equal(data.rows.reward, (rows["reward"][here] - 1).astype(np.float32))
    with pytest.raises(UnknownName, match=r"filter key 'som'.*'some'"):
        load_data(path, subset="som")
    with pytest.raises(UnknownName, match=r"observation field 'objec'.*'object'"):
        load_data(path, fields=("objec",))
    with pytest.raises(UnknownName, match="agentview_image"):  # no row of numbers
        load_data(path, fields=("agentview_image",))


@pytest.mark.parametrize("next_obs", [True, False])
def test_converted_rows_are_the_same_to_the_bit(tmp_path: Path, next_obs: bool):
    pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.hdf5", next_obs=next_obs, scale=3.0)
    choice = {"actions": ActionMinMax(), "reward_shift": -1.0}
    whole = load_data(tmp_path / "a.hdf5", **choice)
    assert convert(tmp_path / "a.hdf5", tmp_path / "rows", **choice) == tmp_path / "rows"
    mapped = load_data(tmp_path / "rows")
    assert isinstance(mapped.rows.action, np.memmap)
    _same(mapped, whole)
    assert mapped.digest == whole.digest
    assert mapped.info[RECORD] == whole.info[RECORD]
    assert {p.name for p in tmp_path.iterdir()} == {"a.hdf5", "rows"}
    with pytest.raises(InvalidConfig, match="exists already"):
        convert(tmp_path / "a.hdf5", tmp_path / "rows")
    with pytest.raises(InvalidConfig, match="finished rows"):
        load_data(tmp_path / "rows", reward_shift=1.0)


def test_what_is_in_the_way_is_seen_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.hdf5")
    (tmp_path / "rows").mkdir()
    monkeypatch.setattr(own, "read_foreign", None)  # calling it would be another error
    with pytest.raises(InvalidConfig, match="exists already"):
        convert(tmp_path / "a.hdf5", tmp_path / "rows")


def test_what_load_data_refuses_is_not_converted(tmp_path: Path):
    """No row ends a trajectory: ends are not made up for the parts."""
    path = tmp_path / "a.npz"
    write_own_npz(path, terminals=np.zeros(30, bool), masks=None)
    for use in (load_data, lambda path: convert(path, tmp_path / "rows")):
        with pytest.raises(InvalidData, match=r"a\.npz: no row ends an episode"):
            use(path)
    assert list(tmp_path.iterdir()) == [path]


def test_blocks_put_together_are_the_whole(tmp_path: Path):
    """Parts of at least one row, and of all rows, in whole trajectories."""
    from flowpolicy.data.own import recording

    write_own_npz(tmp_path / "a.npz")
    whole = load_data(tmp_path / "a.npz")
    with recording(tmp_path / "a.npz") as found:
        for rows, count in ((1, 3), (11, 1), (9, 2), (100, 1)):
            blocks = list(found.blocks(rows=rows))
            assert len(blocks) == count, rows
            joined = jax.tree.map(lambda *xs: np.concatenate(xs), *(b.rows for b in blocks))
            _same(Dataset(joined, {}), whole)


def _same(one: Dataset, other: Dataset) -> None:
    jax.tree.map(np.testing.assert_array_equal, one.rows, other.rows)


def test_scaled_actions_come_back(tmp_path: Path):
    """By least and greatest: exactly the recorded range, and the way back to rounding."""
    write_own_npz(tmp_path / "a.npz")
    recorded = load_data(tmp_path / "a.npz").rows.action
    wide = np.load(tmp_path / "a.npz")["actions"] * [5.0, 0.01] + [2.0, -7.0]
    write_own_npz(tmp_path / "b.npz", actions=wide)
    with pytest.raises(InvalidData, match=r"b\.npz: action must lie in \[-1, 1\]"):
        load_data(tmp_path / "b.npz")
    data = load_data(tmp_path / "b.npz", actions=ActionMinMax())
    assert data.rows.action.min(axis=0).tolist() == [-1.0, -1.0]
    assert data.rows.action.max(axis=0).tolist() == [1.0, 1.0]
    units = ActionUnits(*(tuple(data.info[RECORD][name]) for name in ("shift", "scale")))
    back = units.to_robot(data.rows.action)
    np.testing.assert_allclose(back, recorded * [5.0, 0.01] + [2.0, -7.0], rtol=0, atol=2e-6)


def test_scaling_by_deviations(tmp_path: Path):
    """Mean 0, and one third of the standard deviation's inverse; what is beyond is clipped."""
    write_own_npz(tmp_path / "a.npz")
    action = np.load(tmp_path / "a.npz")["actions"].astype(np.float64)
    units = ActionMeanStd(3.0).units(action)
    np.testing.assert_allclose(units.to_box(action).std(axis=0), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(units.to_box(action).mean(axis=0), 0, atol=1e-7)
    tight = load_data(tmp_path / "a.npz", actions=ActionMeanStd(1.0)).rows.action
    assert (np.abs(tight) == 1).any()
    with pytest.raises(InvalidConfig, match="deviations must be above 0"):
        ActionMeanStd(0.0)


def test_what_is_no_data_set(tmp_path: Path):
    with pytest.raises(MissingData, match="no such file or folder"):
        load_data(tmp_path / "none")
    with pytest.raises(CorruptFile, match="no data set"):
        load_data(tmp_path)
    (tmp_path / "one.parquet").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(CorruptFile, match="give the folder"):
        load_data(tmp_path / "one.parquet")
    write_own_npz(tmp_path / "a.npz")
    with pytest.raises(InvalidConfig, match="neither fields nor subsets"):
        load_data(tmp_path / "a.npz", subset="train")
    for name in ("observations", "actions", "terminals"):
        write_own_npz(tmp_path / "b.npz", **{name: None})
        with pytest.raises(InvalidData, match=rf"b\.npz: {name} is missing"):
            load_data(tmp_path / "b.npz")


def test_an_npz_without_rewards_is_for_cloning(tmp_path: Path):
    write_own_npz(tmp_path / "a.npz", rewards=None, masks=None)
    data = load_data(tmp_path / "a.npz")
    assert not data.rows.reward.any()
    assert not data.rows.terminated.any()
    assert data.info["missing"] == ["rewards", "masks", "next_observations"]


def test_an_hdf5_of_actions_and_observations_is_for_cloning(tmp_path: Path):
    """No rewards, no dones, no env_args: zeros, time-outs, and ``data check`` says so."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.hdf5"
    rows = write_hdf5(path)
    with h5py.File(path, "a") as file:
        del file["data"].attrs["env_args"]
        for demo in file["data"].values():
            del demo["rewards"], demo["dones"]
    data = load_data(path)
    np.testing.assert_array_equal(data.rows.action, rows["action"].astype(np.float32))
    np.testing.assert_array_equal(data.rows.ended, rows["last"])
    assert not data.rows.reward.any()
    assert not data.rows.terminated.any()
    assert (data.info["missing"], data.info["env_args"]) == (["rewards", "dones"], {})
    found, _ = examine(path)
    assert found.sound
    assert "it has no rewards: every reward is 0" in found.remarks
    assert "it has no dones: no row terminates" in found.remarks
