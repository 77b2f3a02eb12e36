"""How long one action takes, by JAX and by numpy."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy.agents import FMQ
from flowpolicy.bench import setting
from flowpolicy.deploy.numpy_actor import NumpyActor
from flowpolicy.deploy.package import Package
from flowpolicy.packaging.write import actor_program
from flowpolicy.refine import QGBS, BestOfN, OneStep, Refiner
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Identity
from flowpolicy.train.policy import Policy
from flowpolicy.types import Spec

DEADLINE = 0.020
"""Seconds between two actions of OGBench's and RoboMimic's arms at most."""
REFINERS: dict[str, Refiner] = {
    "one_step": OneStep(),
    "best_of_n(32)": BestOfN(32),
    "qgbs(steps=1, beam=4, branches=4)": QGBS(steps=1, beam=4, branches=4),
}


def actors(
    refiner: Refiner, config: FMQ | None = None, problem: setting.Problem = setting.PAPER
) -> dict[str, Any]:
    """The same fresh agent behind both back ends: ``{"jax": ..., "numpy": ...}``.

    ``config``: FMQ at the paper's size where None
    """
    config, spec = config or setting.paper(), Spec((problem.obs,), problem.action)
    agent = jax.jit(lambda key: config.init(key, spec))(jax.random.key(0))
    ours = JaxActor(agent, Identity().fit(None), spec, config.chunk, refiner=refiner)
    data, constants = actor_program(ours)
    tensors = {name: np.asarray(x) for name, x in ours.weights.items()} | constants
    told = {
        "observation": {"mapping": False, "fields": [{"name": "obs", "shape": [problem.obs]}]},
        "action": {"size": problem.action},
        "chunk": config.chunk,
    }
    package = Package(Path("benchmark"), told, tensors, data)
    return {"jax": ours, "numpy": NumpyActor(package, 0)}


def policy(actor: Any) -> tuple[Policy, float]:
    """A policy that was warmed up, and the seconds of its first call after that."""
    made = Policy(actor)
    made.warm_up()
    obs = np.zeros(actor.obs_shape, np.float32)
    return made, float(latencies(lambda: made.act(obs), 1)[0])


def latencies(act: Callable[[], Any], calls: int) -> np.ndarray:
    """Wall seconds of each of ``calls`` calls."""
    seconds = np.zeros(calls)
    for i in range(calls):
        began = time.perf_counter()
        act()
        seconds[i] = time.perf_counter() - began
    return seconds


def summary(seconds: np.ndarray) -> dict[str, float | int]:
    """Percentiles in milliseconds, and how many calls took longer than ``DEADLINE``."""
    p50, p99, p999 = (float(np.percentile(seconds, p)) for p in (50, 99, 99.9))
    return {
        "calls": len(seconds),
        "p50_ms": round(1e3 * p50, 4),
        "p99_ms": round(1e3 * p99, 4),
        "p999_ms": round(1e3 * p999, 4),
        "max_ms": round(1e3 * float(seconds.max()), 4),
        "missed": int((seconds > DEADLINE).sum()),
    }
