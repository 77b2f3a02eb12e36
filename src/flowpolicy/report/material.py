"""What a report shows beside its numbers: plain arrays, computed where the policy is at hand."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from flowpolicy.errors import InvalidData


@dataclasses.dataclass(frozen=True)
class Rollout:
    """One recorded episode.

    frames:        RGB pictures at the steps ``frame_steps``; empty where nothing can be drawn
    paths:         named positions over time, in metres, one row a step, ``length`` + 1 rows
    success_step:  the first step that counted as solved (1 is the first action), else None
    tried, solved: environment seeds tried before this episode was chosen, and those it solved
    """

    seed: int
    length: int
    success_step: int | None
    reward: float
    tried: tuple[int, ...]
    solved: tuple[int, ...]
    frames: tuple[UInt8[np.ndarray, "height width 3"], ...] = ()
    frame_steps: tuple[int, ...] = ()
    paths: Mapping[str, Float[np.ndarray, "time axes"]] = dataclasses.field(default_factory=dict)
    note: str = ""
    """Anything the reader should know of how it was recorded."""

    @property
    def success(self) -> bool:
        """Whether the episode was solved."""
        return self.success_step is not None

    @property
    def sentence(self) -> str:
        """Which episode this is, why this one, and how it ended when it was recorded."""
        tried = f"the episodes tried (environment seeds {', '.join(map(str, self.tried))})"
        chosen = self.seed in self.solved
        why = f"the first {'success' if chosen else 'failure'} among {tried}"
        if not self.solved:
            why = f"none of {tried} was solved, and it has the highest return of them"
        end = f"not solved in {self.length} steps"
        if self.success:
            end = f"solved at step {self.success_step} of {self.length}"
        again = "" if chosen == self.success else "played again for recording, it was "
        return f"Episode with environment seed {self.seed}: {why}; {again}{end}."


@dataclasses.dataclass(frozen=True)
class FlowPicture:
    """What the flow map does to noise at one state, for N noises and D action entries.

    times:   from 0 (noise) to 1 (action), increasing
    points:  the noises, moved along the flow to each of ``times``; ``points[0]`` is the noise
    jump:    where one jump from 0 to 1 puts the same noises
    q:       the critic's value of each ``points[-1]``
    axes:    the two action entries to draw, and ``labels`` what they are called
    """

    times: Float[np.ndarray, "times"]
    points: Float[np.ndarray, "times n d"]
    jump: Float[np.ndarray, "n d"]
    q: Float[np.ndarray, "n"]
    axes: tuple[int, int] = (0, 1)
    labels: tuple[str, str] = ("first action, dx", "first action, dy")
    state: str = "one state"
    """Which state, in words, as in "the first state of environment seed 3"."""

    def __post_init__(self) -> None:
        shape = np.shape(self.points)
        if len(shape) != 3 or shape[1] == 0 or shape[0] < 2:
            raise InvalidData(f"points must be (times >= 2, n >= 1, d), got {shape}")
        expected = {"times": shape[:1], "jump": shape[1:], "q": shape[1:2]}
        for name, wanted in expected.items():
            got = np.shape(getattr(self, name))
            if got != wanted:
                raise InvalidData(f"{name} must have shape {wanted}, got {got}")
        if not all(0 <= axis < shape[2] for axis in self.axes):
            raise InvalidData(f"axes {self.axes} must lie in [0, {shape[2]})")
        for name in ("times", "points", "jump", "q"):
            if not np.isfinite(getattr(self, name)).all():
                raise InvalidData(f"{name} has values that are not finite")


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything optional in a report; what is None is said to be absent, with the reason."""

    rollout: Rollout | None = None
    flow: FlowPicture | None = None
    rollout_absent: str = "No episode was recorded for this report."
    flow_absent: str = "The flow map was not drawn for this report."
    command: str | None = None
    """The exact command line that reproduces the run; else ``command`` of ``config.json``."""
