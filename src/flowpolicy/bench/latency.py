"""Whether a policy meets its deadline; with neither environment nor JAX, so also on the robot."""

import math

import numpy as np

from flowpolicy.errors import InvalidConfig
from flowpolicy.train.policy import Policy

DEADLINE = 0.020
"""Seconds between two actions of OGBench's and RoboMimic's arms at most."""


def latency(
    policy: Policy, *, calls: int = 1_000, deadline: float = DEADLINE
) -> dict[str, float | int]:
    """Milliseconds from an observation to its chunk over ``calls`` calls, and how many of them
    took longer than ``deadline`` seconds (``missed``). Nothing moves; it begins an episode.
    """
    if not 0 < deadline < math.inf:
        raise InvalidConfig(f"deadline must be above 0 s and finite, got {deadline}")
    return summary(policy.latencies(calls), deadline)


def summary(seconds: np.ndarray, deadline: float = DEADLINE) -> dict[str, float | int]:
    """Percentiles in milliseconds, and how many calls took longer than ``deadline``."""
    p50, p99, p999 = (float(np.percentile(seconds, p)) for p in (50, 99, 99.9))
    return {
        "calls": len(seconds),
        "p50_ms": round(1e3 * p50, 4),
        "p99_ms": round(1e3 * p99, 4),
        "p999_ms": round(1e3 * p999, 4),
        "max_ms": round(1e3 * float(seconds.max()), 4),
        "missed": int((seconds > deadline).sum()),
    }
