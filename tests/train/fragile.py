"""A task whose environments kill the process they are in; importable by worker processes."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import flowpolicy as fp
from flowpolicy.envs.toy import PointMass
from flowpolicy.runs import PointMassTask


@fp.register("fragile")
@dataclasses.dataclass(frozen=True)
class Fragile:
    """Point masses. As long as there are files in ``folder``, the next step whose number in the
    episode is ``at`` (0: its reset) removes one and kills its process."""

    folder: str = ""
    at: int = 7
    name = "fragile"
    playable = True

    def dataset(self):
        return None

    def env(self):
        return Dying(Path(self.folder), self.at)


@fp.register("fragile_with_rows")
@dataclasses.dataclass(frozen=True)
class FragileWithRows(Fragile):
    """The same, with an offline data set."""

    def dataset(self):
        return PointMassTask(rows=300).dataset()


class Dying(PointMass):
    def __init__(self, folder, at):
        super().__init__()
        self.folder, self.at = folder, at

    def reset(self, seed):
        # The first environment of a fleet is reset in the parent, to look at it.
        self._die(0 if multiprocessing.parent_process() else -1)
        return super().reset(seed)

    def step(self, action):
        self._die(self._steps + 1)
        return super().step(action)

    def _die(self, at):
        if at == self.at:
            for file in sorted(self.folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):  # another worker died of it
                    file.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)


class Failing(PointMass):
    def step(self, action):
        raise ValueError("the gripper is stuck")
