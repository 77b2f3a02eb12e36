"""Normalisers of observations against numpy's own least, greatest, mean and deviation."""

import dataclasses
import tracemalloc

import jax
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import normalise
from flowpolicy.train.normalise import Identity, MinMax, Standardise
from flowpolicy.types import Rows


def _rows(rows: int = 50) -> Rows:
    draws = np.random.default_rng(0)
    obs = {
        "a": (draws.normal(size=(rows, 3)) * [1, 20, 0] + [5, -3, 7]).astype(np.float32),
        "b": draws.uniform(size=rows).astype(np.float32),
    }
    no, zero = np.zeros(rows, bool), np.zeros(rows, np.float32)
    return Rows(obs, np.zeros((rows, 1), np.float32), zero, no, no, obs)


def test_least_and_greatest_become_the_box():
    rows = _rows()
    seen = MinMax().fit(rows)(jax.tree.map(jax.numpy.asarray, rows.obs))
    moving, still = np.asarray(seen["a"])[:, :2], np.asarray(seen["a"])[:, 2]
    np.testing.assert_allclose(moving.min(axis=0), -1, atol=1e-6)
    np.testing.assert_allclose(moving.max(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(still, 0)  # an entry that never moves is divided by the floor
    assert np.asarray(seen["b"]).min() == pytest.approx(-1, abs=1e-6)


def test_mean_and_deviation():
    rows = _rows()
    seen = Standardise().fit(rows)(jax.tree.map(jax.numpy.asarray, rows.obs))
    np.testing.assert_allclose(np.asarray(seen["a"])[:, :2].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(seen["a"])[:, :2].std(axis=0), 1, rtol=1e-5)


def test_it_is_fitted_block_by_block(monkeypatch):
    """To numpy's mean and deviation of all rows at once, with memory for a block of them."""
    monkeypatch.setattr(normalise, "BLOCK_BYTES", 2**14)
    obs = np.random.default_rng(0).normal(1e3, 2.0, (40_001, 8)).astype(np.float32)
    rows = dataclasses.replace(_rows(), obs=obs)
    made = Standardise().fit(rows)
    tracemalloc.start()
    Standardise().fit(rows)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(made.shift, np.float32(obs.mean(0, np.float64)))
    np.testing.assert_allclose(made.scale, obs.std(0, dtype=np.float64), rtol=1e-6)
    assert most < obs.nbytes / 4  # float64 deviations of all rows would be twice their bytes


@pytest.mark.parametrize("normaliser", [Identity(), Standardise(), MinMax(floor=0.5)])
def test_without_rows_nothing_is_done_and_names_come_back(normaliser):
    obs = {"a": np.ones(3)}
    assert normaliser.fit(None)(obs) is obs
    assert parts.parse(parts.describe(normaliser)) == normaliser


@pytest.mark.parametrize("normaliser", [MinMax(), Standardise()])
def test_bytes_are_no_numbers_to_be_scaled(normaliser):
    """A shift and a scale of bytes would be wrong ones, without a word."""
    rows = _rows()
    frames = {**rows.obs, "a": np.zeros((50, 4, 4, 3), np.uint8)}
    with pytest.raises(InvalidConfig, match=r"identity\(\) for uint8"):
        normaliser.fit(dataclasses.replace(rows, obs=frames))
