"""RoboMimic's tasks: people's demonstrations or scripted ones, and robosuite's environments."""

import dataclasses
import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.ogbench import default_path, or_most_rows
from flowpolicy.data.own import load_data
from flowpolicy.envs.base import Env
from flowpolicy.envs.robomimic import CONTROL_FREQUENCY, WORLDS, fields_of, make_robomimic
from flowpolicy.envs.scripted import JOBS
from flowpolicy.errors import InvalidConfig, InvalidData, MissingData, unknown_name
from flowpolicy.parts import register
from flowpolicy.runs.own import stamp
from flowpolicy.train.given import check_least
from flowpolicy.train.task import Entry


@register("robomimic")
@dataclasses.dataclass(frozen=True)
class RoboMimic:
    """A task of RoboMimic with low-dimensional observations; needs the extra robomimic.

    Rewards are -1 a step, and 0 where the task is solved, which ends the episode (QC's code).
    """

    task: str = "can"
    """lift, can, square, transport or tool_hang."""
    data: Literal["mh", "ph", "scripted"] = "mh"
    """Whose demonstrations: several people's (multi-human), one expert's (proficient), or those of
    our scripted hand (``flowpolicy data demonstrate``; lift and can). People's are looked for in
    ~/.robomimic/<task>/<data>/low_dim_v15.hdf5."""
    rows: int = 0
    """Rows of the scripted file that is meant; 0 for the one without a number in its name, or else
    the one of most rows."""
    file: str = ""
    """A file of yours in RoboMimic's layout; empty for the usual place."""
    subset: str = ""
    """A filter key of the file, as in mask/train; all demonstrations if empty."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.task not in WORLDS:
            raise unknown_name("RoboMimic task", self.task, WORLDS)
        check_least(self, rows=0)
        if self.data == "scripted" and self.task not in JOBS:
            raise InvalidConfig(
                f"robomimic.data: there is no script for {self.task}, only for {', '.join(JOBS)}"
            )

    @property
    def name(self) -> str:
        """The task, as in robomimic-can."""
        return f"robomimic-{self.task}"

    @property
    def playable(self) -> bool:
        """True."""
        return True

    @property
    def path(self) -> Path:
        """Where the demonstrations are looked for."""
        if self.file:
            return Path(self.file)
        if self.data == "scripted":
            usual = demonstrations_path(self.task, self.rows or None)
            return usual if self.rows else or_most_rows(usual)
        return Path.home() / ".robomimic" / self.task / self.data / "low_dim_v15.hdf5"

    def dataset(self) -> Dataset:
        """The demonstrations; ``MissingData`` says how to get them, and see ``load_data``.

        Raises ``InvalidData`` where rewards are not 0 and 1, as in files with shaped ones.
        """
        if not self.path.is_file():
            raise MissingData(f"no demonstrations at {self.path}; {self._how_to_get()}")
        return _load(self, stamp(str(self.path)))

    def env(self) -> Env:
        """A new environment, made as the file says, or as is usual where there is no file.

        Raises what ``make_robomimic`` does, and ``InvalidData`` where the file does not say.
        """
        if not self.path.is_file():
            return make_robomimic(self.task)
        env_args = self.dataset().info.get("env_args")
        if not env_args:
            raise InvalidData(
                f"{self.path}: data has no attribute env_args, by which its environment is made; "
                f"it must be JSON such as envs.robomimic.usual_env_args({self.task!r})"
            )
        return make_robomimic(self.task, env_args)

    @property
    def control_interval(self) -> float | None:
        """Seconds between two actions."""
        return 1.0 / CONTROL_FREQUENCY

    def fields(self) -> Mapping[str, tuple[Entry, ...]]:
        """What the entries of an observation are."""
        arms = WORLDS[self.task].arms
        own = [
            entry
            for i in range(arms)
            for entry in (
                Entry(f"robot {i}: position of the end effector", 3, "m"),
                Entry(f"robot {i}: orientation of the end effector, quaternion xyzw", 4, "1"),
                Entry(f"robot {i}: positions of the fingers", 2, "m"),
            )
        ]
        state = Entry("state of the objects, as in robosuite", OBJECT_SIZES[self.task], "m and 1")
        return {"obs": (*own, state)}

    def _how_to_get(self) -> str:
        there = f" --out {shlex.quote(self.file)}" if self.file else ""
        make = f"flowpolicy data demonstrate {self.task} --rows {self.rows or 20_000}{there}"
        if self.data == "scripted":
            return f"make them with: {make}"
        fetch = (
            f"put RoboMimic's low_dim_v15.hdf5 of {self.task}/{self.data} there (its data set "
            "amandlek/robomimic on the Hugging Face hub has it)"
        )
        return f"{fetch}, or choose data='scripted' and {make}" if self.task in JOBS else fetch


OBJECT_SIZES = {"lift": 10, "can": 14, "square": 14, "transport": 41, "tool_hang": 44}
"""Numbers in the observation ``object``."""


def demonstrations_path(task: str, rows: int | None = None) -> Path:
    """Where the scripted demonstrations of ``task`` of that many rows are kept."""
    return default_path(f"robomimic-{task}-scripted", rows).with_suffix(".hdf5")


@functools.lru_cache(maxsize=1)
def _load(task: RoboMimic, stamp: tuple[int, int]) -> Dataset:
    del stamp
    fields = fields_of(task.task)
    data = load_data(task.path, reward_shift=-1.0, fields=fields, subset=task.subset)
    rows = data.rows
    if not np.isin(rows.reward, (-1.0, 0.0)).all():
        low, high = rows.reward.min() + 1.0, rows.reward.max() + 1.0
        raise InvalidData(
            f"{task.path}: rewards must be 1 where the task is solved and 0 elsewhere, got "
            f"{low:g} to {high:g}; take the file with sparse rewards"
        )
    info: dict[str, Any] = {**data.info, "task": task.name}
    joined = dataclasses.replace(
        rows, obs=_joined(rows.obs, fields), next_obs=_joined(rows.next_obs, fields)
    )
    return Dataset.from_rows(joined, info)


def _joined(observations: Any, fields: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([observations[field] for field in fields], axis=1)
