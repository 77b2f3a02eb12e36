"""What a data set of one's own holds, in numbers: lengths, ranges, rewards, duplicates, chunks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowpolicy.data.columns import flat
from flowpolicy.data.dataset import Observations
from flowpolicy.data.recording import Recording
from flowpolicy.deploy.units import ActionUnits

BINS = 40
ENTRIES = 24
"""Entries of an array whose histograms are made; the first ones."""
BLOCK = 2**16


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts between edges, of the finite values."""

    counts: tuple[int, ...]
    edges: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ColumnInfo:
    """One array: the ranges are per entry of a row, over its finite values."""

    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    not_finite: int


@dataclasses.dataclass(frozen=True)
class ChunkFit:
    """How chunks of ``horizon`` rows lie in the trajectories.

    share:          of the rows, those at which a whole chunk begins
    short_episodes: trajectories that are shorter than one
    """

    horizon: int
    share: float
    short_episodes: int


@dataclasses.dataclass(frozen=True)
class Description:
    """What a data set holds.

    lengths, returns:    of the trajectories, in order
    succeeded:           trajectories with a row that tells of success, or else that terminates
    outside:             rows with an action outside [-1, 1], in the units it was described in
    lost_rewards:        trajectories whose last row is dropped, as it has no observation after it,
                         and has another reward than the row before
    duplicate_rows:      rows whose observation and action an earlier row has too
    duplicate_episodes:  trajectories that an earlier one equals, row by row
    histograms:          by name, as ``action[0]``
    """

    rows: int
    lengths: tuple[int, ...]
    returns: tuple[float, ...]
    succeeded: int
    tells_success: bool
    columns: dict[str, ColumnInfo]
    outside: int
    lost_rewards: int
    duplicate_rows: int
    duplicate_episodes: int
    chunks: tuple[ChunkFit, ...]
    histograms: dict[str, Histogram]
    about: dict[str, Any]

    @property
    def episodes(self) -> int:
        """Number of trajectories."""
        return len(self.lengths)


def describe(
    recording: Recording,
    units: ActionUnits | None = None,
    horizons: tuple[int, ...] = (1, 5, 8, 16),
) -> Description:
    """Describes rows that need not be sound, but whose arrays have one length and hold numbers.

    units:    in which actions are judged; as recorded where None
    horizons: lengths of chunks to be tried
    """
    action = recording.action if units is None else units.to_box(recording.action)
    ended = np.append(np.asarray(recording.ended[:-1]) != 0, True)
    ends = np.flatnonzero(ended) + 1
    starts = np.append(0, ends[:-1])
    told = recording.terminated if recording.success is None else recording.success
    obs = flat("obs", _gathered(recording.obs))
    arrays = {**obs, "action": action, "reward": recording.reward}
    row_sums = _row_sums({**obs, "action": recording.action})
    lengths = ends - starts
    return Description(
        rows=len(ended),
        lengths=tuple(lengths.tolist()),
        returns=tuple(np.add.reduceat(np.asarray(recording.reward, np.float64), starts).tolist()),
        succeeded=int(np.count_nonzero(np.add.reduceat(np.asarray(told) != 0, starts))),
        tells_success=recording.success is not None or bool(np.any(recording.terminated)),
        columns={name: _column(array) for name, array in arrays.items()},
        outside=int(np.count_nonzero((np.abs(action) > 1 + 1e-5).reshape(len(action), -1).any(1))),
        lost_rewards=_lost_rewards(recording, ends - 1, lengths),
        duplicate_rows=len(row_sums) - len(np.unique(row_sums)),
        duplicate_episodes=len(starts) - len(np.unique(_episode_sums(row_sums, starts, lengths))),
        chunks=tuple(
            ChunkFit(h, float(_whole(lengths, h) / len(ended)), int((lengths < h).sum()))
            for h in horizons
        ),
        histograms=_histograms(arrays, lengths, starts),
        about=recording.about,
    )


def _gathered(obs: Observations) -> np.ndarray | dict[str, np.ndarray]:
    """Every column as an array, stacked frames among them."""
    if isinstance(obs, Mapping):
        return {name: np.asarray(column) for name, column in obs.items()}
    return np.asarray(obs)


def _lost_rewards(recording: Recording, last: np.ndarray, lengths: np.ndarray) -> int:
    if recording.next_obs is not None:
        return 0
    dropped = last[(lengths > 1) & (np.asarray(recording.terminated)[last] == 0)]
    reward = np.asarray(recording.reward)
    return int(np.count_nonzero(reward[dropped] != reward[dropped - 1]))


def _whole(lengths: np.ndarray, horizon: int) -> int:
    return int(np.maximum(lengths - horizon + 1, 0).sum())


def _column(array: np.ndarray) -> ColumnInfo:
    rows = array.reshape(len(array), -1)
    low, high = np.full(rows.shape[1], np.inf), np.full(rows.shape[1], -np.inf)
    wrong = 0
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK], np.float64)
        finite = np.isfinite(block)
        wrong += int(block.size - np.count_nonzero(finite))
        low = np.minimum(low, np.min(block, axis=0, where=finite, initial=np.inf))
        high = np.maximum(high, np.max(block, axis=0, where=finite, initial=-np.inf))
    seen = np.isfinite(low)
    return ColumnInfo(
        array.shape,
        str(array.dtype),
        tuple(np.where(seen, low, 0.0).tolist()),
        tuple(np.where(seen, high, 0.0).tolist()),
        wrong,
    )


def _row_sums(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """One number a row, that of equal rows only by a chance of 2^-64 another one's."""
    draws = np.random.default_rng(0)
    total = np.zeros(len(next(iter(arrays.values()))), np.uint64)
    for array in arrays.values():
        rows = array.reshape(len(array), -1)
        weights = draws.integers(0, 2**63, rows.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
        for start in range(0, len(rows), BLOCK):
            block = np.ascontiguousarray(rows[start : start + BLOCK], np.float64)
            bits = _mixed(block.view(np.uint64))
            total[start : start + BLOCK] += np.sum(bits * weights, axis=1, dtype=np.uint64)
    return _mixed(total)


def _mixed(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers that spreads every bit (splitmix64's last step)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _episode_sums(rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    place = np.arange(len(rows)) - np.repeat(starts, lengths)
    return np.add.reduceat(_mixed(rows + _mixed(place.astype(np.uint64))), starts)


def _histograms(
    arrays: dict[str, np.ndarray], lengths: np.ndarray, starts: np.ndarray
) -> dict[str, Histogram]:
    reward = np.asarray(arrays["reward"], np.float64)
    found = {
        "episode length": _histogram(lengths),
        "episode return": _histogram(np.add.reduceat(reward, starts)),
        "reward": _histogram(reward),
    }
    for name in ("action", *(n for n in arrays if n.startswith("obs"))):
        rows = arrays[name].reshape(len(arrays[name]), -1)
        for i in range(min(rows.shape[1], ENTRIES)):
            found[f"{name}[{i}]"] = _histogram(np.asarray(rows[:, i], np.float64))
    return found


def _histogram(values: np.ndarray) -> Histogram:
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite if finite.size else np.zeros(1), bins=BINS)
    return Histogram(tuple(counts.tolist()), tuple(edges.tolist()))
