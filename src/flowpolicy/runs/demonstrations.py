"""Demonstrations of RoboMimic's Lift and Can by a scripted hand, in RoboMimic's own layout.

They stand in for the recordings of people where those are not at hand: all are solved, as theirs
are, and how straight is chosen by ``noise`` and ``mistakes``.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.collect import Progress, versions
from flowpolicy.data.demonstrations import Demonstration, writing
from flowpolicy.envs.robomimic import RoboMimicEnv, make_robomimic, usual_env_args
from flowpolicy.envs.scripted import Hand, check
from flowpolicy.randomness import seed_for
from flowpolicy.runs.episodes import check_hope, check_request, in_order
from flowpolicy.simulators import PINS, robosuite_alone


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
    check_request(rows, out, seed, ".hdf5", overwrite=overwrite)
    check(task, noise, mistakes)
    robosuite_alone()
    play = functools.partial(demonstration, task, noise, mistakes, seed)
    failed = 0
    with writing(out, usual_env_args(task)) as writer, in_order(play, workers) as episodes:
        for episode in episodes:
            if episode is None:
                failed += 1
                check_hope(task, failed, writer.episodes, noise, mistakes)
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
