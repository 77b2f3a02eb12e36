"""``Dataset``: checked rows on the host, and where they come from."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flowpolicy.data.blocks import blocks, finite, span
from flowpolicy.data.digest import digest
from flowpolicy.data.frames import Frames, are_frames
from flowpolicy.errors import InvalidData
from flowpolicy.types import Rows

ACTION_TOLERANCE = 1e-5
"""How far an action may lie outside [-1, 1]; rounding, which is clipped away."""
MIN_ROWS = 2

Observations = np.ndarray | Frames | Mapping[str, np.ndarray | Frames]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Offline data: ``rows`` in time order, one trajectory after the other, and their ``info``.

    rows: float32 arrays on the host (flags are bool), every value finite, actions in [-1, 1];
          frames (``data.frames``) stay bytes
    info: strict JSON about their origin (source, environment, sha256, versions, reward timing)

    Made by ``from_arrays``, ``from_rows``, ``flowpolicy.data.ogbench.load`` or
    ``flowpolicy.load_data``, which check; ``flowpolicy.data.mapped`` maps rows that were.
    """

    rows: Rows
    info: dict[str, Any]

    @classmethod
    def from_arrays(
        cls,
        *,
        obs: Observations,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_obs: Observations | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> "Dataset":
        """Checks arrays of n rows in time order; a row is one environment step.

        obs, next_obs: (n, ...) each, or mappings of such arrays with the same keys
        action: (n, a), in [-1, 1] up to 1e-5, clipped
        reward: (n,); terminated, truncated: (n,) flags: the task is over, the time is up

        Without ``next_obs`` it is the next row's observation. A trajectory's last row has none: it
        is dropped, and the row before it becomes the trajectory's end, as OGBench's loader does;
        but a terminated row stays, with its own observation in that place, since nothing is
        bootstrapped from it and dropping it would drop the success. Rows after the last end count
        as one more trajectory. Raises ``InvalidData`` naming array, rows and what is allowed.
        """
        named = {"obs": obs, "action": action, "reward": reward}
        flags = {"terminated": terminated, "truncated": truncated}
        if next_obs is not None:
            named["next_obs"] = next_obs
        _refuse(problems_in({**named, **flags}))
        terminated, truncated = (np.asarray(flag).astype(bool) for flag in flags.values())
        rows = completed(obs, action, reward, terminated, terminated | truncated, next_obs)
        return cls.from_rows(rows, {"source": "arrays", **(info or {})})

    @classmethod
    def from_rows(cls, rows: Rows, info: Mapping[str, Any]) -> "Dataset":
        """Checks rows as they are. Here ``terminated`` may be set where a trajectory goes on: play
        data with a task's rewards reaches the goal and leaves it again.
        """
        named = {
            "obs": rows.obs,
            "action": rows.action,
            "reward": rows.reward,
            "terminated": rows.terminated,
            "ended": rows.ended,
            "next_obs": rows.next_obs,
        }
        _refuse(problems_in(named))
        try:
            plain = json.loads(json.dumps(dict(info), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidData(f"info must be strict JSON: {error}") from None
        ended = np.array(rows.ended, bool)
        ended[-1] = True  # whatever follows is another trajectory
        checked = Rows(
            obs=_float32(rows.obs),
            action=_clipped(np.asarray(rows.action)),
            reward=_float32(rows.reward),
            terminated=np.asarray(rows.terminated).astype(bool),
            ended=ended,
            next_obs=_float32(rows.next_obs),
        )
        return cls(checked, plain)

    def __len__(self) -> int:
        return len(self.rows.reward)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the rows, in hexadecimal; reading them once takes a second a million."""
        return digest(self.rows)

    @property
    def record(self) -> dict[str, Any]:
        """What a run writes down about its data: ``info``, sizes, and ``rows_sha256``, which
        ``data.digest.check_same_rows`` compares.
        """
        sizes = {"rows": len(self), "episodes": self.episodes}
        return {**self.info, **sizes, "rows_sha256": self.digest}

    @property
    def obs_shape(self) -> Any:
        """Shape of one observation, or a mapping from field to shape, as ``Spec`` has it."""
        return jax.tree.map(lambda x: tuple(x.shape[1:]), self.rows.obs)

    @property
    def action_size(self) -> int:
        """Size of one action."""
        return int(self.rows.action.shape[-1])

    @property
    def episodes(self) -> int:
        """Number of trajectories."""
        return int(np.sum(self.rows.ended))


def completed(
    obs: Observations,
    action: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
    next_obs: Observations | None = None,
) -> Rows:
    """Arrays that are sound, as rows; without ``next_obs`` as ``Dataset.from_arrays`` says.

    terminated, ended: flags; a trajectory may go on after a terminated row
    """
    observations = _float32(obs)
    if next_obs is None:
        keep = ~_last_without_next(ended) | terminated
        following = jax.tree.map(lambda x: _following(x, ended)[keep], observations)
        observations = jax.tree.map(lambda x: x[keep], observations)
        ended = _ended_after_dropping(ended, keep)
    else:
        keep = np.ones(len(ended), bool)
        following = _float32(next_obs)
    return Rows(
        obs=observations,
        action=_clipped(action)[keep],
        reward=_float32(reward)[keep],
        terminated=terminated[keep],
        ended=ended,
        next_obs=following,
    )


def problems_in(arrays: Mapping[str, Observations]) -> list[str]:
    """Everything that is wrong with the arrays of a data set, as sentences; empty if nothing.

    Knows the names obs, next_obs, action, reward, terminated, truncated and ended; flags say where
    trajectories end.
    """
    problems, sound = [], {}
    for name, value in arrays.items():
        for label, array in _leaves(name, value):
            trouble = _plain(label, array)
            if trouble:
                problems.append(trouble)
            else:
                sound[label] = array if isinstance(array, Frames) else np.asarray(array)
    lengths = {label: len(array) for label, array in sound.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{label} {length}" for label, length in lengths.items())
        problems.append(f"all arrays must have the same number of rows, got {told}")
    if lengths and min(lengths.values()) < MIN_ROWS:
        problems.append(f"too few rows: at least {MIN_ROWS} are needed, got {lengths}")
    for label, array in sound.items():
        if len(array) and not isinstance(array, Frames):
            problems += _SPECIAL.get(label.split("/")[0], lambda *_: [])(label, array)
            problems += _not_finite(label, array)
    return problems + _pairs(arrays, sound) + _no_end(sound)


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, v in value.items() for pair in _leaves(f"{name}/{key}", v)]
    return [(name, value)]


def _plain(label: str, value: Any) -> str:
    if value is None:
        return f"{label} is missing"
    if isinstance(value, Frames):
        return ""
    try:
        array = np.asarray(value)
    except ValueError as error:
        return f"{label} is not one array: {error}"
    if array.dtype == object or array.dtype.kind not in "biuf":
        return f"{label} must hold plain numbers, got dtype {array.dtype}"
    if array.ndim == 0:
        return f"{label} must have one entry a row, got the single value {array}"
    return ""


def _wrong_rows(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Flags (rows,): whether any entry is wrong. The array may be a mapped file."""
    flags = [wrong(block).reshape(len(block), -1).any(axis=1) for block in blocks(array)]
    return np.concatenate(flags)


def _rows_of(wrong: np.ndarray) -> str:
    """``3 rows, the first 7, 8, 12``."""
    rows = np.flatnonzero(wrong)
    first = ", ".join(str(row) for row in rows[:5])
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    return f"{count} of {len(wrong)}, the first {first}"


def _not_finite(label: str, array: np.ndarray) -> list[str]:
    if array.dtype.kind != "f":
        return []
    wrong = _wrong_rows(array, lambda values: ~finite(values))
    if not wrong.any():
        return []
    return [f"{label} is NaN or infinite in {_rows_of(wrong)}; every value must be finite"]


def _action(label: str, array: np.ndarray) -> list[str]:
    if array.ndim != 2 or array.shape[1] < 1:
        return [f"{label} must have shape (rows, action size), got {array.shape}"]
    wrong = _wrong_rows(array, outside)
    if not wrong.any():
        return []
    low, high, _ = span(array)
    told = f"[{low.min():.6g}, {high.max():.6g}]" if low.min() < np.inf else "nothing finite"
    return [
        f"{label} must lie in [-1, 1], but spans {told}: {_rows_of(wrong)}; rescale it, "
        "as load_data(..., actions=fp.action_min_max()) does, or --actions action_min_max on a "
        "terminal"
    ]


def outside(action: np.ndarray) -> np.ndarray:
    """Flags: beyond [-1, 1] by more than rounding."""
    return (action > 1 + ACTION_TOLERANCE) | (action < -1 - ACTION_TOLERANCE)


def _vector(label: str, array: np.ndarray) -> list[str]:
    if array.ndim != 1:
        return [f"{label} must have shape (rows,), got {array.shape}"]
    return []


def _flag(label: str, array: np.ndarray) -> list[str]:
    wrong = ~np.isin(array, (0, 1))
    if array.ndim == 1 and wrong.any():
        return [f"{label} must hold flags, 0 or 1, got other values in {_rows_of(wrong)}"]
    return _vector(label, array)


_SPECIAL: dict[str, Callable[[str, np.ndarray], list[str]]] = {
    "action": _action,
    "reward": _vector,
    "terminated": _flag,
    "truncated": _flag,
    "ended": _flag,
}


def _pairs(arrays: Mapping[str, Observations], sound: Mapping[str, Any]) -> list[str]:
    """obs and next_obs must look alike."""
    if "next_obs" not in arrays:
        return []
    shapes = {}
    for name in ("obs", "next_obs"):
        labels = [label for label, _ in _leaves(name, arrays[name])]
        shapes[name] = {la[len(name) :]: sound[la].shape[1:] for la in labels if la in sound}
    if shapes["obs"] == shapes["next_obs"]:
        return []
    return [f"next_obs must have the fields and shapes of obs, got {shapes}"]


def _no_end(sound: Mapping[str, Any]) -> list[str]:
    flags = [sound[name] for name in ("terminated", "truncated", "ended") if name in sound]
    if not flags or any(flag.any() for flag in flags):
        return []
    return ["no row ends an episode: set terminated or truncated on each trajectory's last row"]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InvalidData("; ".join(problems))


def _float32(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _float32(tree[key]) for key in tree}
    if are_frames(tree):
        return tree
    return np.ascontiguousarray(tree, np.float32)


def _clipped(action: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(action, np.float32), -1.0, 1.0)


def _last_without_next(ended: np.ndarray) -> np.ndarray:
    last = ended.copy()
    last[-1] = True
    return last


def _following(array: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The next row within the trajectory; a trajectory's last row follows itself."""
    index = np.arange(len(array)) + ~_last_without_next(ended)
    return array[index]


def _ended_after_dropping(ended: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The ends among the rows that stay: kept ends, and rows before one that is dropped."""
    before_dropped = np.append(~keep[1:], False)
    return (ended | before_dropped)[keep]
