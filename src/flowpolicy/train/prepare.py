"""What a run is made of, checked to fit before anything is written."""

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.shards import Shards
from flowpolicy.envs.fleet import Fleet, Local, Single
from flowpolicy.envs.workers import Workers
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import memory
from flowpolicy.train.devices import Devices
from flowpolicy.train.evaluate import Examiner, refined, slots
from flowpolicy.train.fits import check_new
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.learner import Learner
from flowpolicy.train.lock import only_writer
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.online import check_random_steps
from flowpolicy.train.phases import Online, RunConfig
from flowpolicy.train.sentinel import check_rewards
from flowpolicy.train.source import mapped
from flowpolicy.train.task import GivesShards, Task, is_physical
from flowpolicy.train.watch import Watch
from flowpolicy.types import Key, Rows, Spec, byte_fields


@dataclasses.dataclass
class Parts:
    """The parts of one run. ``opened`` gives back what they hold: environments, the lock.

    fleet: the environments, first one per seed for collecting, then those of evaluations; None
           where the task has none that is needed
    """

    config: RunConfig
    folder: RunFolder
    watch: Watch
    learner: Learner
    examiner: Examiner | None
    fleet: Fleet | None
    hardware: Hardware
    like: Rows
    opened: contextlib.ExitStack


def prepare(
    config: RunConfig,
    task: Task,
    dataset: Dataset | None,
    folder: RunFolder,
    watch: Watch,
    *,
    record: dict[str, Any] | None,
    start: Trained | None,
    attempt: int = 0,
    hardware: Hardware,
) -> Parts:
    """Opens environments and builds the learner.

    ``record`` is added to the ``config.json`` of a new run, of which this takes the lock; where it
    is None a run is there already, and locked.
    ``start`` is what training begins with in the place of new agents and a new normaliser.
    Raises ``InvalidConfig`` where the parts do not fit, ``InvalidData`` where the rewards are too
    large for float32, and ``Busy``.
    """
    if dataset is None and config.offline_updates:
        raise InvalidConfig(f"an offline phase needs data, and task {task.name!r} gives none")
    rows = None if dataset is None else dataset.rows
    devices = Devices(hardware, len(config.seeds), config.batch)
    with contextlib.ExitStack() as opened:
        fleet = _fleet(config, task, hardware, watch) if _online(config) or task.playable else None
        if fleet is not None:
            opened.callback(fleet.close)
        spec = _spec(dataset, fleet if _plays(config) else None, config.offline_updates)
        check_random_steps(config, spec)
        check_rewards(config, rows)
        shards = _shards(task, dataset)
        if record is not None:  # a run that began before these were refused goes on
            check_new(config, spec, task, dataset, shards)
        normaliser = _normaliser(config, spec, rows, start)
        like = rows or blank_rows(spec)
        there = None if rows is None or hardware.host_rows or mapped(rows) else rows
        memory.check(config, spec, there, like, hardware.seed_devices, 2 if shards else 1)
        if record is not None:
            opened.enter_context(only_writer(folder.path))
            folder.create(config, spec, _told(task, dataset) | record)
        learner = Learner(
            config,
            spec,
            rows,
            normaliser=normaliser,
            folder=folder,
            watch=watch,
            start=None if start is None else start.agents,
            attempt=attempt,
            devices=devices,
            on_host=hardware.host_rows,
            shards=shards,
        )
        opened.callback(learner.close)
        examiner = None
        if fleet is not None and task.playable:
            examiner = Examiner(fleet, config, normaliser, folder)
        held = opened.pop_all()
        return Parts(config, folder, watch, learner, examiner, fleet, hardware, like, held)


def _fleet(config: RunConfig, task: Task, hardware: Hardware, watch: Watch) -> Fleet:
    if is_physical(task):
        if len(config.seeds) > 1 or hardware.workers:
            raise InvalidConfig(
                f"{task.name} is a robot: it needs one seed and no workers, got seeds "
                f"{config.seeds} and {hardware.workers} workers"
            )
        return Single(task.env)
    if not hardware.workers:
        return Local(task.env)
    return Workers(
        task.env,
        len(config.seeds) + slots(config.evaluation, len(config.seeds)),
        workers=hardware.workers,
        most=config.agent.view.chunk,
        say=watch.say,
    )


def _online(config: RunConfig) -> bool:
    return any(isinstance(phase, Online) for phase in config.phases)


def _plays(config: RunConfig) -> bool:
    """Whether an environment is stepped at all."""
    tried = config.evaluation.every or config.evaluation.final_episodes
    return _online(config) or tried > 0


def _told(task: Task, dataset: Dataset | None) -> dict[str, Any]:
    """What a run writes down of where its rows and episodes are from."""
    return {"task": task.name, "data": None if dataset is None else dataset.record}


def _shards(task: Task, dataset: Dataset | None) -> Shards | None:
    if dataset is None or not isinstance(task, GivesShards):
        return None
    return task.shards(dataset)


def _spec(dataset: Dataset | None, fleet: Fleet | None, updates: int) -> Spec:
    sides, frames = [], []
    if dataset is not None:
        sides.append((dataset.obs_shape, dataset.action_size))
        frames.append(byte_fields(dataset.rows.obs))
    if fleet is not None:
        world = fleet.shape()
        sides.append((world.obs, world.action))
        frames.append(world.frames)
    if len(sides) == 2 and sides[0] != sides[1]:
        raise InvalidConfig(
            "data and environment differ in (observation shape, action size): "
            f"{sides[0]} and {sides[1]}"
        )
    if not sides:
        raise InvalidConfig("a run needs data, an environment, or both")
    obs, action = sides[0]
    return Spec(obs, action, updates, frames[0])


def _normaliser(
    config: RunConfig, spec: Spec, rows: Rows | None, start: Trained | None
) -> Normaliser:
    """What observations pass through, where the agent can play what evaluations ask for."""
    found = config.normaliser.fit(rows) if start is None else start.normaliser
    check_refiners(config, spec, found)
    return found


def check_refiners(config: RunConfig, spec: Spec, normaliser: Normaliser) -> None:
    """``InvalidConfig`` where evaluations are to play a refiner that the agent has no flow or no
    critic for; nothing is computed."""

    def play(key: Key) -> list[Array]:
        agent = config.agent.init(key, spec)
        obs = normaliser(jax.tree.map(lambda rows: rows[0], blank_rows(spec).obs))
        refiners = config.evaluation.refiners
        return [refined(r)(agent)(key, obs, agent.memory())[0] for r in refiners]

    if config.evaluation.refiners:
        jax.eval_shape(play, jax.random.key(0))


def blank_rows(spec: Spec) -> Rows:
    """One row of zeros, for its shapes and dtypes."""

    def zeros(name: str, shape: tuple[int, ...]) -> Array:
        return jnp.zeros((1, *shape), jnp.uint8 if name in spec.frames else jnp.float32)

    shape = spec.obs
    obs = (
        {k: zeros(k, v) for k, v in shape.items()} if isinstance(shape, dict) else zeros("", shape)
    )
    no = jnp.zeros(1, bool)
    return Rows(obs, jnp.zeros((1, spec.action)), jnp.zeros(1), no, no, obs)
