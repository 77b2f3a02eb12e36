"""Rows larger than memory: a folder of columns, mapped, of which only what is asked for is read."""

from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from flowpolicy.data.columns import flat, open_columns, tree_of, writing
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.frames import are_frames
from flowpolicy.errors import CorruptFile
from flowpolicy.readers import Limits
from flowpolicy.types import Rows

FINISHED = "flowpolicy.data.own.convert"
"""Who writes such a folder; ``about.written_by`` says so, and that the rows were checked."""
_FLOATS, _FLAGS = ("action", "reward"), ("terminated", "ended")


def write_rows(folder: Path, blocks: Iterable[Dataset]) -> Path:
    """Writes data sets one after the other into ``folder``, which appears whole or not at all.

    ``about`` is the ``info`` of the first. Raises ``InvalidConfig`` where the folder is there
    already, ``InvalidData`` where blocks are not alike, ``StorageFailed`` where the disk refuses.
    """
    with writing(folder) as writer:
        for block in blocks:
            rows = block.rows
            writer.append(
                {
                    **flat("obs", rows.obs),
                    **{n: np.asarray(getattr(rows, n)) for n in (*_FLOATS, *_FLAGS)},
                    **flat("next_obs", rows.next_obs),
                }
            )
            writer.about = writer.about or {**block.info, "written_by": FINISHED}
    return folder


def map_rows(folder: Path, limits: Limits = Limits()) -> Dataset:
    """The data set in ``folder``, whose arrays are mapped: opening it reads no row.

    The rows were checked when they were written; ``flowpolicy data check`` compares their sums.
    Raises ``MissingData`` or ``CorruptFile`` naming the file.
    """
    columns, about = open_columns(folder, limits)
    obs, next_obs = tree_of(columns, "obs"), tree_of(columns, "next_obs")
    missing = [name for name in (*_FLOATS, *_FLAGS) if name not in columns]
    if about.get("written_by") != FINISHED or obs is None or next_obs is None or missing:
        raise CorruptFile(f"{folder} holds no rows that flowpolicy wrote; missing: {missing}")
    rows = Rows(
        obs,
        columns["action"],
        columns["reward"],
        columns["terminated"],
        columns["ended"],
        next_obs,
    )
    shapes = [jax.tree.map(lambda x: x.shape, tree) for tree in (obs, next_obs)]
    kinds = [columns[name].dtype.kind for name in _FLAGS]
    seen = jax.tree.leaves((obs, next_obs))
    if (
        shapes[0] != shapes[1]
        or kinds != ["b", "b"]
        or any(x.dtype != np.float32 for x in (rows.action, rows.reward))
        or any(x.dtype != np.float32 and not are_frames(x) for x in seen)
        or [rows.action.ndim, rows.reward.ndim, rows.ended.ndim] != [2, 1, 1]
    ):
        raise CorruptFile(f"{folder}: its columns are not rows, or not float32, frames and flags")
    return Dataset(rows, about)
