"""The rows of Minari's data sets.

A set is a folder ``data`` with ``metadata.json`` (see ``data.minari_header``) and
``main_data.hdf5``, in which every episode has its observations (one more than actions), actions,
rewards, terminations and truncations.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from flowpolicy.boxes import ActionBox
from flowpolicy.data.columns import open_columns
from flowpolicy.data.dataset import ACTION_TOLERANCE, Dataset
from flowpolicy.data.foreign import read_foreign
from flowpolicy.data.minari_header import Header, header
from flowpolicy.data.recording import Recording
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.errors import InvalidData, unknown_name

MAIN = "main_data.hdf5"


def load(name: str, *, keys: tuple[str, ...] = (), reward_shift: float = 0.0) -> Dataset:
    """The rows of the set ``name``, actions scaled from its Box to [-1, 1].

    Actions outside the Box are clipped to it, as the environments of D4RL do; ``info`` tells in
    how many rows (``clipped_rows``).

    keys:         of a Dict observation, the entries that the agent sees, in their order
    reward_shift: added to every reward; -1 for D4RL's antmazes

    An episode that neither terminates nor is truncated ends where its rows do, as a time-out.
    Raises what ``header`` does, ``MissingExtra``, and ``UnknownName`` for a key.
    """
    about = header(name)
    with tempfile.TemporaryDirectory(prefix=".flowpolicy-") as folder:
        out = Path(folder) / "columns"
        options = {"episodes": about.episodes, "steps": about.steps, "keys": chosen(about, keys)}
        read_foreign("minari", about.folder / MAIN, out, options)
        columns, told = open_columns(out)
        told = {
            **told,
            "set": about.name,
            "minari_version": about.minari,
            "environment": about.world.id if about.world else "",
            "ref_min_score": about.lowest,
            "ref_max_score": about.highest,
        }
        recording = _within(about.actions, Recording.of_columns(columns, told))
        return recording.dataset(_OfTheBox(about.actions), reward_shift=reward_shift)


def chosen(about: Header, keys: tuple[str, ...]) -> list[str]:
    """``keys``, once they are entries of the set's observations; none for a plain one."""
    known = about.observations
    if tuple(known) == ("",):
        if keys:
            raise InvalidData(f"{about.name}: observations have no entries, got keys={keys}")
        return []
    if not keys:
        raise InvalidData(
            f"{about.name}: an observation has the entries {', '.join(known)}; name those that the "
            f"agent sees, in their order, as in keys={tuple(known)!r}"
        )
    for key in keys:
        if key not in known:
            raise unknown_name(f"entry of {about.name}'s observation", key, known)
    return list(keys)


@dataclasses.dataclass(frozen=True)
class _OfTheBox:
    """Units that were known before any action was seen; see ``ActionScaling``."""

    box: ActionBox

    def units(self, action: np.ndarray) -> ActionUnits:
        """Those of the box, whatever ``action``."""
        del action
        middle, half = (tuple(map(float, x)) for x in (self.box.middle, self.box.half))
        return ActionUnits(middle, half)


def _within(box: ActionBox, recording: Recording) -> Recording:
    """Actions clipped to the box, and how many rows that changed by more than rounding."""
    given = np.asarray(recording.action)
    if given.shape[1:] != (box.size,):
        raise InvalidData(f"actions must have {box.size} entries, got shape {given.shape}")
    action = np.clip(given, box.low.astype(np.float32), box.high.astype(np.float32))
    beyond = np.abs(action - given) > ACTION_TOLERANCE * (box.high - box.low)
    told = {**recording.about, "clipped_rows": int(beyond.any(axis=1).sum())}
    return dataclasses.replace(recording, action=action, about=told)
