"""Units of actions: there and back, at the edges, and what a file may say of them."""

import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from flowpolicy.deploy.units import ActionUnits, action_units, read_units
from flowpolicy.errors import CorruptFile, MissingData

NUMBER = st.floats(-1e3, 1e3)


@hypothesis.given(st.lists(st.tuples(NUMBER, st.floats(1e-3, 1e3), st.floats(-1, 1)), min_size=1))
def test_there_and_back(entries: list[tuple[float, float, float]]):
    """float32 in the robot's units, so up to its rounding beside the shift."""
    shift, scale, action = (tuple(column) for column in zip(*entries, strict=True))
    units = ActionUnits(shift, scale)
    robot = units.to_robot(np.asarray(action))
    exact = np.asarray(shift) + np.asarray(scale) * action
    np.testing.assert_allclose(robot, exact, rtol=1e-6, atol=1e-30)
    error = 2.0**-23 * (np.abs(shift) + scale) / scale + 1e-7
    assert (np.abs(units.to_box(robot) - np.asarray(action)) <= error).all()


def test_edges():
    units = ActionUnits((1.0, 5.0), (2.0, 0.0))
    beyond = np.array([[3.0, -1.0], [-3.0, 1.0]])
    assert units.to_robot(beyond).tolist() == [[3.0, 5.0], [-1.0, 5.0]]
    assert units.to_box(np.array([[9.0, 7.0], [1.0, 5.0]])).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert np.isnan(units.to_box(np.array([np.nan, 5.0]))[0])
    assert not units.change_nothing
    same = ActionUnits.unchanged(2)
    assert same.change_nothing
    assert same.to_box(np.array([0.25, -1.0])).tolist() == [0.25, -1.0]


def test_records_come_back():
    units = ActionUnits((0.1, -1e-9), (3.0, 0.0))
    assert read_units(json.loads(json.dumps(units.record())), 2, "here") == units


@pytest.mark.parametrize(
    "told",
    [None, {}, [], {"shift": [0.0]}, {"shift": [0.0], "scale": [1.0, 2.0]},
     {"shift": [0.0], "scale": [-1.0]}, {"shift": ["0"], "scale": [1.0]},
     {"shift": [float("nan")], "scale": [1.0]}, {"shift": [True], "scale": [1.0]}],
)  # fmt: skip
def test_records_that_are_none(told: object):
    with pytest.raises(CorruptFile, match="here: action_units"):
        read_units(told, 1, "here")


def test_folders(tmp_path: Path):
    with pytest.raises(MissingData):
        action_units(tmp_path)
    path = tmp_path / "config.json"
    units = ActionUnits((1.0, 2.0), (3.0, 4.0))
    for place in ("data", "action"):
        told = {"spec": {"action": 2}, place: {"action_units": units.record()}}
        path.write_text(json.dumps(told))
        assert action_units(tmp_path) == units
    path.write_text(json.dumps({"spec": {"action": 2}, "data": None}))
    assert action_units(tmp_path) == ActionUnits.unchanged(2)
    for spec in ({"action": "2"}, {"action": 3}, {}, 7):
        told = {"spec": spec, "data": {"action_units": units.record()}}
        path.write_text(json.dumps(told))
        with pytest.raises(CorruptFile, match=r"config\.json"):
            action_units(tmp_path)
