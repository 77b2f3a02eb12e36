"""Columns are looked at part by part: the same findings, in memory that does not grow with them."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowpolicy.data import blocks as parts
from flowpolicy.data.actions import ActionMeanStd
from flowpolicy.data.blocks import blocks, span
from flowpolicy.data.dataset import problems_in
from flowpolicy.data.describe import describe
from flowpolicy.data.digest import digest
from flowpolicy.data.frames import stacked
from flowpolicy.data.recording import Recording
from flowpolicy.types import Rows

ROWS = 2_000


def test_blocks_are_all_rows_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "BYTES", 50)
    column = np.arange(30.0).reshape(10, 3)  # 24 bytes a row
    assert [len(block) for block in blocks(column)] == [2] * 5
    np.testing.assert_array_equal(np.concatenate(list(blocks(column))), column)
    assert [len(block) for block in blocks(column[:3, :0])] == [3]
    assert list(blocks(column[:0])) == []


def test_a_span_is_that_of_the_finite_values(monkeypatch: pytest.MonkeyPatch):
    """Also beyond what float32 holds nothing is finite, and across blocks."""
    monkeypatch.setattr(parts, "BYTES", 16)
    column = np.array([[1.0, np.nan], [-1e308, np.inf], [5.0, np.nan]])
    low, high, wrong = span(column)
    assert (low.tolist(), high.tolist(), wrong) == ([1.0, np.inf], [5.0, -np.inf], 4)


def test_troubles_are_found_in_every_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "BYTES", 64)
    action = np.zeros((ROWS, 4))
    action[70, 1], action[1900, 2] = np.inf, 3.0
    said = problems_in({"action": action, "ended": np.ones(ROWS)})
    assert said == [
        "action must lie in [-1, 1], but spans [0, 3]: 2 rows of 2000, the first 70, 1900; "
        "rescale it, as load_data(..., actions=fp.action_min_max()) does, or "
        "--actions action_min_max on a terminal",
        "action is NaN or infinite in 1 row of 2000, the first 70; every value must be finite",
    ]


def _peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.fixture
def wide(tmp_path: Path) -> np.ndarray:
    """A mapped file of 8 MB, a row of which is 4 kB."""
    column = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (ROWS, 1000))
    column[:] = np.random.default_rng(0).uniform(-1, 1, (1, 1000))
    return column


def test_memory_does_not_grow_with_a_mapped_file(wide: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """What is made on the way is some blocks, of 64 kB here, and not the file."""
    monkeypatch.setattr(parts, "BYTES", 2**16)
    flags = np.arange(ROWS) % 100 == 99
    recording = Recording(wide, np.zeros((ROWS, 2)), np.zeros(ROWS), flags, flags, wide)
    for work in (
        lambda: problems_in({"obs": wide, "action": wide}),
        lambda: describe(recording),
        lambda: ActionMeanStd(9.0).units(wide),
    ):
        work()  # what is kept of a first call does not count
        assert _peak(work) < wide.nbytes / 4


def test_frames_are_summed_without_unstacking_them(monkeypatch: pytest.MonkeyPatch):
    """A few of the stacks at a time, and the sum of the plain array."""
    flags = np.arange(ROWS) % 100 == 99
    frames = np.random.default_rng(0).integers(0, 256, (ROWS, 16, 16, 3), np.uint8)
    obs, next_obs = stacked(frames, flags, 3)
    size = len(obs)
    rest = (np.zeros((size, 2)), np.zeros(size), np.zeros(size, bool), np.ones(size, bool))
    plain = digest(Rows(np.asarray(obs), *rest, np.asarray(next_obs)))
    monkeypatch.setattr(parts, "BYTES", 2**16)
    rows = Rows(obs, *rest, next_obs)
    assert digest(rows) == plain
    assert _peak(lambda: digest(rows)) < obs.nbytes / 10
