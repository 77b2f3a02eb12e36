"""Tasks of the Farama Foundation's libraries: Gymnasium's environments."""

import dataclasses

from flowpolicy.data.dataset import Dataset
from flowpolicy.envs.base import Env
from flowpolicy.envs.gymnasium import make_gymnasium
from flowpolicy.parts import register


@register("gymnasium")
@dataclasses.dataclass(frozen=True)
class Gymnasium:
    """An environment of Gymnasium's registry, without data: it trains purely online.

    DM Control's are called dm_control/cheetah-run-v0 (extra dm-control), PushT gym_pusht/PushT-v0
    (extra pusht), those of gymnasium-robotics AntMaze_UMaze-v5 and so on (extra robotics).
    """

    environment: str = "HalfCheetah-v5"
    """The registered name."""
    max_steps: int = 0
    """Steps after which an episode is truncated; the registered number if 0."""
    keys: tuple[str, ...] = ()
    """Of an observation that is a Dict, the entries that the agent sees, in their order."""

    @property
    def name(self) -> str:
        """The environment."""
        return self.environment

    @property
    def playable(self) -> bool:
        """True."""
        return True

    def dataset(self) -> Dataset | None:
        """There is none."""
        return None

    def env(self) -> Env:
        """A new environment; ``UnknownName``, ``MissingExtra``, ``InvalidConfig``."""
        return make_gymnasium(self.environment, max_steps=self.max_steps, keys=self.keys)
