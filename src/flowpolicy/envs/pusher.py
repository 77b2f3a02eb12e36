"""A scripted finger for Push-T: it tries pushes on a board of its own and makes the best one.

It knows the physics and sees the whole state. From where the finger is, a way is sought around the
block to points all along the block's outline, and from each a push straight into it is tried. The
one that brings the corners nearest to where they belong, for the time that it takes, is made, and
the next is chosen from where the block came to lie.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from flowpolicy.envs.pusht import HALF, Scene, scratch_board
from flowpolicy.envs.tee import (
    CELL,
    FINGER,
    Ways,
    cell_of,
    contacts,
    corners,
    distance,
    on_board,
    turn,
)
from flowpolicy.errors import InvalidConfig

GAP, SLACK = 6.0, 4.0
"""Between finger and block before a push; within as much of a point the finger is there. Lengths
are pixels."""
LONGEST, RETREAT = 14, 2
"""Actions of a push, at most, and of going back after it."""
WORSE = 2.0
"""A push is followed no further where the block lies farther than before by as much."""
EDGE = 12.0
"""No push begins nearer to the board's edge."""
AHEAD, NEAR = 70.0, 30.0
"""How far before the finger the aim lies on its way, and at the end of the way."""
STRIDE = 22.0
"""Pixels that an action goes on the way, about."""
PATIENCE = 60
"""Actions after which a push that was not reached is given up."""
TREMBLING = 0.8
"""Correlation of neighbouring actions' noise."""


class Push(NamedTuple):
    """A push that can be reached: where the finger begins, the unit vector along which it goes, the
    points on the way to its beginning, and how many actions the way takes."""

    begin: np.ndarray
    along: np.ndarray
    way: Callable[[], list[np.ndarray]]
    travel: float


@dataclasses.dataclass
class Plan:
    """What is being done: points still to pass, then a push with aims ``reach`` ahead, ``left``
    actions of it (None until it begins), then ``back`` actions of retreat."""

    way: list[np.ndarray]
    along: np.ndarray
    reach: float
    left: int | None = None
    back: int = RETREAT
    age: int = 0


class Pusher:
    """The finger in one episode; ``draws`` is its randomness.

    noise:    standard deviation of what is added to every action, in [0, 1]
    mistakes: probability that a push is any of those that help, and not the best
    """

    def __init__(
        self, draws: np.random.Generator, *, noise: float = 0.01, mistakes: float = 0.0
    ) -> None:
        """Raises ``InvalidConfig``, ``MissingExtra``."""
        check_pusher(noise, mistakes)
        self._draws, self._noise, self._mistakes = draws, noise, mistakes
        self._board = scratch_board()
        self._goal = corners(self._board.goal)
        self._trembling = noise * draws.normal(size=2)
        self._plan: Plan | None = None

    def act(self, scene: Scene) -> np.ndarray:
        """The action (2,) in [-1, 1]."""
        self._trembling *= TREMBLING
        self._trembling += self._noise * math.sqrt(1 - TREMBLING**2) * self._draws.normal(size=2)
        aim = self._aim(scene) / HALF - 1.0 + self._trembling
        return np.clip(aim, -1.0, 1.0).astype(np.float32)

    def _aim(self, scene: Scene) -> np.ndarray:
        """Where the finger is to go, in pixels."""
        if self._plan is None:
            self._plan = self._choose(scene)
            if self._plan is None:  # nothing helps from here: off to the middle
                return scene.finger + _shorter(np.full(2, HALF) - scene.finger, NEAR)
        plan = self._plan
        plan.age += 1
        if plan.left is None:
            aim = _next_point(plan, scene.finger)
            if aim is not None:
                if plan.age > PATIENCE:
                    self._plan = None
                return aim
            plan.left = self._how_long(scene, plan)
        if plan.left > 0:
            plan.left -= 1
            return scene.finger + plan.along * plan.reach
        plan.back -= 1
        if plan.back <= 0:
            self._plan = None
        return scene.finger - plan.along * FINGER

    def _error(self) -> float:
        """Root mean square distance of the block's corners on the own board from the outline's."""
        off = corners(self._board.scene().block) - self._goal
        return math.sqrt(float(np.mean(np.sum(off**2, axis=1))))

    def _choose(self, scene: Scene) -> Plan | None:
        """The push with the best score, and the way to it; None where no push helps."""
        self._board.arrange(scene)
        error = self._error()
        reach = _reach(error)
        scored = [
            (gain / (push.travel + actions + RETREAT), push)
            for push in pushes(scene, Ways(scene))
            for actions, gain in self._gains(scene, push, error, reach)
        ]
        if not scored:
            return None
        _, push = max(scored, key=lambda pair: pair[0])
        if self._draws.uniform() < self._mistakes:
            _, push = scored[self._draws.integers(len(scored))]
        return Plan([*push.way(), push.begin], push.along, reach)

    def _gains(
        self, scene: Scene, push: Push, error: float, reach: float
    ) -> Iterator[tuple[int, float]]:
        """After how many actions of ``push`` the block lies nearer by how much, where it does."""
        self._board.arrange(Scene(push.begin, np.zeros(2), scene.block))
        finger, most = push.begin, -math.inf
        for actions in range(1, LONGEST + 1):
            self._board.step(finger + push.along * reach)
            finger = self._board.scene().finger
            gain = error - self._error()
            if not on_board(finger, CELL / 2) or (actions > 4 and gain < most - WORSE):
                return
            most = max(most, gain)
            if gain > 0:
                yield actions, gain

    def _how_long(self, scene: Scene, plan: Plan) -> int:
        """How many actions of pushing bring the block nearest, the retreat included; 0 if none."""
        self._board.arrange(scene)
        errors, now = [self._error()], scene
        for _ in range(LONGEST):
            self._board.arrange(now)
            self._board.step(now.finger + plan.along * plan.reach)
            now = self._board.scene()
            for _ in range(RETREAT):
                self._board.step(self._board.scene().finger - plan.along * FINGER)
            errors.append(self._error())
        return int(np.argmin(errors))


def pushes(scene: Scene, way: Ways) -> Iterator[Push]:
    """Every push whose beginning can be reached."""
    rotation = turn(scene.block[2])
    for point, outwards in contacts():
        outwards = rotation @ outwards
        begin = rotation @ point + scene.block[:2] + outwards * (FINGER + GAP)
        if not on_board(begin, EDGE) or distance(scene.block, begin[None])[0] < FINGER + 1:
            continue
        for back in np.arange(0.0, 3 * CELL, CELL / 2):
            before = begin + back * outwards
            if way.reaches(before):
                travel = way.length[cell_of(before)] / STRIDE + back / FINGER + 2.0
                yield Push(begin, -outwards, functools.partial(way.to, before), travel)
                break


def check_pusher(noise: float, mistakes: float) -> None:
    """Raises ``InvalidConfig`` for values a ``Pusher`` does not take."""
    if not 0.0 <= noise <= 1.0:
        raise InvalidConfig(f"noise must be in [0, 1], got {noise}")
    if not 0.0 <= mistakes < 1.0:
        raise InvalidConfig(f"mistakes must be in [0, 1), got {mistakes}")


def _next_point(plan: Plan, finger: np.ndarray) -> np.ndarray | None:
    """An aim on the way; None at its end."""
    while len(plan.way) > 1 and np.linalg.norm(plan.way[0] - finger) < 1.5 * CELL:
        plan.way.pop(0)
    off = plan.way[0] - finger
    if len(plan.way) > 1:
        return finger + _shorter(10 * off, AHEAD)
    return None if np.linalg.norm(off) < SLACK else finger + _shorter(1.6 * off, NEAR)


def _reach(error: float) -> float:
    """How far ahead the aim of a push lies: less, the finer the work. Half of it is an action's."""
    return 40.0 if error > 25 else 20.0 if error > 8 else 8.0


def _shorter(vector: np.ndarray, most: float) -> np.ndarray:
    return vector * min(1.0, most / max(float(np.linalg.norm(vector)), 1e-9))
