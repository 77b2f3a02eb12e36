"""``Recording``: rows as a file holds them, before anything was checked, and what they become."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from flowpolicy.data.actions import ActionScaling, AsRecorded
from flowpolicy.data.columns import tree_of
from flowpolicy.data.dataset import Dataset, Observations, completed, problems_in
from flowpolicy.deploy.units import RECORD, ActionUnits
from flowpolicy.errors import CorruptFile, InvalidData


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """Arrays of n rows in time order; they may be mapped files.

    obs, next_obs:     (n, ...), or mappings of such arrays; next_obs may be None
    action, reward:    (n, a) in any units, (n,)
    terminated, ended: flags: the value stops here, the trajectory stops here
    success:           flags, or None where the file does not tell
    about:             strict JSON: source, environment, and what was left out or missing
    """

    obs: Observations
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray
    next_obs: Observations | None = None
    success: np.ndarray | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_columns(cls, columns: Mapping[str, np.ndarray], about: dict[str, Any]) -> "Recording":
        """The columns that a reader of ``data.foreign`` writes, or that were finished."""
        for name in ("action", "reward", "terminated", "ended"):
            if name not in columns:
                raise CorruptFile(f"the column {name} is missing; there are {', '.join(columns)}")
        if tree_of(columns, "obs") is None:
            raise CorruptFile(f"the column obs is missing; there are {', '.join(columns)}")
        return cls(
            obs=tree_of(columns, "obs"),
            action=columns["action"],
            reward=columns["reward"],
            terminated=columns["terminated"],
            ended=columns["ended"],
            next_obs=tree_of(columns, "next_obs"),
            success=columns.get("success"),
            about=about,
        )

    def __len__(self) -> int:
        return len(self.action)

    def problems(self, units: ActionUnits | None = None) -> list[str]:
        """Everything that forbids training, as sentences; actions are judged in ``units``, which
        clip unless they change nothing.
        """
        action = self.action
        if units is not None and not units.change_nothing:
            action = units.to_box(action)
        arrays: dict[str, Any] = {
            "obs": self.obs,
            "action": action,
            "reward": self.reward,
            "terminated": self.terminated,
            "ended": self.ended,
        }
        if self.next_obs is not None:
            arrays["next_obs"] = self.next_obs
        return problems_in(arrays)

    def units(self, scaling: ActionScaling) -> ActionUnits:
        """The units that ``scaling`` chooses; ``InvalidData`` where actions are not even rows."""
        if self.action.ndim != 2 or not self.action.size or self.action.dtype.kind not in "iuf":
            raise InvalidData(
                f"action must be numbers of shape (rows, size), got {self.action.dtype} "
                f"{self.action.shape}"
            )
        return scaling.units(self.action)

    def dataset(
        self, scaling: ActionScaling = AsRecorded(), *, reward_shift: float = 0.0
    ) -> Dataset:
        """The rows, checked and in memory; ``info`` holds ``about`` and the actions' units.

        reward_shift: added to every reward. Raises ``InvalidData`` naming array, rows and what is
        allowed.
        """
        return self._dataset(self.units(scaling), reward_shift)

    def blocks(
        self, scaling: ActionScaling = AsRecorded(), *, reward_shift: float = 0.0, rows: int = 2**16
    ) -> Iterator[Dataset]:
        """``dataset`` in parts of whole trajectories, ``rows`` rows or some more each."""
        units = self.units(scaling)
        # Every part is given an end of its own: only here is seen that there is none.
        problems = problems_in({"terminated": self.terminated, "ended": self.ended})
        if problems:
            raise InvalidData("; ".join(problems))
        ends = np.flatnonzero(np.append(np.asarray(self.ended[:-1]), True)) + 1
        start = 0
        for end in map(int, ends):
            whole = end == len(self)
            if whole or (end - start >= rows and len(self) - end >= rows):
                try:
                    yield self._slice(start, end)._dataset(units, reward_shift)
                except InvalidData as error:
                    raise InvalidData(f"from row {start}: {error}") from None
                start = end

    def _slice(self, start: int, end: int) -> "Recording":
        def cut(tree: Any) -> Any:
            return jax.tree.map(lambda x: np.array(x[start:end]), tree)

        return Recording(
            cut(self.obs),
            cut(self.action),
            cut(self.reward),
            cut(self.terminated),
            # Where a part ends a trajectory ends, also the one that the file breaks off in.
            np.append(np.asarray(self.ended[start : end - 1], bool), True),
            cut(self.next_obs),
            None,
            self.about,
        )

    def _dataset(self, units: ActionUnits, reward_shift: float) -> Dataset:
        problems = self.problems(units)
        if problems:
            raise InvalidData("; ".join(problems))
        action = self.action if units.change_nothing else units.to_box(self.action)
        rows = completed(
            _read(self.obs),
            np.asarray(action),
            np.asarray(self.reward, np.float32) + np.float32(reward_shift),
            np.asarray(self.terminated).astype(bool),
            np.asarray(self.ended).astype(bool),
            _read(self.next_obs),
        )
        told = dict(self.about)
        if not units.change_nothing:
            told[RECORD] = units.record()
        if reward_shift:
            told["reward_shift"] = reward_shift
        return Dataset.from_rows(rows, told)


def _read(tree: Any) -> Any:
    """Mapped arrays as ones in memory: the file may be gone when they are used."""
    return jax.tree.map(lambda x: np.array(x) if isinstance(x, np.memmap) else x, tree)
