"""A scripted hand for RoboMimic's Lift and Can: grasp the object, lift it, put it down.

It sees what a policy sees, and works as an operator does: where the object did not come along, it
tries again. How well it works is chosen: its movements tremble, and it may reach beside the object.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from flowpolicy.errors import InvalidConfig, unknown_name

STRIDE, TURN = 0.05, 0.5
"""Metres and radians that the controller is asked to move by an action of 1."""
TREMBLING = 0.8
"""Correlation of neighbouring actions' noise."""
BESIDE = (0.03, 0.06)
"""Metres by which a mistaken grasp misses the object, at least and at most."""
LOST = 0.07
"""Metres between hand and object beyond which it is not held."""


class Job(NamedTuple):
    """What is to be done with the object.

    position: where its position lies in the observation ``object``
    height:   of the hand while it carries, metres
    goal:     where it is put down, metres; None where lifting is all
    """

    position: slice
    height: float
    goal: tuple[float, float, float] | None


JOBS = {
    "lift": Job(slice(0, 3), 1.0, None),
    "can": Job(slice(7, 10), 1.08, (0.1975, 0.4025, 0.95)),
}
"""Can is put into the middle of its quarter of the bin (robosuite's placement of its shadow)."""


class Phase(enum.IntEnum):
    """What the hand is doing."""

    ABOVE = 0
    DOWN = 1
    CLOSE = 2
    UP = 3
    CARRY = 4
    LOWER = 5
    OPEN = 6
    AWAY = 7


class Hand:
    """The hand in one episode; ``draws`` is its randomness.

    It turns the gripper back to where it was at first.

    noise:    standard deviation of what is added to the six numbers of an arm's movement
    mistakes: probability that a grasp reaches beside the object
    """

    def __init__(
        self, task: str, draws: np.random.Generator, *, noise: float = 0.1, mistakes: float = 0.1
    ) -> None:
        """Raises ``UnknownName`` for a task without a script, ``InvalidConfig`` for the rest."""
        check(task, noise, mistakes)
        self._job, self._draws = JOBS[task], draws
        self._noise, self._mistakes = noise, mistakes
        self._trembling = noise * draws.normal(size=6)
        self._phase, self._since = Phase.ABOVE, 0
        self._beside = self._miss()
        self._upright: np.ndarray | None = None

    def act(self, seen: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action (7,) in [-1, 1] at an observation by fields."""
        hand = np.asarray(seen["robot0_eef_pos"], np.float64)
        thing = np.asarray(seen["object"], np.float64)[self._job.position]
        turned = np.asarray(seen["robot0_eef_quat"], np.float64)
        self._upright = turned if self._upright is None else self._upright
        self._proceed(hand, thing)
        self._since += 1
        action = np.zeros(7)
        action[:3] = np.clip((self._aim(hand, thing) - hand) / STRIDE, -1.0, 1.0)
        action[3:6] = np.clip(rotation(turned, self._upright) / TURN, -1.0, 1.0)
        rest = np.sqrt(1.0 - TREMBLING**2)
        self._trembling *= TREMBLING
        self._trembling += self._noise * rest * self._draws.normal(size=6)
        action[:6] += self._trembling
        action[6] = 1.0 if Phase.CLOSE <= self._phase <= Phase.LOWER else -1.0
        return np.clip(action, -1.0, 1.0)

    def _aim(self, hand: np.ndarray, thing: np.ndarray) -> np.ndarray:
        """Where the hand is to be."""
        there = thing + self._beside
        carried = np.array([*hand[:2], self._job.height])
        goal = carried if self._job.goal is None else np.array(self._job.goal)
        return {
            Phase.ABOVE: there + np.array([0.0, 0.0, 0.1]),
            Phase.DOWN: there,
            Phase.CLOSE: hand,
            Phase.UP: carried,
            Phase.CARRY: np.array([*goal[:2], self._job.height]),
            Phase.LOWER: goal,
            Phase.OPEN: hand,
            Phase.AWAY: carried,
        }[self._phase]

    def _proceed(self, hand: np.ndarray, thing: np.ndarray) -> None:
        """On to the next phase, or back to the first where the object was lost."""
        near = float(np.linalg.norm(self._aim(hand, thing) - hand))
        holding = float(np.linalg.norm(thing - hand)) < LOST
        carrying = Phase.UP <= self._phase <= Phase.LOWER
        done = {
            Phase.ABOVE: near < 0.025,
            Phase.DOWN: near < 0.012 or self._since > 15,
            Phase.CLOSE: self._since >= 8,
            Phase.UP: near < 0.03 and self._job.goal is not None,
            Phase.CARRY: near < 0.03,
            Phase.LOWER: near < 0.03 or self._since > 20,
            Phase.OPEN: self._since >= 4,
            Phase.AWAY: False,
        }[self._phase]
        if (carrying and not holding) or (self._phase is Phase.AWAY and self._since > 20):
            self._begin(Phase.ABOVE)
            self._beside = self._miss()
        elif done:
            self._begin(Phase(self._phase + 1))

    def _begin(self, phase: Phase) -> None:
        self._phase, self._since = phase, 0

    def _miss(self) -> np.ndarray:
        """By how much the next grasp misses."""
        angle, metres = self._draws.uniform(0.0, 2.0 * np.pi), self._draws.uniform(*BESIDE)
        if self._draws.uniform() >= self._mistakes:
            return np.zeros(3)
        return metres * np.array([np.cos(angle), np.sin(angle), 0.0])


def rotation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The rotation vector (3,), radians about world axes, that turns quaternion ``start`` (xyzw)
    into ``end``, by the shorter way."""
    (x, y, z, w), (a, b, c, d) = start, end
    vector = np.array([w * a - d * x + c * y - b * z, w * b - d * y + a * z - c * x,
                       w * c - d * z + b * x - a * y])  # fmt: skip
    scalar = d * w + a * x + b * y + c * z
    length = np.linalg.norm(vector)
    if length < 1e-9:
        return np.zeros(3)
    return vector / length * 2.0 * np.arctan2(np.sign(scalar) * length, abs(scalar))


def check(task: str, noise: float, mistakes: float) -> None:
    """Raises ``UnknownName`` for a task without a script, ``InvalidConfig`` for the rest."""
    if task not in JOBS:
        raise unknown_name("task with a script", task, JOBS)
    if not 0.0 <= noise <= 1.0 or not 0.0 <= mistakes < 1.0:
        raise InvalidConfig(
            f"noise must lie in [0, 1] and mistakes in [0, 1), got {noise} and {mistakes}"
        )
