"""How many of a task's ways to succeed a policy still takes, where the task states them."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError, InvalidData
from flowpolicy.report.methods import Cell
from flowpolicy.train.folder import OWN, RunFolder
from flowpolicy.train.policy import Policy
from flowpolicy.train.random import Stream, episode_seed

SAMPLES = 200
SHARE = 0.05


@runtime_checkable
class StatesModes(Protocol):
    """A task whose first action has known modes, such as a bandit."""

    @property
    def modes(self) -> Sequence[Sequence[float]]:
        """Their centres in action space, at least two."""
        ...


@dataclasses.dataclass(frozen=True)
class Modes:
    """Modes kept by each seed of a method on a task, of ``stated`` modes."""

    method: str
    task: str
    stated: int
    kept: tuple[int, ...]


def modes_kept(cell: Cell) -> Modes | None:
    """Counts modes at the first evaluation state of every seed; None where none are stated.

    None, too, where a policy cannot be loaded: the gallery says why.
    """
    try:
        tasks = [RunFolder(run.path).config().task for run in cell.runs]
        centres = [task.modes for task in tasks if isinstance(task, StatesModes)]
        if len(centres) < len(tasks):
            return None
        actions = [_sample(cell, RunFolder(run.path), seed) for seed, run in cell.origin.items()]
    except FlowPolicyError:
        return None
    centre = np.asarray(centres[0], float)
    kept = tuple(count(chosen, centre) for chosen in actions)
    return Modes(cell.method, cell.task, len(centre), kept)


def count(actions: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "modes d"]) -> int:
    """Modes that at least ``SHARE`` of the actions lie at.

    An action lies at the nearest centre, and at none where that is farther away than half the
    distance between the two closest centres.
    """
    if len(centres) < 2:
        raise InvalidData(f"modes must be at least two, got {len(centres)}")
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    reach = 0.5 * float(np.min(apart[~np.eye(len(centres), dtype=bool)]))
    away = np.linalg.norm(actions[:, None] - centres[None], axis=-1)
    nearest = np.argmin(away, axis=1)[np.min(away, axis=1) <= reach]
    shares = np.bincount(nearest, minlength=len(centres)) / len(actions)
    return int(np.sum(shares >= SHARE))


def _sample(cell: Cell, folder: RunFolder, seed: int) -> Float[np.ndarray, "n d"]:
    config = folder.config()
    refiner = None if cell.refiner == OWN else parts.parse(cell.refiner)
    index = config.seeds.index(seed)
    policy = Policy.load(folder.path, seed_index=index, refiner=refiner, seed=seed)
    env = config.task.env()
    try:
        obs = env.reset(episode_seed(seed, Stream.EVALUATE, 0))
    finally:
        env.close()
    return np.stack([_first(policy, obs) for _ in range(SAMPLES)]).astype(float)


def _first(policy: Policy, obs: object) -> np.ndarray:
    policy.reset()
    return policy.act(obs)[0]
