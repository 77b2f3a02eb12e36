"""A data set of one's own, by its path: which format it is, is read off what is there.

==============================  =====================================================
an npz                          OGBench's names: observations, actions, terminals, and
                                where they are there rewards, masks, next_observations;
                                other arrays are left unread, and D4RL's timeouts refused
                                where they end what terminals does not
an HDF5 file                    RoboMimic's layout, ``data.robomimic``
a folder with meta/info.json    a LeRobotDataset of version 3, ``data.lerobot``
a folder with columns.json      rows that ``convert`` wrote, mapped and not read
==============================  =====================================================
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.actions import ActionScaling, AsRecorded
from flowpolicy.data.columns import check_free, is_columns, open_columns
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.foreign import read_foreign
from flowpolicy.data.mapped import FINISHED, map_rows, write_rows
from flowpolicy.data.npz import read_npz
from flowpolicy.data.recording import Recording
from flowpolicy.data.storage import storing
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData
from flowpolicy.readers import Limits

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NEEDED = ("observations", "actions", "terminals")
_OPTIONAL = ("rewards", "masks", "next_observations")
_OF_TASKS = ("qpos", "qvel", "button_states")
"""Arrays that OGBench's files have for the rewards of a task, which are not read here."""


def load_data(
    path: str | Path,
    *,
    actions: ActionScaling = AsRecorded(),
    reward_shift: float = 0.0,
    fields: tuple[str, ...] = (),
    subset: str = "",
) -> Dataset:
    """Reads a data set of one's own, whichever of the formats above it is, and checks it.

    actions:      how recorded actions become [-1, 1]; ``action_units`` undoes it
    reward_shift: added to every reward; -1 makes a success of 1 the -1 and 0 of the papers
    fields:       which observations, all vectors where empty; of one a row is that vector, of
                  several a mapping by name (HDF5 and LeRobot)
    subset:       a filter key, as in ``mask/train`` (HDF5)

    Raises ``MissingData``, ``MissingExtra``, ``CorruptFile`` and ``InvalidData``, which name the
    file, the field and what is allowed.
    """
    path = Path(path)
    if kind(path) == "rows":
        _no_options(path, actions, reward_shift, fields, subset)
        return map_rows(path)
    with recording(path, fields=fields, subset=subset) as found, _named(path):
        return found.dataset(actions, reward_shift=reward_shift)


def convert(
    path: str | Path,
    out: str | Path,
    *,
    actions: ActionScaling = AsRecorded(),
    reward_shift: float = 0.0,
    fields: tuple[str, ...] = (),
    subset: str = "",
) -> Path:
    """Writes the rows of ``load_data`` into the folder ``out``, which ``load_data`` then maps.

    Never holds more than some ten thousand rows of an HDF5 file or a LeRobotDataset in memory (an
    npz as a whole); needs twice the rows' size on the disk meanwhile. ``out`` appears whole or not
    at all. Raises what ``load_data`` does, ``InvalidConfig`` where ``out`` is there already, and
    ``StorageFailed`` where the disk refuses.
    """
    path, out = Path(path), Path(out)
    if kind(path) == "rows":
        raise InvalidConfig(f"{path} is converted already")
    check_free(out)  # before anything is unpacked
    with recording(path, fields=fields, subset=subset, beside=out) as found, _named(path):
        return write_rows(out, found.blocks(actions, reward_shift=reward_shift))


def kind(path: Path) -> str:
    """``npz``, ``robomimic``, ``lerobot`` or ``rows``, by what is there.

    Raises ``MissingData`` where nothing is, ``CorruptFile`` where it is none of these.
    """
    if path.is_dir():
        if is_columns(path):
            return "rows"
        if (path / "meta").is_dir():
            return "lerobot"
        raise CorruptFile(
            f"{path} is no data set: a LeRobotDataset has meta/info.json, rows that flowpolicy "
            "wrote have columns.json"
        )
    if not path.is_file():
        raise MissingData(f"{path}: there is no such file or folder")
    with open(path, "rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return "robomimic"
    if start[:4] == b"PAR1":
        raise CorruptFile(f"{path} is one Parquet file; give the folder of the LeRobotDataset")
    return "npz"  # whose reader says what else it may be


@contextlib.contextmanager
def recording(
    path: Path,
    *,
    fields: tuple[str, ...] = (),
    subset: str = "",
    beside: Path | None = None,
    limits: Limits = Limits(),
) -> Iterator[Recording]:
    """The rows of ``path`` as they are, valid within the block.

    beside: what HDF5 and Parquet unpack to lies beside this path meanwhile, and in the system's
            place for temporary files where it is None
    """
    what = kind(path)
    if what == "npz":
        if fields or subset:
            raise InvalidConfig(f"{path} is an npz, which has neither fields nor subsets")
        yield _of_npz(path, read_npz(path, limits))
        return
    if what == "lerobot" and subset:
        raise InvalidConfig(f"{path}: a LeRobotDataset has no filter keys, got subset {subset!r}")
    if what == "rows":
        columns, about = open_columns(path, limits)
        with _named(path):
            found = Recording.of_columns(columns, about)
        yield found
        return
    options = {"fields": list(fields), "subset": subset}
    parent = Path(tempfile.gettempdir()) if beside is None else beside.parent
    with storing(beside or parent):
        parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".flowpolicy-", dir=parent)
    with temporary as folder:
        read_foreign(what, path, Path(folder) / "columns", options, limits)
        columns, about = open_columns(Path(folder) / "columns", limits)
        yield Recording.of_columns(columns, {**about, "file": path.name})


def _cut_off(ended: np.ndarray, timeouts: np.ndarray) -> bool:
    """Whether D4RL's time-outs say more than the ends that are read."""
    if timeouts.shape != ended.shape or timeouts.dtype.kind not in "biuf":
        return True
    return bool(np.any((timeouts != 0) & (ended == 0)))


def _of_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> Recording:
    missing = [n for n in _NEEDED if n not in arrays]
    if missing:
        raise InvalidData(f"{path}: {missing[0]} is missing; it holds {', '.join(arrays)}")
    ended = arrays["terminals"]
    if _cut_off(ended, arrays.get("timeouts", ended)):
        raise InvalidData(
            f"{path}: timeouts is not read, and ends trajectories that terminals does not; put it "
            "into terminals, as in terminals | timeouts, and set masks to 1 - terminals as they "
            "were before"
        )
    rows = len(ended) if ended.ndim else 0
    return Recording(
        obs=arrays["observations"],
        action=arrays["actions"],
        reward=arrays.get("rewards", np.zeros(rows, np.float32)),
        terminated=_unmasked(arrays.get("masks", np.ones(rows, bool))),
        ended=ended,
        next_obs=arrays.get("next_observations"),
        about={
            "source": "npz",
            "file": path.name,
            "missing": [n for n in _OPTIONAL if n not in arrays],
            "unread": [n for n in arrays if n not in (*_NEEDED, *_OPTIONAL, *_OF_TASKS)],
        },
    )


def _unmasked(masks: np.ndarray) -> np.ndarray:
    """Flags, where ``masks`` is 0; another number, which checks refuse, where it is no flag."""
    if masks.dtype == bool:
        return ~masks
    return np.where(masks == 0, 1, np.where(masks == 1, 0, 2)).astype(np.int8)


def _no_options(path: Path, actions: Any, reward_shift: float, fields: Any, subset: str) -> None:
    if fields or subset or reward_shift or actions != AsRecorded():
        raise InvalidConfig(
            f"{path} holds finished rows: fields, subset, actions and reward_shift were chosen by "
            f"what wrote it ({FINISHED})"
        )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (CorruptFile, InvalidData) as error:
        raise type(error)(f"{path}: {error}") from None
