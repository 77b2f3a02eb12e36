"""How many of a task's ways to succeed a policy takes, before its online phase and after it."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError, InvalidData
from flowpolicy.report.methods import Cell
from flowpolicy.train import checkpoint
from flowpolicy.train.evaluate import own, refined
from flowpolicy.train.folder import OWN, RunFolder, Trained
from flowpolicy.train.phases import Online
from flowpolicy.train.random import Stream, episode_seed, stream_key
from flowpolicy.train.updates import acting
from flowpolicy.types import Observation

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
    """Modes taken by each seed of a method on a task, of ``stated`` modes.

    before: at the end of the offline phase; None where there is none, or its checkpoint is gone
    after:  at the end of the online phase; None where no checkpoint is of it
    """

    method: str
    task: str
    stated: int
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None


def modes_kept(cell: Cell) -> Modes | None:
    """Counts modes at the first evaluation state of every seed; None where none are stated.

    None, too, where no policy can be loaded: the gallery says why.
    """
    try:
        tasks = [RunFolder(run.path).config().task for run in cell.runs]
        centres = [task.modes for task in tasks if isinstance(task, StatesModes)]
        if len(centres) < len(tasks):
            return None
        centre = np.asarray(centres[0], float)
        before, after = (_counts(cell, centre, online) for online in (False, True))
    except FlowPolicyError:
        return None
    return Modes(cell.method, cell.task, len(centre), before, after)


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


def _counts(
    cell: Cell, centres: Float[np.ndarray, "modes d"], online: bool
) -> tuple[int, ...] | None:
    """By seed; None where a run has no checkpoint of the end of that phase."""
    found = {run.path: _end_of(RunFolder(run.path), online) for run in cell.runs}
    counts = []
    for seed, run in cell.origin.items():
        trained = found[run.path]
        if trained is None:
            return None
        counts.append(count(_sample(cell, RunFolder(run.path), trained, seed), centres))
    return tuple(counts)


def _end_of(folder: RunFolder, online: bool) -> Trained | None:
    """The state at the end of all offline phases, or at that of the online ones."""
    config = folder.config()
    steps = sum(phase.env_steps for phase in config.phases if isinstance(phase, Online))
    if not (steps if online else config.offline_updates):
        return None
    for path in reversed(checkpoint.checkpoints(folder.checkpoints)):
        contents = checkpoint.read(path)
        meta = contents.meta
        over = min(meta["env_steps"], default=0) >= steps
        if not online:
            over = meta["updates"] == config.offline_updates
        if over and bool(meta["online"]) == online:
            return folder.trained(contents)
    return None


def _sample(cell: Cell, folder: RunFolder, trained: Trained, seed: int) -> Float[np.ndarray, "n d"]:
    """First actions of ``SAMPLES`` chunks at the first evaluation state."""
    config = folder.config()
    agents = jax.tree.map(lambda x: x[config.seeds.index(seed)][None], trained.agents)
    memory = jax.tree.map(lambda x: x[0], agents).memory()
    choose = own if cell.refiner == OWN else refined(parts.parse(cell.refiner))
    obs = _first_observation(folder, seed)
    keys = jax.random.split(stream_key(seed, Stream.POLICY), (1, SAMPLES))
    many = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * SAMPLES)[None], (obs, memory))
    chunks, _ = acting(choose, trained.normaliser, 1)(agents, keys, *many)
    return np.asarray(chunks[0], float)[:, : folder.spec().action]


def _first_observation(folder: RunFolder, seed: int) -> Observation:
    env = folder.config().task.env()
    try:
        return env.reset(episode_seed(seed, Stream.EVALUATE, 0))
    finally:
        env.close()
