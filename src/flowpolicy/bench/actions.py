"""How long one action takes, by JAX and by numpy."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy.agents import FMQ
from flowpolicy.bench import setting
from flowpolicy.bench.latency import DEADLINE, summary
from flowpolicy.deploy.numpy_actor import NumpyActor
from flowpolicy.deploy.package import Package
from flowpolicy.packaging.write import actor_program
from flowpolicy.refine import QGBS, BestOfN, OneStep, Refiner
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Identity
from flowpolicy.train.policy import Policy, latencies
from flowpolicy.types import Spec

__all__ = ["DEADLINE", "REFINERS", "actors", "latencies", "policy", "summary"]

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
