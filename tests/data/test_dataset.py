"""Arrays become a data set only if training could use them."""

from typing import Any

import jax
import numpy as np
import pytest

from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import InvalidData
from flowpolicy.types import Rows


def _arrays(**change: Any) -> dict[str, Any]:
    """Seven rows: a trajectory of four that is truncated, one of three that terminates."""
    random = np.random.default_rng(0)
    arrays = {
        "obs": np.arange(14, dtype=np.float64).reshape(7, 2),
        "action": random.uniform(-1, 1, (7, 3)),
        "reward": np.arange(7, dtype=np.int64),
        "terminated": np.array([0, 0, 0, 0, 0, 0, 1]),
        "truncated": np.array([0, 0, 0, 1, 0, 0, 0]),
        "next_obs": np.arange(14, dtype=np.float64).reshape(7, 2) + 2,
    }
    return {name: value for name, value in {**arrays, **change}.items() if value is not ...}


def test_given_next_obs():
    data = Dataset.from_arrays(**_arrays())
    assert len(data) == 7
    assert data.obs_shape == (2,)
    assert data.action_size == 3
    assert data.episodes == 2
    assert data.rows.ended.tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert data.rows.terminated.tolist() == [0, 0, 0, 0, 0, 0, 1]
    kinds = [str(leaf.dtype) for leaf in jax.tree.leaves(data.rows)]
    assert kinds == ["float32", "float32", "float32", "bool", "bool", "float32"]
    assert data.info == {"source": "arrays"}


def test_next_obs_from_the_next_row():
    """The truncated trajectory loses its last row; the terminated one keeps it and its reward."""
    data = Dataset.from_arrays(**_arrays(next_obs=...))
    assert data.rows.reward.tolist() == [0, 1, 2, 4, 5, 6]
    assert data.rows.ended.tolist() == [0, 0, 1, 0, 0, 1]
    assert data.rows.terminated.tolist() == [0, 0, 0, 0, 0, 1]
    assert data.rows.next_obs[:, 0].tolist() == [2, 4, 6, 10, 12, 12]


def test_next_obs_from_the_next_row_where_the_end_is_open():
    flags = {"terminated": np.zeros(7), "truncated": np.arange(7) == 3}
    data = Dataset.from_arrays(**_arrays(next_obs=..., **flags))
    assert data.rows.reward.tolist() == [0, 1, 2, 4, 5]
    assert data.rows.ended.tolist() == [0, 0, 1, 0, 1]


def test_single_row_trajectories_vanish_without_next_obs():
    truncated = np.array([1, 0, 1, 1, 0, 0, 0])
    data = Dataset.from_arrays(**_arrays(next_obs=..., truncated=truncated))
    assert data.rows.reward.tolist() == [1, 4, 5, 6]
    assert data.rows.ended.tolist() == [1, 0, 0, 1]


def test_rows_after_the_last_end_are_a_trajectory():
    flags = {"terminated": np.zeros(7), "truncated": np.arange(7) == 3}
    assert Dataset.from_arrays(**_arrays(**flags)).rows.ended.tolist() == [0, 0, 0, 1, 0, 0, 1]


def test_observations_may_be_mappings():
    obs = {"arm": np.zeros((7, 2)), "image": np.zeros((7, 4, 4, 3), np.uint8)}
    data = Dataset.from_arrays(**_arrays(obs=obs, next_obs=obs))
    assert data.obs_shape == {"arm": (2,), "image": (4, 4, 3)}
    assert Dataset.from_arrays(**_arrays(obs=obs, next_obs=...)).obs_shape == data.obs_shape


def test_terminated_may_stand_inside_a_trajectory():
    given = Dataset.from_arrays(**_arrays()).rows
    rows = Rows(
        obs=given.obs,
        action=given.action,
        reward=given.reward,
        terminated=np.array([0, 1, 1, 0, 0, 0, 0], bool),
        ended=given.ended,
        next_obs=given.next_obs,
    )
    data = Dataset.from_rows(rows, {"source": "test", "numbers": (1, 2.5, None)})
    assert data.rows.terminated.tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert data.rows.ended.tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert data.info["numbers"] == [1, 2.5, None]


def test_rounding_beyond_one_is_clipped_and_inputs_stay():
    action = np.full((7, 3), 1 + 5e-6)
    data = Dataset.from_arrays(**_arrays(action=action))
    assert np.all(data.rows.action == 1)
    assert np.all(action == 1 + 5e-6)


def _with(array: np.ndarray, row: int, value: float) -> np.ndarray:
    array = np.array(array, np.float64)
    array[row] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": _with(np.zeros((7, 2)), 3, np.nan)}, r"obs is NaN .* in 1 row of 7, the first 3"),
        ({"next_obs": _with(np.zeros((7, 2)), 2, np.inf)}, r"next_obs is NaN .*the first 2"),
        ({"reward": _with(np.zeros(7), 6, -np.inf)}, r"reward is NaN or infinite in 1 row of 7"),
        ({"reward": _with(np.zeros(7), 0, 1e300)}, r"reward is NaN or infinite"),
        ({"action": _with(np.zeros((7, 3)), 1, np.nan)}, r"action is NaN .* the first 1"),
        ({"action": np.full((7, 3), -1.5)}, r"action must lie in \[-1, 1\], but spans \[-1.5, "),
        ({"action": _with(np.zeros((7, 3)), 5, 1.00002)}, r"action must .* 1 row of 7, .* 5"),
        ({"action": np.zeros(7)}, r"action must have shape \(rows, action size\), got \(7,\)"),
        ({"action": np.zeros((7, 0))}, r"action must have shape"),
        ({"reward": np.zeros((7, 1))}, r"reward must have shape \(rows,\), got \(7, 1\)"),
        ({"reward": np.zeros(6)}, r"same number of rows, got .*reward 6"),
        ({"reward": np.array(3.0)}, r"reward must have one entry a row"),
        ({"obs": np.array([None] * 7)}, r"obs must hold plain numbers, got dtype object"),
        ({"obs": np.array(["a"] * 7)}, r"obs must hold plain numbers, got dtype <U1"),
        ({"obs": {"arm": _with(np.zeros((7, 2)), 4, np.nan)}, "next_obs": ...}, r"obs/arm is NaN"),
        ({"obs": {"a": np.zeros((7, 2))}, "next_obs": {"b": np.zeros((7, 2))}}, r"fields and"),
        ({"next_obs": np.zeros((7, 3))}, r"next_obs must have the fields and shapes of obs"),
        ({"action": np.full((7, 3), -128, np.int8)}, r"spans \[-128, -128\]: 7 rows of 7"),
        ({"terminated": np.full(7, 0.5)}, r"terminated must hold flags, 0 or 1"),
        ({"truncated": _with(np.zeros(7), 3, 2)}, r"truncated .* in 1 row of 7, the first 3"),
        ({"truncated": np.full(7, np.nan)}, r"truncated must hold flags"),
        ({"terminated": np.zeros((7, 1))}, r"terminated must have shape \(rows,\)"),
        ({"terminated": np.zeros(7), "truncated": np.zeros(7)}, r"no row ends an episode"),
    ],
)  # fmt: skip
def test_bad_arrays(change: dict[str, Any], message: str):
    with pytest.raises(InvalidData, match=message):
        Dataset.from_arrays(**_arrays(**change))


def test_all_troubles_are_told_at_once():
    with pytest.raises(InvalidData, match=r"reward is NaN.*\n*.*no row ends"):
        Dataset.from_arrays(
            **_arrays(reward=np.full(7, np.nan), terminated=np.zeros(7), truncated=np.zeros(7))
        )


def test_too_few_rows():
    one = {name: array[6:] for name, array in _arrays().items()}
    with pytest.raises(InvalidData, match="too few rows: at least 2"):
        Dataset.from_arrays(**one)


def test_info_is_strict_json():
    with pytest.raises(InvalidData, match="info must be strict JSON"):
        Dataset.from_arrays(**_arrays(), info={"a": float("nan")})
    with pytest.raises(InvalidData, match="info must be strict JSON"):
        Dataset.from_arrays(**_arrays(), info={"a": np.zeros(2)})
