"""Toy environments with known answers, for tests and first steps: no simulator, no files."""

from collections.abc import Sequence

import numpy as np

from flowpolicy.envs.base import Step

GOAL, ACTOR = (0, 158, 115), (213, 94, 0)
MODES = ((-0.5, 0.0), (0.5, 0.0))
"""Centres of the two-mode bandit's modes."""


def _dots(
    points: Sequence[Sequence[float] | np.ndarray], colours: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Points of the square [-1, 1]^2 in an image, later ones above."""
    frame = np.full((64, 64, 3), 255, np.uint8)
    for at, colour in zip(points, colours, strict=True):
        x, y = np.round((np.asarray(at) + 1) * 31).astype(int)
        frame[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = colour
    return frame


class PointMass:
    """A point in the plane that is to reach the origin.

    obs: position in [-1, 1]^2; action: displacement in units of ``speed``; reward: -1 a step and
    0 at the goal, where the episode ends as a success.
    """

    name = "point-mass"
    obs_shape = (2,)
    action_size = 2
    max_steps = 40
    speed = 0.1
    radius = 0.1

    def __init__(self) -> None:
        """At no position until ``reset``."""
        self._at = np.zeros(2, np.float32)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """A position on the square's rim, drawn from ``seed``."""
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        self._at = (direction / np.abs(direction).max()).astype(np.float32)
        self._steps = 0
        return self._at.copy()

    def step(self, action: np.ndarray) -> Step:
        """Moves by ``speed`` times the action, within the square."""
        move = self.speed * np.clip(np.asarray(action, np.float32), -1, 1)
        self._at = np.clip(self._at + move, -1, 1)
        self._steps += 1
        there = bool(np.linalg.norm(self._at) <= self.radius)
        truncated = self._steps >= self.max_steps
        return Step(self._at.copy(), 0.0 if there else -1.0, there, truncated, there)

    def render(self) -> np.ndarray | None:
        """The square as an image, the point and the goal in it."""
        return _dots((np.zeros(2), self._at), (GOAL, ACTOR))

    def close(self) -> None:
        """Nothing to free."""


def point_mass_data(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Arrays for ``Dataset.from_arrays``: a noisy walk that drifts to the goal half of the time."""
    generator = np.random.default_rng(seed)
    env = PointMass()
    columns: dict[str, list] = {
        k: [] for k in ("obs", "action", "reward", "terminated", "truncated", "next_obs")
    }
    obs, homing = env.reset(seed), True
    for i in range(rows):
        drift = -obs / max(float(np.linalg.norm(obs)), 1e-6) if homing else np.zeros(2)
        action = np.clip(0.7 * drift + generator.normal(0, 0.6, 2), -1, 1).astype(np.float32)
        step = env.step(action)
        values = (obs, action, step.reward, step.terminated, step.truncated, step.obs)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        obs = step.obs
        if step.terminated or step.truncated:
            obs, homing = env.reset(seed + i + 1), bool(generator.random() < 0.5)
    columns["truncated"][-1] = True
    return {name: np.asarray(column) for name, column in columns.items()}


def two_modes(action: np.ndarray, *, low: float = 0.6, high: float = 1.0) -> np.ndarray:
    """The two-mode bandit's reward of ``action`` (..., 2): bumps of width 0.2 at (-+0.5, 0).

    The bump at (-0.5, 0) is ``low`` high, the one at (0.5, 0) is ``high`` high.
    """

    def bump(x: float) -> np.ndarray:
        return np.exp(-np.sum((action - np.array([x, 0.0])) ** 2, axis=-1) / (2 * 0.2**2))

    return low * bump(-0.5) + high * bump(0.5)


class TwoModes:
    """The two-mode bandit: one action, worth ``two_modes``; solved where it is worth 0.8 or more.

    obs: a zero; action: a point of the square. ``low`` is what the mode at (-0.5, 0) is worth.
    """

    name = "two-modes"
    obs_shape = (1,)
    action_size = 2
    max_steps = 1

    def __init__(self, low: float = 0.6) -> None:
        """Nothing has been done yet."""
        self.low = low
        self._action = np.zeros(2, np.float32)

    def reset(self, seed: int) -> np.ndarray:
        """Every episode is the same, whatever ``seed``."""
        del seed
        self._action = np.zeros(2, np.float32)
        return np.zeros(1, np.float32)

    def step(self, action: np.ndarray) -> Step:
        """The action's worth; the episode is over."""
        self._action = np.clip(np.asarray(action, np.float32), -1, 1)
        reward = float(two_modes(self._action[None], low=self.low)[0])
        return Step(np.zeros(1, np.float32), reward, True, False, reward >= 0.8)

    def render(self) -> np.ndarray | None:
        """The square as an image: both modes, and the action."""
        return _dots((*MODES, self._action), (GOAL, GOAL, ACTOR))

    def close(self) -> None:
        """Nothing to free."""


def two_mode_data(rows: int, seed: int, *, low: float = 0.6) -> dict[str, np.ndarray]:
    """One-step episodes of the two-mode bandit, cloned from half of each mode, width 0.1."""
    generator = np.random.default_rng(seed)
    centre = np.stack([generator.choice([-0.5, 0.5], rows), np.zeros(rows)], axis=-1)
    action = np.clip(centre + generator.normal(0, 0.1, (rows, 2)), -1, 1).astype(np.float32)
    obs = np.zeros((rows, 1), np.float32)
    yes = np.ones(rows, bool)
    return {
        "obs": obs,
        "action": action,
        "reward": two_modes(action, low=low).astype(np.float32),
        "terminated": yes,
        "truncated": ~yes,
        "next_obs": obs,
    }
