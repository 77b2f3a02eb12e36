"""Demonstrations of RoboMimic's Lift and Can by a scripted hand, in RoboMimic's own layout.

They stand in for the recordings of people where those are not at hand: all are solved, as theirs
are, and how straight is chosen by ``noise`` and ``mistakes``.
"""

import collections
import contextlib
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.collect import Progress, versions
from flowpolicy.data.demonstrations import Demonstration, writing
from flowpolicy.envs.robomimic import RoboMimicEnv, make_robomimic, usual_env_args
from flowpolicy.envs.scripted import Hand, check
from flowpolicy.errors import InvalidConfig
from flowpolicy.randomness import seed_for
from flowpolicy.simulators import PINS, robosuite_alone

HOPELESS = 20
"""Episodes, none of them solved, after which collecting gives up."""


def demonstrate(
    task: str,
    rows: int,
    out: str | Path,
    *,
    noise: float = 0.1,
    mistakes: float = 0.2,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes at least ``rows`` steps of solved episodes of ``task`` (lift, can) to ``out`` (HDF5).

    noise:    standard deviation of the trembling added to the arm's movements, in [0, 1]
    mistakes: probability that a grasp reaches beside the object, in [0, 1)
    workers:  processes; one a core where None. The rows are a function of everything else, on one
              machine

    An episode that is not solved in time is left out and counted. What made the file stands in it,
    and is returned. Raises ``UnknownName``, ``InvalidConfig`` (also where nothing is solved),
    ``MissingExtra``, ``StorageFailed``.
    """
    out = Path(out)
    _check(rows, out, seed, overwrite=overwrite)
    check(task, noise, mistakes)
    robosuite_alone()
    play = functools.partial(demonstration, task, noise, mistakes, seed)
    failed = 0
    with writing(out, usual_env_args(task)) as writer, _in_order(play, workers) as episodes:
        for episode in episodes:
            if episode is None:
                failed += 1
                if failed >= HOPELESS and not writer.episodes:
                    raise InvalidConfig(
                        f"none of {failed} episodes of {task} was solved with noise={noise} and "
                        f"mistakes={mistakes}; choose less of them"
                    )
                continue
            writer.append(episode)
            if progress is not None:
                progress(min(writer.rows, rows), rows)
            if writer.rows >= rows:
                break
        writer.record = {
            "source": "flowpolicy demonstrate",
            "arguments": {"rows": rows, "seed": seed, "noise": noise, "mistakes": mistakes},
            "rows": writer.rows,
            "episodes": writer.episodes,
            "unsolved_episodes": failed,
            "versions": {**versions(), "robosuite": PINS["robosuite"]},
        }
    return writer.record


def demonstration(
    task: str, noise: float, mistakes: float, seed: int, index: int
) -> Demonstration | None:
    """Episode ``index`` of ``seed``; None where it is not solved in time."""
    env = _env(task)
    hand = Hand(task, np.random.default_rng([seed, index]), noise=noise, mistakes=mistakes)
    obs, steps, states = [env.reset(seed_for(seed, index))], [], []
    actions: list[np.ndarray] = []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        states.append(env.state())
        actions.append(hand.act(env.by_field(obs[-1])))
        steps.append(env.step(actions[-1]))
        obs.append(steps[-1].obs)
    if not steps[-1].success:
        return None
    seen = env.by_field(np.stack(obs).astype(np.float64))
    return Demonstration(
        obs={field: rows[:-1] for field, rows in seen.items()},
        next_obs={field: rows[1:] for field, rows in seen.items()},
        action=np.stack(actions),
        reward=np.array([step.reward + 1.0 for step in steps]),
        done=np.array([step.terminated for step in steps]),
        states=np.stack(states),
    )


@functools.lru_cache(maxsize=1)
def _env(task: str) -> RoboMimicEnv:
    return make_robomimic(task)


@contextlib.contextmanager
def _in_order(
    play: Callable[[int], Demonstration | None], workers: int | None
) -> Iterator[Iterator[Demonstration | None]]:
    """Episodes 0, 1, ... without end, whichever process is the first to finish one."""
    workers = workers or _cores()
    if workers == 1:
        yield (play(index) for index in range(sys.maxsize))
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield _ahead(pool, play, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, play: Callable[[int], Demonstration | None], most: int
) -> Iterator[Demonstration | None]:
    waiting: collections.deque[Future[Demonstration | None]] = collections.deque()
    for index in range(sys.maxsize):
        waiting.append(pool.submit(play, index))
        if len(waiting) == most:
            yield waiting.popleft().result()


def _check(rows: int, out: Path, seed: int, *, overwrite: bool) -> None:
    if rows < 1:
        raise InvalidConfig(f"rows must be at least 1, got {rows}")
    if seed < 0:
        raise InvalidConfig(f"seed must not be negative, got {seed}")
    if out.suffix != ".hdf5":
        raise InvalidConfig(f"out must end in .hdf5, got {out.name!r}")
    if out.exists() and not overwrite:
        raise InvalidConfig(f"out: {out} is there already; choose another name or overwrite it")


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
