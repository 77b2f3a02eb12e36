"""Demonstrations without a simulator."""

import numpy as np

from flowpolicy.data.demonstrations import Demonstration

ARGS = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}


def demonstration(steps: int, seed: int) -> Demonstration:
    """Random rows that end solved."""
    draws = np.random.default_rng(seed)
    seen = {"robot0_eef_pos": draws.normal(size=(steps + 1, 3)), "object": np.ones((steps + 1, 2))}
    solved = np.arange(steps) == steps - 1
    return Demonstration(
        obs={field: rows[:-1] for field, rows in seen.items()},
        next_obs={field: rows[1:] for field, rows in seen.items()},
        action=draws.uniform(-1, 1, (steps, 7)),
        reward=solved.astype(float),
        done=solved,
        states=draws.normal(size=(steps, 5)),
    )
