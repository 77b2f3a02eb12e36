"""Tasks of the Farama Foundation's libraries: Gymnasium's environments, Minari's data sets."""

import dataclasses
import functools

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.minari import load
from flowpolicy.data.minari_header import header, name_of
from flowpolicy.envs.base import Env
from flowpolicy.envs.gymnasium import make_gymnasium, registered_spec
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.parts import register
from flowpolicy.train.given import check_least


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

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, max_steps=0)

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


@register("minari")
@dataclasses.dataclass(frozen=True)
class Minari:
    """A data set of Minari and the environment it names; D4RL's names are understood.

    Sets are looked for in $MINARI_DATASETS_PATH, else in ~/.minari/datasets; ``minari download``
    (extra minari) fetches them. D4RL's environments need the extra robotics.
    """

    task: str = "D4RL/pen/human-v2"
    """The set, or D4RL's name of it, as in pen-human-v1."""
    keys: tuple[str, ...] = ()
    """Of an observation that is a Dict, the entries that the agent sees, in their order: for
    D4RL's mazes ('observation', 'desired_goal')."""
    reward_shift: float = 0.0
    """Added to every reward, of the rows and of the environment; -1 is the rule for D4RL's
    antmazes, under which every step costs 1 until the goal is reached."""
    max_steps: int = 0
    """Steps after which an episode is truncated; what the set or the registry says if 0."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, max_steps=0)

    @property
    def name(self) -> str:
        """Minari's name of the set."""
        return name_of(self.task)

    @property
    def playable(self) -> bool:
        """Whether the set names an environment."""
        return header(self.task).world is not None

    def dataset(self) -> Dataset:
        """The rows; ``MissingData`` says how to fetch them. See ``data.minari.load``."""
        return _minari_rows(self)

    def env(self) -> Env:
        """A new environment: the one for evaluation, where the set names two.

        It is looked up in Gymnasium's registry; what the set says is never imported. Raises
        ``InvalidConfig`` where the registry knows another environment under its name.
        """
        world = header(self.task).world
        if world is None:
            raise MissingData(f"the Minari set {self.name} names no environment")
        known = registered_spec(world.id).entry_point
        if known != world.entry_point:
            raise InvalidConfig(
                f"{self.name}: its {world.id} is {world.entry_point}, which is {known} here"
            )
        return make_gymnasium(
            world.id,
            max_steps=self.max_steps or world.max_steps,
            keys=self.keys,
            options=world.options,
            reward_shift=self.reward_shift,
        )

    def normalised(self, returns: float, length: float) -> float:
        """D4RL's score, 100 (R - lowest) / (highest - lowest), of the mean ``returns`` of episodes
        of mean ``length``; R is what the environment itself paid, without ``reward_shift``.

        Raises ``InvalidData`` where the set has no reference returns.
        """
        return header(self.task).normalised(returns - self.reward_shift * length)


@functools.lru_cache(maxsize=2)
def _minari_rows(task: Minari) -> Dataset:
    return load(task.task, keys=task.keys, reward_shift=task.reward_shift)
