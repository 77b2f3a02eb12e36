"""What our wrappers of environments cost, and environment steps per second per task.

``python -m benchmarks environments``. Both sides step the same environment with the same random
actions in one process, in blocks that take turns; resets are not counted. Then as many environments
as there are cores play chunks, in this process and in one process each.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import measure
from flowpolicy.envs import make
from flowpolicy.envs.base import Env
from flowpolicy.envs.fleet import Fleet, Local
from flowpolicy.envs.gymnasium import make_gymnasium
from flowpolicy.envs.make import make_env
from flowpolicy.envs.workers import Workers
from flowpolicy.simulators import gymnasium_with_ogbench

GYMNASIUM = ("InvertedPendulum-v5", "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5",
             "Humanoid-v5", "Pendulum-v1")  # fmt: skip
OGBENCH = ("cube-single-task1", "cube-double-task3", "cube-triple-task3", "scene-task4",
           "puzzle-3x3-task4", "pointmaze-medium-task1", "antmaze-giant-task4",
           "humanoidmaze-medium-task3", "antsoccer-arena-task4")  # fmt: skip
NOT_JUDGED = ("Pendulum-v1",)
"""A line of numpy: all that is around it counts, so it is told and not judged."""
STEPS, BLOCKS, CHUNK = 200, 15, 5
LIMIT = 0.10


def main() -> None:
    """Measures, prints, writes ``results/environments-<device>.json``."""
    about, results = measure.machine(), {}
    cores = len(os.sched_getaffinity(0))
    for name, (ours, bare) in pairs():
        print(f"{name} ...", flush=True)
        results[name] = _measured(ours, bare) | _many(ours, cores)
    lines = [
        measure.wanted(f"{name}, overhead", r["overhead"], LIMIT, at_most=True)
        for name, r in results.items()
        if name not in NOT_JUDGED
    ]
    path = measure.write(
        "environments",
        {
            "benchmark": "environments",
            "machine": about,
            "protocol": f"{BLOCKS} blocks of {STEPS} steps each way, taking turns; the median "
            "processor time of a step, by which bare and ours are rates of a machine that does "
            "nothing else; bare is gymnasium.make(name, disable_env_checker=True). local and "
            f"workers: {cores} environments in chunks of {CHUNK}, all in this process and in "
            f"{cores} of their own, steps of all by the wall clock, resets left out",
            "results": results,
            "wanted": lines,
        },
    )
    columns = ("bare", "ours", "local", "workers")
    rows = [
        (name, *(f"{r[k]:,.0f}" for k in columns), f"{100 * r['overhead']:.1f} %")
        for name, r in results.items()
    ]
    measure.show("environment steps per second", ("task", *columns, "overhead"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def pairs() -> Iterator[tuple[str, tuple[Callable[[], Env], Callable[[], Any]]]]:
    """By name, what makes our environment and what makes the bare one."""
    gymnasium = gymnasium_with_ogbench()
    bare = functools.partial(gymnasium.make, disable_env_checker=True)
    identifiers = make._identifiers()
    for name in GYMNASIUM:
        yield name, (functools.partial(make_gymnasium, name), functools.partial(bare, name))
    for name in OGBENCH:
        ours = functools.partial(make_env, name)
        yield name, (ours, functools.partial(bare, identifiers[name]))


def _measured(make_ours: Callable[[], Env], make_bare: Callable[[], Any]) -> dict[str, float]:
    ours, bare = make_ours(), make_bare()
    unit = np.random.default_rng(0).uniform(-1, 1, (STEPS, ours.action_size)).astype(np.float32)
    space = bare.action_space
    own = space.low + (unit + 1) / 2 * (space.high - space.low)
    taken: dict[str, list[float]] = {"bare": [], "ours": []}
    for block in range(BLOCKS):
        taken["bare"] += _timed(bare.step, lambda s: bare.reset(seed=s), own, block)
        taken["ours"] += _timed(ours.step, ours.reset, unit, block)
    bare.close()
    ours.close()
    median = {side: float(np.median(times)) for side, times in taken.items()}
    return {
        **{side: round(1 / seconds, 1) for side, seconds in median.items()},
        "overhead": round(median["ours"] / median["bare"] - 1, 4),
    }


def _timed(step: Any, reset: Any, actions: np.ndarray, seed: int) -> list[float]:
    """Seconds of this thread for every step."""
    reset(seed)
    taken = []
    for action in actions:
        began = time.thread_time()
        told = step(action)
        taken.append(time.thread_time() - began)
        if any(told[2:4]):  # terminated, truncated
            reset(seed)
    return taken


def _many(make_ours: Callable[[], Env], cores: int) -> dict[str, float]:
    """Steps a second of all environments: one process, and one for each of them."""
    fleets: dict[str, Fleet] = {
        "local": Local(make_ours),
        "workers": Workers(make_ours, cores, workers=cores, most=CHUNK, say=print),
    }
    rates: dict[str, list[float]] = {name: [] for name in fleets}
    for block in range(BLOCKS):
        for name, fleet in fleets.items():
            rates[name].append(_rate(fleet, cores, block))
    for fleet in fleets.values():
        fleet.close()
    return {name: round(float(np.median(found)), 1) for name, found in rates.items()}


def _rate(fleet: Fleet, cores: int, seed: int) -> float:
    draws, size = np.random.default_rng(seed), fleet.shape().action
    fleet.reset(dict.fromkeys(range(cores), seed))
    spent, made, ended = 0.0, 0, False
    while made < STEPS and not ended:
        chunks = {i: draws.uniform(-1, 1, (CHUNK, size)).astype(np.float32) for i in range(cores)}
        began = time.perf_counter()
        steps = fleet.play(chunks)
        spent += time.perf_counter() - began
        played = [some or [] for some in steps.values()]
        made += sum(len(some) for some in played)
        ended = any(some[-1].terminated or some[-1].truncated for some in played if some)
    return made / spent


if __name__ == "__main__":
    main()
