"""Going on with a run as if it had never stopped."""

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.data.dataset import Dataset
from flowpolicy.data.digest import check_same_rows
from flowpolicy.data.replay import Ring
from flowpolicy.data.shards import check_same_files
from flowpolicy.errors import CorruptFile, Inexact, MissingData
from flowpolicy.train import checkpoint, durable, journal
from flowpolicy.train.checkpoint import Contents
from flowpolicy.train.devices import Devices
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.journal import ENDED, record_type, to_rows
from flowpolicy.train.lock import only_writer
from flowpolicy.train.loop import Loop, Position
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.prepare import blank_rows, prepare
from flowpolicy.train.task import Task
from flowpolicy.train.versions import platform
from flowpolicy.train.watch import Watch
from flowpolicy.types import Metrics, Rows


def reopen(
    folder: RunFolder,
    task: Task,
    dataset: Dataset | None,
    watch: Watch,
    *,
    allow_inexact: bool,
    attempt: int,
    hardware: Hardware,
) -> Loop:
    """The run in ``folder`` where its newest valid checkpoint is, or at its beginning.

    ``dataset`` must hold the rows the run began with, ``InvalidData`` otherwise. What is in the way
    of a continuation to the bit raises ``Inexact``, or is told to ``watch`` with ``allow_inexact``.
    ``attempt`` is whose random numbers come next.
    """
    config = folder.config()
    with contextlib.ExitStack() as opened:
        opened.enter_context(only_writer(folder.path))
        if dataset is not None:
            recorded = folder.record().get("data") or {}
            check_same_rows(dataset.rows, recorded, str(folder.path))
            check_same_files(dataset.info, recorded, str(folder.path))
        folder.tidy()
        like = dataset.rows if dataset is not None else blank_rows(folder.spec())
        found = _newest(folder, config, like, watch)
        if found is not None:
            devices = Devices(hardware, len(config.seeds), config.batch)
            _tell(_differences(found.contents, devices), watch, allow_inexact)
        parts = prepare(
            config,
            task,
            dataset,
            folder,
            watch,
            record=None,
            start=None if found is None else found.trained,
            attempt=attempt,
            hardware=hardware,
        )
        parts.opened.callback(opened.pop_all().close)
    loop = Loop(parts)
    try:
        if found is None:
            folder.cut_logs({})
            for rows in loop.journals:
                journal.cut(rows.folder, rows.kind, [])
        else:
            _tell(restore(loop, found), watch, allow_inexact)
    except BaseException:
        loop.close()
        raise
    return loop


@dataclasses.dataclass(frozen=True)
class Found:
    """A checkpoint that holds together: its own arrays, and per seed the rows it speaks of."""

    path: Path
    contents: Contents
    trained: Trained
    rows: list[tuple[np.ndarray, list[journal.Segment]]]


def _newest(folder: RunFolder, config: RunConfig, like: Rows, watch: Watch) -> Found | None:
    """The newest checkpoint to go on from; those that are newer and do not hold together are put
    aside. None where there never was one.
    """
    kind = record_type(like)

    def usable(path: Path, contents: Contents) -> Found:
        meta = contents.meta
        if not meta.get("resumable"):
            raise CorruptFile(f"{path} is of a version that could not go on with a run")
        if meta.get("flawed"):
            raise CorruptFile(f"{path} is of a run that was about to diverge")
        folder.check_logs(meta["logs"])
        rows = [
            journal.read(folder.journal(seed), kind, cursor)
            for seed, cursor in zip(config.seeds, meta["journals"], strict=True)
        ]
        return Found(path, contents, folder.trained(contents), rows)

    try:
        found, refused = checkpoint.newest(folder.checkpoints, usable)
    except MissingData:
        watch.say(f"{folder.path} has no checkpoint yet: it begins again")
        return None
    for path, reason in refused:
        watch.say(f"checkpoint passed over: {reason}")
        aside = checkpoint.free_name(path.parent, f".refused-{path.name}")
        durable.rename(path, path.with_name(aside))
    watch.say(f"going on from {found.path}")
    return found


def _differences(contents: Contents, devices: Devices) -> list[str]:
    """What of the machine and its software is not what it was."""
    then, now = contents.meta["platform"], platform() | devices.record
    return [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _tell(troubles: list[str], watch: Watch, allow: bool) -> None:
    if not troubles:
        return
    if not allow:
        raise Inexact(
            f"the run cannot be gone on with to the bit: {'; '.join(troubles)}. Go on all the same "
            "with allow_inexact (--allow-inexact)"
        )
    for trouble in troubles:
        watch.say(f"from here on not as it would have been: {trouble}")


def restore(loop: Loop, found: Found) -> list[str]:
    """Puts a fresh loop where a checkpoint was; returns what did not come back to the bit."""
    meta, arrays = found.contents.meta, found.contents.loop
    if loop.learner.sentinel is not None:
        loop.learner.sentinel.restore(meta.get("guard") or {})
    loop.folder.cut_logs(meta["logs"])
    for rows, (_, segments) in zip(loop.journals, found.rows, strict=True):
        journal.cut(rows.folder, rows.kind, segments)
        rows.go_on(segments)
    # Checkpoints did not tell ticks once, and counted those of all phases.
    ticks = max((meta["stepper"] or {}).get("ticks", [0]))
    loop.at, loop.first = Position(**{"ticks": ticks, **meta["position"]}), meta["first"]
    loop.best = tuple(meta["best"])
    loop.clock.restore(meta["clock"])
    loop.cuts = meta["cuts"]
    loop.learner.restore(found.trained.agents, meta)
    loop.blocks = _blocks(arrays)
    blank = jax.tree.map(
        lambda x: jnp.stack([x] * len(loop.config.seeds)), loop.learner.alone(0).memory()
    )
    if memory := _below("memory", arrays):
        loop.memory = checkpoint.from_arrays(blank, memory, str(found.path))
    for path in checkpoint.checkpoints(loop.folder.checkpoints):
        with contextlib.suppress(CorruptFile, MissingData):
            loop.keeper.know(path, checkpoint.read(path).meta)
    loop.keeper.trim()
    loop.came_from(found.path)
    troubles, lost = [], []
    if loop.stepper is not None and meta["stepper"]:
        troubles, lost = loop.stepper.restore(meta["stepper"], _recorded(loop, arrays))
    for i in lost:
        loop.episode_lost(i)
    if any(rows.rows for rows in loop.journals):
        records = [records for records, _ in found.rows]
        loop.rings = _rings(loop, records)
    return troubles


def _below(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one branch, named from there on; a typed key's name has a word before it."""
    branch = re.compile(rf"^([^\[]*)\['{re.escape(name)}'\]")
    return {branch.sub(r"\1", key): value for key, value in arrays.items() if branch.match(key)}


def _blocks(arrays: dict[str, np.ndarray]) -> list[Metrics]:
    stacked = {name[2:-2]: jnp.asarray(x) for name, x in sorted(_below("blocks", arrays).items())}
    count = len(next(iter(stacked.values()), ()))
    return [{name: value[i] for name, value in stacked.items()} for i in range(count)]


def _recorded(loop: Loop, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Per seed whose episode goes on, its actions and its last observation."""
    paths, structure = jax.tree_util.tree_flatten_with_path(loop.like.obs)
    recorded = {}
    for i in range(len(loop.config.seeds)):
        own = _below(str(i), _below("recorded", arrays))
        if own:
            leaves = [own["['obs']" + jax.tree_util.keystr(path)] for path, _ in paths]
            obs = jax.tree_util.tree_unflatten(structure, leaves)
            recorded[str(i)] = {"actions": own["['actions']"], "obs": obs}
    return recorded


def _rings(loop: Loop, records: list[np.ndarray]) -> Ring:
    """The rings that inserting all rows would have made."""
    capacity, kind = loop.config.ring_capacity, loop.journals[0].kind
    rings = []
    for i, (found, rows) in enumerate(zip(records, loop.journals, strict=True)):
        held = min(rows.rows, capacity, len(found))
        start, recent = (rows.rows - held) % capacity, found[len(found) - held :]
        room = min(held, capacity - start)
        places = np.zeros(capacity, kind)
        places[start : start + room], places[: held - room] = recent[:room], recent[room:]
        for number in loop.cuts[i]:
            if number >= rows.rows - held:
                places[ENDED][number % capacity] = True
        rings.append(Ring(to_rows(places, loop.like), jnp.int32(rows.rows)))
    many = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *rings)
    return loop.learner.devices.by_seed(many)
