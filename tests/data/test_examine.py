"""What ``data check`` calls sound is what loading takes; what is broken is told in sentences."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.own_files import write_hdf5, write_own_npz
from flowpolicy.data.actions import ActionMeanStd, ActionMinMax, AsRecorded
from flowpolicy.data.check import examine
from flowpolicy.data.own import convert, load_data
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData


def examined(path: Path, **how: Any) -> tuple[bool, str]:
    """Whether it is sound, and everything that is said of it."""
    found, _ = examine(path, **how)
    return found.sound, " | ".join((*found.problems, *found.remarks))


def test_demonstrations_of_one_row_leave_nothing(tmp_path: Path):
    """No next observations, no terminations: every row is dropped, and loading says so too."""
    write_own_npz(tmp_path / "a.npz", terminals=np.ones(30, bool), masks=None)
    sound, said = examined(tmp_path / "a.npz")
    assert not sound
    assert "too few rows: at least 2 are needed, and 0 of 30 are left" in said
    with pytest.raises(InvalidData, match="too few rows"):
        load_data(tmp_path / "a.npz")


def test_a_chunk_below_none_is_refused(tmp_path: Path):
    write_own_npz(tmp_path / "a.npz")
    with pytest.raises(InvalidConfig, match=r"chunk must be at least 0.*got -3"):
        examine(tmp_path / "a.npz", chunk=-3)


def test_actions_are_counted_before_they_are_clipped(tmp_path: Path):
    """Of every format, in the units that are asked for, with the range that they have there."""
    pytest.importorskip("h5py")
    hdf5, npz = tmp_path / "a.hdf5", tmp_path / "a.npz"
    action = write_hdf5(hdf5, scale=40.0)["action"] * 40.0
    write_own_npz(npz, actions=action)
    beyond = int((np.abs(action) > 1).any(axis=1).sum())
    for path in (hdf5, npz):
        found, told = examine(path)
        assert told is not None
        assert "must lie in [-1, 1], but spans [-39" in "".join(found.problems)
        assert told.outside == beyond > 20
        assert told.columns["action"].high == pytest.approx(tuple(action.max(axis=0)))
    found, told = examine(hdf5, actions=ActionMeanStd(1.0))
    assert told is not None
    far = np.abs(action - action.mean(axis=0)) > action.std(axis=0)
    assert found.sound
    assert told.outside == far.any(axis=1).sum() > 5
    assert examine(hdf5, actions=ActionMinMax())[1].outside == 0  # pyright: ignore


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "rewards in a column": ({"rewards": np.zeros((30, 1))}, "rewards must have shape"),
    "masks in a column": ({"masks": np.ones((30, 1))}, "masks must have shape"),
    "terminals in a column": ({"terminals": np.ones((30, 1))}, "terminals must have shape"),
    "no terminals at all": ({"terminals": np.array(True)}, "terminals must have one entry a row"),
    "complex rewards": ({"rewards": np.zeros(30, complex)}, "rewards must hold plain numbers"),
    "masks of NaN": ({"masks": np.full(30, np.nan)}, "masks must hold flags, 0 or 1, .* in 30"),
    "huge rewards": ({"rewards": np.tile([1e308, -1e308], 15)}, "rewards is NaN or infinite"),
    "huge observations": (
        {"observations": np.tile([1e308, -1e308], (30, 1))},
        "observations is NaN or infinite in 30 rows",
    ),
    "D4RL's time-outs": ({"timeouts": np.arange(30) % 7 == 6}, "timeouts is not read, and ends"),
    "no rows": (
        {
            "observations": np.zeros((0, 3)), "actions": np.zeros((0, 2)),
            "terminals": np.zeros(0, bool), "rewards": None, "masks": None,
        },
        "too few rows",
    ),
}  # fmt: skip


def test_time_outs_that_end_nothing_more_are_left_unread(tmp_path: Path):
    """They are in terminals already; the remark names them."""
    write_own_npz(tmp_path / "a.npz", timeouts=np.zeros(30, bool))
    sound, said = examined(tmp_path / "a.npz")
    assert sound
    assert "not read: timeouts" in said


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_a_sentence(name: str, tmp_path: Path):
    """For ``check``, whatever the units, and an error when it is loaded or converted."""
    change, says = BROKEN[name]
    path = tmp_path / "a.npz"
    write_own_npz(path, **change)
    for actions in (AsRecorded(), ActionMinMax(), ActionMeanStd()):
        assert re.search(says, " ".join(examine(path, actions=actions)[0].problems))
        for use in (load_data, lambda path, actions: convert(path, tmp_path / "b")):
            with pytest.raises(InvalidData):
                use(path, actions=actions)
    assert list(tmp_path.iterdir()) == [path]


def test_actions_that_are_too_large_to_be_scaled(tmp_path: Path):
    write_own_npz(tmp_path / "a.npz", actions=np.tile([[1e308], [-1e308]], (15, 1)))
    for actions in (ActionMinMax(), ActionMeanStd()):
        sound, said = examined(tmp_path / "a.npz", actions=actions)
        assert not sound
        assert "action must be finite before it can be scaled" in said


def test_values_that_differ_in_their_last_bit_are_sound(tmp_path: Path):
    """Between them there is no room for a histogram's edges, near 0 or far from it."""
    for scale in (1.0, 1e30):
        column = np.where(np.arange(30) % 2, 0.3, 0.1 + 0.2)[:, None] * scale
        write_own_npz(tmp_path / "a.npz", observations=column)
        found, told = examine(tmp_path / "a.npz")
        assert found.sound
        assert told is not None
        assert sum(told.histograms["obs[0]"].counts) == 30


def test_columns_that_are_missing(tmp_path: Path):
    """Of converted rows whose record was altered; ``check`` and loading name them."""
    rows = tmp_path / "rows"
    write_own_npz(tmp_path / "a.npz")
    convert(tmp_path / "a.npz", rows)
    said = json.loads((rows / "columns.json").read_text())
    for name in ("action", "obs"):
        sums = {key: value for key, value in said["sha256"].items() if key != name}
        (rows / "columns.json").write_text(json.dumps({**said, "sha256": sums}))
        sound, told = examined(rows)
        assert not sound
        assert re.search(rf"rows: .*{name} is missing; there are", told)
        with pytest.raises(CorruptFile):
            load_data(rows)


def test_arrays_that_are_not_read_are_told(tmp_path: Path):
    """But for those that only OGBench's tasks need."""
    write_own_npz(tmp_path / "a.npz", goals=np.zeros(30), qpos=np.zeros((30, 2)))
    sound, said = examined(tmp_path / "a.npz")
    assert sound
    assert said.endswith("not read: goals")


def test_equal_rewards_are_told_whatever_terminates(tmp_path: Path):
    """Zeros teach no critic anything; other numbers add up to the time until a row terminates."""
    path, cloning = tmp_path / "a.npz", "nothing but cloning can be learned"
    for rewards, masks, says in (
        (np.zeros(30), {}, f"every reward is 0: {cloning}"),
        (-np.ones(30), {}, "every reward is -1: nothing but how soon a row terminates"),
        (-np.ones(30), {"masks": None}, f"every reward is -1: {cloning}"),
    ):
        write_own_npz(path, rewards=rewards, **masks)
        sound, said = examined(path)
        assert sound
        assert says in said
    write_own_npz(path)
    assert "can be learned" not in examined(path)[1]


def test_an_hdf5_of_dones_alone_is_told_to_be_for_cloning(tmp_path: Path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for demo in file["data"].values():
            demo["rewards"][:] = 0.0
    sound, said = examined(tmp_path / "a.hdf5")
    assert sound
    assert "every reward is 0: nothing but cloning can be learned" in said
