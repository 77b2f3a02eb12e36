"""Whether data, agent and task fit one another, before anything is trained."""

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flowpolicy import parts
from flowpolicy.agents.base import AgentConfig, ReadsUnits
from flowpolicy.data.chunk import View
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.shards import Shards
from flowpolicy.deploy.units import RECORD, ActionUnits, read_units
from flowpolicy.errors import InvalidConfig
from flowpolicy.train.phases import Online, Phase, RunConfig
from flowpolicy.train.task import Task
from flowpolicy.types import Key, Rows, Spec


def check_new(
    config: RunConfig, spec: Spec, task: Task, dataset: Dataset | None, shards: Shards | None
) -> None:
    """``InvalidConfig`` where a run that is not there yet would not do what it seems to."""
    check_seeds(config)
    check_units(config, task, dataset)
    check_sight(config.agent, spec)
    if dataset is not None:
        check_chunks(config, spec, dataset.rows)
    if shards is not None:
        check_turns(config, shards)


def check_seeds(config: RunConfig) -> None:
    """``InvalidConfig`` where a seed is larger than a key can tell: those equal modulo 2**32 are
    the same agent. A run that began with such a seed is read and gone on with all the same.
    """
    if max(config.seeds) >= 2**32:
        raise InvalidConfig(f"run.seeds must be distinct and in 0 .. 2**32 - 1, got {config.seeds}")


def check_units(config: RunConfig, task: Task, dataset: Dataset | None) -> None:
    """``InvalidConfig`` where actions would have other units than those who get them expect."""
    if dataset is None or units_of(dataset).change_nothing:
        return
    if isinstance(config.agent, ReadsUnits) and config.agent.reads_units:
        raise InvalidConfig(
            f"{parts.name_of(config.agent)}: a trajectory begins at entries of the observation, "
            "which must be in [-1, 1] as actions are, and the data's actions are scaled; choose "
            "last_action as its start, or scale both alike before they are read"
        )
    if not task.playable:
        return
    own = task.dataset()
    if own is None or units_of(own).change_nothing:
        raise InvalidConfig(
            f"the data's actions have units of their own, which the environment of {task.name} "
            "would not be given; give train(..., task=fp.OwnData(path, actions=..., world=task)) "
            "in the place of both"
        )


def units_of(dataset: Dataset) -> ActionUnits:
    """What became [-1, 1]; where nothing is said, what was recorded."""
    told, size = dataset.info.get(RECORD), dataset.action_size
    return ActionUnits.unchanged(size) if told is None else read_units(told, size, "data")


def check_chunks(config: RunConfig, spec: Spec, rows: Rows) -> None:
    """``InvalidConfig`` where no chunk of the offline rows would teach the critic, silently."""
    view = config.agent.view
    if not config.offline_updates:
        return
    longest = int(np.diff(np.flatnonzero(rows.ended), prepend=-1).max())
    if longest >= view.horizon or _teaches(view, rows) or not _has_critic(config, spec, rows):
        return
    raise InvalidConfig(
        f"the agent's samples have {view.horizon} rows of a trajectory, and the longest trajectory "
        f"has {longest}: its critic would learn nothing offline; choose a shorter chunk, or "
        "ends=shorter_returns where the agent has it"
    )


def check_turns(config: RunConfig, shards: Shards) -> None:
    """``InvalidConfig`` where some of the files would never have their turn: they change between
    dispatches alone.
    """
    files, every = len(shards), shards.every
    most = max(_dispatched(config, phase) for phase in config.phases)
    if len({k * most // every % files for k in range(files * every)}) < files:
        raise InvalidConfig(
            f"rotate must be at least {most}, the updates of one dispatch (run.block offline, "
            f"those of a chunk online), or files are never trained on; got {every}"
        )


def _dispatched(config: RunConfig, phase: Phase) -> int:
    """Updates between which the rows cannot be replaced."""
    if isinstance(phase, Online):
        return math.ceil(config.agent.view.chunk * phase.updates_per_step)
    return min(config.block, phase.steps)


def _teaches(view: View, rows: Rows) -> bool:
    """Whether the first window counts for the critic, as all do that are not longer."""
    places = np.arange(view.horizon)
    window = jax.tree.map(lambda x: jnp.asarray(x[np.minimum(places, len(x) - 1)]), rows)
    return bool(view(window, jnp.asarray(places < len(rows.reward))).weight > 0)


def _has_critic(config: RunConfig, spec: Spec, rows: Rows) -> bool:
    def value(key: Key) -> Array:
        obs = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), rows.obs)
        action = jnp.zeros(config.agent.view.chunk * spec.action)
        return config.agent.init(key, spec).value(obs, action)

    try:
        jax.eval_shape(value, jax.random.key(0))
    except (InvalidConfig, NotImplementedError):
        return False
    return True


def check_sight(agent: AgentConfig, spec: Spec) -> None:
    """``InvalidConfig`` where a net would take frames of bytes as so many numbers."""
    shapes = spec.obs if isinstance(spec.obs, dict) else {"": spec.obs}
    frames = {name: shapes[name] for name in spec.frames if len(shapes[name]) == 3}
    if not frames:
        return
    size = agent.view.chunk * spec.action
    for place, net in _nets(agent, parts.name_of(agent)):
        if _is_blind(net, spec, size, shapes, frames):
            told = ", ".join(f"{name} {shape}".strip() for name, shape in frames.items())
            raise InvalidConfig(
                f"{place}: {parts.describe(net)} would take the frames {told} as so many numbers "
                "from 0 to 255; give flowpolicy.runs.seeing(agent), which puts an encoder before "
                "every net, or a net with one, as in impala_flow(net=mlp_flow())"
            )


@runtime_checkable
class Buildable(Protocol):
    """What a net's configuration shares with those of an agent and of a head."""

    def init(self, key: Key, spec: Spec) -> Any:
        """Builds it; a net of actions has their size as a third argument."""
        ...


def _nets(part: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The nets among the fields of an agent, and of agents and heads inside it, by their places."""
    for field in dataclasses.fields(part):
        value, there = getattr(part, field.name), f"{place}.{field.name}"
        if not isinstance(value, Buildable) or not dataclasses.is_dataclass(value):
            continue
        if isinstance(value, AgentConfig) or len(_arguments(value)) > 3:
            yield from _nets(value, there)
        else:
            yield there, value


def _arguments(net: Buildable) -> Any:
    return inspect.signature(net.init).parameters


def _is_blind(
    net: Buildable,
    spec: Spec,
    size: int,
    shapes: dict[str, tuple[int, ...]],
    frames: dict[str, tuple[int, ...]],
) -> bool:
    """Whether the same net is built for frames that are laid flat, and another one for longer
    ones: no part of it knows height and width. One that looks at them finds none, or ignores them.
    """

    def built(more: int) -> list[tuple[int, ...]] | None:
        flat = {name: (math.prod(shape) + more,) for name, shape in frames.items()}
        return _built(net, dataclasses.replace(spec, obs=shapes | flat), size)

    own = _built(net, dataclasses.replace(spec, obs=shapes), size)
    return own is not None and own == built(0) != built(1)


def _built(net: Buildable, spec: Spec, size: int) -> list[tuple[int, ...]] | None:
    """The shapes of its arrays; None where it cannot be built."""
    sizes = (size,) * (len(_arguments(net)) - 2)
    try:
        tree = jax.eval_shape(lambda key: net.init(key, spec, *sizes), jax.random.key(0))
    except Exception:  # a net of anybody's, and whatever it raises where it finds no frames
        return None
    return [leaf.shape for leaf in jax.tree.leaves(tree)]
