"""Scaling between [-1, 1] and an environment's Box."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpolicy.boxes import ActionBox
from flowpolicy.errors import InvalidConfig

finite = st.floats(-1e6, 1e6)
bounds = st.lists(st.tuples(finite, st.floats(1e-3, 1e6)), min_size=1, max_size=4)


def _box(pairs: list[tuple[float, float]]) -> ActionBox:
    low = np.array([low for low, _ in pairs])
    return ActionBox.of(low, low + np.array([width for _, width in pairs]), "a test")


@given(bounds, st.floats(-1, 1))
def test_there_and_back(pairs, share):
    """Both ways are inverse up to rounding, which grows with the distance from 0."""
    box = _box(pairs)
    unit = np.full(box.size, share)
    moved = box.from_unit(unit)
    assert np.all((box.low <= moved) & (moved <= box.high))
    scale = np.maximum(np.abs(box.low), np.abs(box.high)) / (box.high - box.low)
    assert np.all(np.abs(box.to_unit(moved) - unit) <= 1e-15 * 16 * (1 + scale))


@given(bounds, st.lists(st.floats(-3, 3), min_size=2, max_size=6))
def test_it_keeps_the_order_and_clips(pairs, shares):
    """Larger actions stay larger, as far as the bounds."""
    box = _box(pairs)
    moved = np.stack([box.from_unit(np.full(box.size, x)) for x in sorted(shares)])
    assert np.all(np.diff(moved, axis=0) >= 0)
    for unit, bound in ((1.0, box.high), (-1.0, box.low)):
        np.testing.assert_array_equal(box.from_unit(np.full(box.size, 7.0 * unit)), bound)
        np.testing.assert_allclose(box.from_unit(np.full(box.size, unit)), bound, 1e-12, 1e-9)


def test_the_unit_box_changes_nothing():
    """To the bit: where an environment's box is [-1, 1], actions are as they were given."""
    box = ActionBox.of([-1.0] * 3, [1.0] * 3, "a test")
    action = np.random.default_rng(0).uniform(-1, 1, 3)
    np.testing.assert_array_equal(box.from_unit(action), action)
    np.testing.assert_array_equal(box.to_unit(action), action)


def test_boxes_that_are_wider_than_a_float():
    """The bounds of float64 itself."""
    most = np.finfo(np.float64).max
    box = ActionBox.of([-most], [most], "a test")
    np.testing.assert_array_equal(box.from_unit(np.array([1.0])), [most])
    np.testing.assert_array_equal(box.to_unit(np.array([-most])), [-1.0])


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0, -np.inf], [1.0, 1.0], "entry 1 has -inf and 1.0"),
        ([0.0], [np.nan], "entry 0 has 0.0 and nan"),
        ([1.0], [1.0], "the lower below the upper"),
        ([], [], "at least one entry"),
        ([0.0], [1.0, 1.0], "as many lower as upper"),
    ],
)
def test_boxes_that_nothing_can_be_scaled_to(low, high, message):
    """Named by their owner, with the entry."""
    with pytest.raises(InvalidConfig, match=f"Robot-v0: .*{message}"):
        ActionBox.of(low, high, "Robot-v0")
