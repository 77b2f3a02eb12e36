"""What ``flowpolicy bench`` measures, so that machines and releases can be compared."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.bench import actions, flops, loop, setting, timing
from flowpolicy.bench.peak import peak
from flowpolicy.envs.base import Env
from flowpolicy.envs.make import make_env
from flowpolicy.envs.toy import PointMass

Told = Callable[[str], None]


def updates(told: Told, repeats: int) -> dict[str, Any]:
    """The best matrix product of this machine, and FMQ's update beside it at two sizes."""
    told("matrix products")
    best = peak(repeats)
    sizes = {
        "FMQ at the paper's size": (setting.paper(), setting.PAPER, 4, 32),
        "FMQ at the demo's size": (setting.demo(), setting.DEMO, 50, 4),
    }
    cases = {}
    for name, (agent, problem, count, _) in sizes.items():
        told(f"{name}: compiling")
        run = setting.Training(agent, problem, online=False).block(count)
        run()
        cases[name] = timing.Blocks(count), run
    told("updates")
    timing.interleave(repeats, list(cases.values()))
    found = {}
    for name, (agent, problem, _, candidates) in sizes.items():
        work = sum(flops.offline(agent, problem, candidates).values())
        taken = cases[name][0].summary()
        rate = work / taken["wall_ms"]["median"] / 1e6
        found[name] = {
            **taken,
            "gflop": round(work / 1e9, 3),
            "gflops": round(rate, 1),
            "share_of_peak": round(rate / best["gflops"], 3),
        }
    return {"peak": best, "updates": found}


def acting(told: Told, calls: int) -> dict[str, Any]:
    """One action from one observation, by refiner and back end."""
    found = {}
    for name, refiner in actions.REFINERS.items():
        told(f"acting: {name}")
        for backend, actor in actions.actors(refiner).items():
            policy, first = actions.policy(actor)
            obs = np.zeros(actor.obs_shape, np.float32)
            seconds = actions.latencies(lambda: policy.act(obs), calls)  # noqa: B023
            found[f"{name}, {backend}"] = actions.summary(seconds) | {
                "first_ms": round(1e3 * first, 4)
            }
    return {"actions": found}


def online(told: Told, steps: int) -> dict[str, Any]:
    """The online loop on cube-single: steps a second and the shares of the time."""
    told("the online loop, on data collected now")
    with tempfile.TemporaryDirectory() as folder:
        (line,) = loop.shares(Path(folder), steps=steps, repeats=1)
    shares = {name: round(line[f"time/{name}"], 4) for name in loop.SHARES}
    return {"loop": {"steps_per_second": round(steps / line["time/seconds"], 1), **shares}}


def environments(told: Told, steps: int) -> dict[str, Any]:
    """Steps a second of one environment in this process, by random actions."""
    found = {}
    for name, make in {
        "point-mass": PointMass,
        "cube-single-task1": lambda: make_env("cube-single-task1"),
        "pointmaze-medium-task1": lambda: make_env("pointmaze-medium-task1"),
    }.items():
        told(f"environment: {name}")
        env = make()
        try:
            found[name] = round(_steps_per_second(env, steps), 1)
        finally:
            env.close()
    return {"environment_steps_per_second": found}


def _steps_per_second(env: Env, steps: int) -> float:
    draws = np.random.default_rng(0)
    actions_ = draws.uniform(-1, 1, (steps, env.action_size)).astype(np.float32)
    env.reset(0)
    began, spent = time.perf_counter(), 0.0
    for i, action in enumerate(actions_):
        step = env.step(action)
        if step.terminated or step.truncated:
            spent += time.perf_counter() - began
            env.reset(i)
            began = time.perf_counter()
    return steps / (spent + time.perf_counter() - began)


def bench(told: Told, *, quick: bool) -> dict[str, Any]:
    """All of it; ``quick`` repeats less."""
    machine = timing.machine()
    results = {"benchmark": "bench", "machine": machine, "quick": quick}
    results |= updates(told, 3 if quick else 9)
    results |= acting(told, 200 if quick else 5_000)
    results |= environments(told, 300 if quick else 2_000)
    return results | online(told, 100 if quick else 1_000)
