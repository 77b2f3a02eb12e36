"""Bad updates, written down so that one of them can be made again and looked into.

    with flowpolicy.debug():
        reproduce("runs/r/reproductions/seed0-update000001234")

A folder in the form of a checkpoint: ``state`` is the agent, ``loop`` the update's batch as the
agent saw it, ``meta`` the rest. The agent is the one after the block of updates in which the bad
one was. Gradients that were not followed left it as it was before; where an update was bad for
its values alone, it is up to a block older.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.agents.base import Agent
from flowpolicy.errors import CorruptFile
from flowpolicy.train import checkpoint, durable
from flowpolicy.train.folder import RunFolder, Trained, blank
from flowpolicy.train.guards import Bounds, Fault, Guard, examine
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.random import Stream, stream_key
from flowpolicy.types import Key, Metrics, Transition

FIELDS = tuple(field.name for field in dataclasses.fields(Transition))


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """One update: the agent, the batch and the key it is made of, and what was said of it.

    meta: seed, attempt, updates (its number), online, faults, metrics, bounds, verdict
    precision: of the run's matrix products, ``RunConfig.precision``
    """

    agent: Agent
    batch: Transition
    key: Key
    guard: Guard
    meta: dict[str, Any]
    precision: str

    def again(self) -> tuple[Agent, Metrics, Fault]:
        """The update, made again; use it within ``flowpolicy.debug()`` to look inside."""
        with jax.default_matmul_precision(self.precision):
            agent, metrics = self.agent.update(self.key, self.batch)
        bounds = Bounds(*(jnp.float32(x) for x in self.meta["bounds"]))
        agent, metrics, faults = examine(self.guard, bounds, agent, self.batch, metrics)
        return agent, metrics, Fault(int(faults))


def name(seed: int, update: int, attempt: int) -> str:
    """The folder's name; the attempt is named after the first one."""
    return f"seed{seed}-update{update:09d}" + (f"-attempt{attempt}" if attempt else "")


def write(folder: RunFolder, trained: Trained, batch: Transition, meta: dict[str, Any]) -> Path:
    """Writes one, durably, and returns where; ``trained`` has a seed axis of length one.

    One that is there already, of the run before it was gone on with, stays.
    """
    path = folder.path / "reproductions" / name(meta["seed"], meta["updates"], meta["attempt"])
    if not path.exists():
        durable.make_folder(path.parent)
        loop = checkpoint.to_arrays({"batch": batch})
        contents = checkpoint.Contents(checkpoint.to_arrays(trained), loop, meta)
        checkpoint.save(path, contents, keep=len(written(folder)) + 1)
    return path


def written(folder: RunFolder) -> list[Path]:
    """Those that a run has."""
    return checkpoint.checkpoints(folder.path / "reproductions")


def load(path: str | Path) -> Reproduction:
    """One of a run's reproductions; ``CorruptFile`` where it is not what was written."""
    path = Path(path)
    contents = checkpoint.read(path)
    folder = RunFolder(path.parent.parent)
    config, spec, meta = folder.config(), folder.spec(), contents.meta
    if config.guard is None:
        raise CorruptFile(f"{folder.path} is a run without guards")
    online = bool(meta["online"])
    skeleton = jax.eval_shape(lambda: blank(config.agent, spec, 1, online))
    if not any("normaliser" in leaf for leaf in contents.state):
        skeleton = dataclasses.replace(skeleton, normaliser=Normaliser(None, None))
    trained = checkpoint.from_arrays(skeleton, contents.state, str(path))
    agent = jax.tree.map(lambda x: x[0], trained.agents)
    root = stream_key(meta["seed"], Stream.UPDATE, meta["attempt"])
    _, key = jax.random.split(jax.random.fold_in(root, meta["updates"]))
    batch = _batch(contents.loop, spec.obs)
    return Reproduction(agent, batch, key, config.guard, meta, config.precision)


def reproduce(path: str | Path) -> tuple[Agent, Metrics, Fault]:
    """The agent after the update that ``path`` holds, its metrics, and what the guards see."""
    return load(path).again()


def _batch(arrays: dict[str, np.ndarray], shape: Any) -> Transition:
    def value(field: str) -> Any:
        at = f"['batch'].{field}"
        if field not in ("obs", "next_obs") or not isinstance(shape, dict):
            return jnp.asarray(arrays[at])
        return {name: jnp.asarray(arrays[f"{at}['{name}']"]) for name in shape}

    return Transition(**{field: value(field) for field in FIELDS})
