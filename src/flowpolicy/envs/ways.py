"""Two ways around an obstacle: a point mass with position commands, and scripted demonstrations."""

import numpy as np

from flowpolicy.envs.base import Step

ACTOR, GOAL, WALL = (213, 94, 0), (0, 158, 115), (90, 90, 90)
CENTRE, RADIUS = np.array([0.4, 0.0]), 0.15
TARGET, REACH = np.array([0.8, 0.0]), 0.08
STEPS = 20
"""Actions of a demonstration."""


def way(t: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Points (..., 2) of the way above (``side`` 1) or below (-1) at shares ``t`` of it."""
    return np.stack([0.8 * t, 0.35 * side * np.sin(np.pi * t)], axis=-1)


class TwoWays:
    """A point that goes from the origin around a disc to a goal behind it.

    obs: position; action: the position to go to, at most ``speed`` away or it is not reached;
    reward: 1 at the goal, a success that ends the episode; the disc ends it without.
    """

    name = "two-ways"
    obs_shape = (2,)
    action_size = 2
    max_steps = 40
    speed = 0.12

    def __init__(self) -> None:
        """At the origin."""
        self._at = np.zeros(2, np.float32)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """A position near the origin, drawn from ``seed``."""
        self._at = np.random.default_rng(seed).normal(0, 0.01, 2).astype(np.float32)
        self._steps = 0
        return self._at.copy()

    def push(self, by: np.ndarray) -> np.ndarray:
        """Displaces the point and returns where it is."""
        self._at = (self._at + by).astype(np.float32)
        return self._at.copy()

    def step(self, action: np.ndarray) -> Step:
        """Goes towards the action."""
        move = np.clip(np.asarray(action, np.float32), -1, 1) - self._at
        far = float(np.linalg.norm(move))
        self._at = (self._at + move * min(1.0, self.speed / max(far, 1e-6))).astype(np.float32)
        self._steps += 1
        hit = bool(np.linalg.norm(self._at - CENTRE) < RADIUS)
        there = not hit and bool(np.linalg.norm(self._at - TARGET) < REACH)
        late = self._steps >= self.max_steps
        return Step(self._at.copy(), float(there), hit or there, late, there)

    def render(self) -> np.ndarray | None:
        """The square as an image: the disc, the goal and the point."""
        axis = np.linspace(-1, 1, 64)
        grid = np.stack(np.meshgrid(axis, axis), axis=-1)
        frame = np.full((64, 64, 3), 255, np.uint8)
        for middle, wide, colour in (
            (CENTRE, RADIUS, WALL),
            (TARGET, REACH, GOAL),
            (self._at, 0.06, ACTOR),
        ):
            frame[np.linalg.norm(grid - middle, axis=-1) < wide] = colour
        return frame

    def close(self) -> None:
        """Nothing to free."""


def two_ways_data(episodes: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays for ``Dataset.from_arrays``: both ways, as often as each other in the mean, each
    commanded point with noise of standard deviation 0.01.
    """
    generator = np.random.default_rng(seed)
    side = generator.choice([-1.0, 1.0], episodes)
    t = np.linspace(0, 1, STEPS + 1)
    action = way(np.broadcast_to(t[1:], (episodes, STEPS)), side[:, None])
    action = action + generator.normal(0, 0.01, action.shape)
    begin = generator.normal(0, 0.01, (episodes, 1, 2))
    at = np.concatenate([begin, action], axis=1).astype(np.float32)
    last = np.tile(np.arange(STEPS) == STEPS - 1, episodes)
    return {
        "obs": at[:, :-1].reshape(-1, 2),
        "action": at[:, 1:].reshape(-1, 2),
        "reward": last.astype(np.float32),
        "terminated": last,
        "truncated": np.zeros_like(last),
        "next_obs": at[:, 1:].reshape(-1, 2),
    }
