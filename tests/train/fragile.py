"""A task whose environments kill the process they are in; importable by worker processes."""

import dataclasses
import os
import signal
from pathlib import Path

import flowpolicy as fp
from flowpolicy.envs.toy import PointMass


@fp.register("fragile")
@dataclasses.dataclass(frozen=True)
class Fragile:
    """Point masses. As long as there are files in ``folder``, the next step whose number in the
    episode is ``at`` removes one and kills its process."""

    folder: str = ""
    at: int = 7
    name = "fragile"
    playable = True

    def dataset(self):
        return None

    def env(self):
        return Dying(Path(self.folder), self.at)


class Dying(PointMass):
    def __init__(self, folder, at):
        super().__init__()
        self.folder, self.at = folder, at

    def step(self, action):
        if self._steps + 1 == self.at:
            for file in sorted(self.folder.iterdir())[:1]:
                file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Failing(PointMass):
    def step(self, action):
        raise ValueError("the gripper is stuck")
