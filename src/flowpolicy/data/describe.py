"""What a data set of one's own holds, in numbers: lengths, ranges, rewards, duplicates, chunks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowpolicy.data.blocks import blocks, finite, span
from flowpolicy.data.columns import flat
from flowpolicy.data.dataset import Observations, outside
from flowpolicy.data.recording import Recording
from flowpolicy.deploy.units import ActionUnits

BINS = 40
ENTRIES = 24
"""Entries of an array whose histograms are made; the first ones."""


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
    """How chunks of ``horizon`` rows lie in the trajectories, as far as these are trained on.

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
    kept:                of each one's rows, those that are trained on: not the last one where it
                         neither terminates nor has an observation after it
    succeeded:           trajectories with a row that tells of success, or else that terminates
    outside:             rows with an action outside [-1, 1], in the units it was described in
    lost_rewards:        trajectories whose last row is not kept and has another reward than the row
                         before
    duplicate_rows:      rows whose observation and action an earlier row has too
    duplicate_episodes:  trajectories that an earlier one equals, row by row
    histograms:          by name, as ``action[0]``
    """

    rows: int
    lengths: tuple[int, ...]
    returns: tuple[float, ...]
    kept: tuple[int, ...]
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
    action = recording.action
    if units is not None and not units.change_nothing:
        action = units.scaled(action)
    ended = np.append(np.asarray(recording.ended[:-1]) != 0, True)
    ends = np.flatnonzero(ended) + 1
    starts = np.append(0, ends[:-1])
    told = recording.terminated if recording.success is None else recording.success
    obs = flat("obs", _gathered(recording.obs))
    arrays = {**obs, "action": action, "reward": recording.reward}
    row_sums = _row_sums({**obs, "action": recording.action})
    lengths = ends - starts
    kept = lengths - _drops(recording, ends - 1)
    return Description(
        rows=len(ended),
        lengths=tuple(lengths.tolist()),
        returns=tuple(_returns(recording.reward, starts).tolist()),
        kept=tuple(kept.tolist()),
        succeeded=int(np.count_nonzero(np.add.reduceat(np.asarray(told) != 0, starts))),
        tells_success=recording.success is not None or bool(np.any(recording.terminated)),
        columns={name: _column(array) for name, array in arrays.items()},
        outside=sum(int(outside(block).any(axis=1).sum()) for block in blocks(action)),
        lost_rewards=_lost_rewards(recording.reward, ends - 1, kept, lengths),
        duplicate_rows=len(row_sums) - len(np.unique(row_sums)),
        duplicate_episodes=len(starts) - len(np.unique(_episode_sums(row_sums, starts, lengths))),
        chunks=tuple(
            ChunkFit(h, float(_whole(kept, h) / max(kept.sum(), 1)), int((kept < h).sum()))
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


def _returns(reward: np.ndarray, starts: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # of rewards that are told to be too large
        return np.add.reduceat(np.asarray(reward, np.float64), starts)


def _drops(recording: Recording, last: np.ndarray) -> np.ndarray:
    """Flags: whether a trajectory's last row is dropped, as ``Dataset.from_arrays`` says."""
    if recording.next_obs is not None:
        return np.zeros(len(last), bool)
    return np.asarray(recording.terminated)[last] == 0


def _lost_rewards(
    reward: np.ndarray, last: np.ndarray, kept: np.ndarray, lengths: np.ndarray
) -> int:
    dropped = last[(kept < lengths) & (kept > 0)]
    return int(np.count_nonzero(np.asarray(reward)[dropped] != np.asarray(reward)[dropped - 1]))


def _whole(lengths: np.ndarray, horizon: int) -> int:
    return int(np.maximum(lengths - horizon + 1, 0).sum())


def _column(array: np.ndarray) -> ColumnInfo:
    low, high, wrong = span(array)
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
        sums = []
        for block in blocks(rows):
            bits = _mixed(np.ascontiguousarray(block, np.float64).view(np.uint64))
            sums.append(np.sum(bits * weights, axis=1, dtype=np.uint64))
        total += np.concatenate(sums)
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
    found = {
        "episode length": _histogram(lengths),
        "episode return": _histogram(_returns(arrays["reward"], starts)),
        "reward": _histogram(np.asarray(arrays["reward"], np.float64)),
    }
    for name in ("action", *(n for n in arrays if n.startswith("obs"))):
        rows = arrays[name].reshape(len(arrays[name]), -1)
        for i in range(min(rows.shape[1], ENTRIES)):
            found[f"{name}[{i}]"] = _histogram(np.asarray(rows[:, i], np.float64))
    return found


def _histogram(values: np.ndarray) -> Histogram:
    seen = values[finite(values)]
    seen = seen if seen.size else np.zeros(1)
    low, high = float(seen.min()), float(seen.max())
    # Values that differ in their last bits alone have no room for edges between them.
    room = 2 * BINS * float(np.spacing(max(abs(low), abs(high))))
    if high - low < room:
        low, high = low - max(room, 0.5), high + max(room, 0.5)
    counts, edges = np.histogram(seen, BINS, (low, high))
    return Histogram(tuple(counts.tolist()), tuple(edges.tolist()))
