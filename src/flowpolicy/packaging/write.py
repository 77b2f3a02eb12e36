"""``package``: a run's policy as a folder that can be checked, published and run without JAX."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from flowpolicy import parts
from flowpolicy.deploy import files as package_files
from flowpolicy.deploy.numpy_actor import NumpyActor
from flowpolicy.deploy.package import FORMAT, read_package
from flowpolicy.deploy.units import RECORD, action_units
from flowpolicy.errors import FlowPolicyError, InvalidConfig
from flowpolicy.packaging.card import Success, card, check_licence
from flowpolicy.packaging.trace import program
from flowpolicy.refine import Refiner
from flowpolicy.report.statistics import wilson
from flowpolicy.train import durable
from flowpolicy.train.checkpoint import to_json
from flowpolicy.train.folder import OWN, RunFolder
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.task import TellsFields

CALLS, AGREE = 16, 1e-4


def package(
    run: RunFolder | str | Path,
    out: str | Path | None = None,
    *,
    refiner: Refiner | None = None,
    seed_index: int = 0,
    licence: str = "",
    numpy: bool = True,
    best: bool = False,
) -> Path:
    """Writes the policy of a run's newest checkpoint as a package and returns its folder.

    out:        a folder that does not exist yet; ``package`` in the run's folder where None
    refiner:    acts in the place of the agent's own; what it does not read is not packaged
    seed_index: which of the run's seeds
    licence:    the hub's identifier (``mit``); the model card says where none is given
    numpy:      whether the program is in it that runs without JAX
    best:       the state whose evaluation within the run was the best, and not the newest

    What is written is read back, and acts within 1e-4 of the run's policy, before it gets its
    name. Raises ``InvalidConfig`` naming the primitive where the policy computes something that the
    numpy back end does not know; with ``numpy=False`` it is packaged for JAX alone.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    target = folder.path / "package" if out is None else Path(out)
    if os.path.lexists(target):
        raise InvalidConfig(f"{target} exists already; choose another folder or remove it")
    check_licence(licence)
    # Once: a run that is being trained may have a newer checkpoint a moment later.
    trained, meta = folder.load(best=best)
    actor = JaxActor.of_trained(folder, trained, seed_index, refiner, seed=0)
    config = _config(folder, meta, actor, refiner, seed_index)
    contents = _files(folder, config, actor, licence, numpy=numpy)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    durable.remove(temporary)
    durable.make_folder(temporary)
    for name, data in contents.items():
        durable.write_new(temporary / name, data)
    durable.flush_folder(temporary)
    try:
        _try(temporary, actor, numpy=numpy)
    except FlowPolicyError:
        durable.remove(temporary)
        raise
    durable.rename(temporary, target)
    return target


def _files(
    folder: RunFolder, config: dict[str, Any], actor: JaxActor, licence: str, *, numpy: bool
) -> dict[str, bytes]:
    """The package's files by name."""
    memory = {f"memory.{i}": x for i, x in enumerate(jax.tree.leaves(actor.memory()))}
    tensors = {k: np.asarray(v, order="C") for k, v in (actor.weights | memory).items()}
    contents = {}
    if numpy:
        data, constants = actor_program(actor)
        contents[package_files.PROGRAM] = to_json(data)
        tensors |= constants
    success = _success(folder, config)
    contents[package_files.TENSORS] = safetensors.numpy.save(tensors)
    contents[package_files.CONFIG] = to_json(config)
    contents[package_files.CARD] = card(config, folder.record(), success, licence).encode()
    return contents | {package_files.MANIFEST: package_files.manifest(contents)}


def actor_program(actor: JaxActor) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The actor's call as a program: key data, number, observation, memory to chunk, memory."""
    _, number, obs, memory = actor.inputs()
    seen, seen_as = jax.tree.flatten(obs)
    kept, kept_as = jax.tree.flatten(memory)
    fields = [f"obs/{k}" for k in sorted(obs)] if isinstance(obs, dict) else ["obs"]
    inputs = {"key": np.zeros(2, np.uint32), "call": number}
    inputs |= dict(zip(fields, seen, strict=True))
    inputs |= {f"memory/{i}": np.asarray(x) for i, x in enumerate(kept)}

    def call(leaves: list[Any], data: Any, number: Any, *rest: Any) -> list[Any]:
        key = jax.random.wrap_key_data(data, impl="threefry2x32")
        obs = jax.tree.unflatten(seen_as, rest[: len(seen)])
        memory = jax.tree.unflatten(kept_as, rest[len(seen) :])
        chunk, memory = actor.short(leaves, key, number, obs, memory)
        return [chunk, *jax.tree.leaves(memory)]

    outputs = ["chunk", *(f"memory/{i}" for i in range(len(kept)))]
    return program(call, actor.weights, inputs, outputs)


def _config(
    folder: RunFolder,
    meta: dict[str, Any],
    actor: JaxActor,
    refiner: Refiner | None,
    seed_index: int,
) -> dict[str, Any]:
    """``config.json``: what loading it needs, what goes in and comes out, where it is from.

    ``meta`` is the checkpoint's.
    """
    config, record = folder.config(), folder.record()
    return {
        "format": FORMAT,
        "agent": parts.encode(config.agent),
        "spec": parts.encode(folder.spec()),
        "online": bool(meta["online"]),
        "normaliser": actor.normaliser.shift is not None,
        "refiner": None if refiner is None else parts.encode(refiner),
        "chunk": actor.horizon,
        "observation": {
            "mapping": isinstance(actor.obs_shape, dict),
            "fields": list(_fields(actor.obs_shape, config.task)),
        },
        "action": {
            "size": actor.action_size,
            "low": -1.0,
            "high": 1.0,
            "unit": "normalised",
            **_units(folder),
        },
        "control_interval_s": (
            config.task.control_interval if isinstance(config.task, TellsFields) else None
        ),
        "source": {
            "run": str(record.get("run", "")),
            "task": str(record.get("task", "")),
            "seed": config.seeds[seed_index],
            "updates": int(meta["updates"]),
            "env_steps": int(min(meta["env_steps"], default=0)),
            "commit": str(record.get("commit", "")),
            "versions": record.get("versions", {}),
            "config_sha256": hashlib.sha256((folder.path / "config.json").read_bytes()).hexdigest(),
        },
    }


def _units(folder: RunFolder) -> dict[str, Any]:
    """What the robot's actions are, where they are not in [-1, 1] themselves."""
    units = action_units(folder.path)
    return {} if units.change_nothing else {RECORD: units.record()}


def _fields(shape: Any, task: Any) -> Iterator[dict[str, Any]]:
    """The observation's fields by name, with units where the task tells them."""
    told = task.fields() if isinstance(task, TellsFields) else {}
    shapes = shape if isinstance(shape, dict) else {"obs": shape}
    for name, size in shapes.items():
        entries = [dataclasses.asdict(entry) for entry in told.get(name, ())]
        whole = {"name": name, "size": int(np.prod(size)), "unit": "unknown"}
        yield {
            "name": name,
            "shape": [int(n) for n in size],
            "dtype": "float32",
            "entries": entries or [whole],
        }


def _success(folder: RunFolder, config: dict[str, Any]) -> Success | None:
    """What the packaged seed's evaluations at this checkpoint say; None where there are none."""
    source, refiner = config["source"], config["refiner"]
    label = OWN if refiner is None else parts.describe(parts.decode(refiner))
    phase, step = "offline", source["updates"]
    if config["online"]:
        phase, step = "online", source["env_steps"]
    rows = [
        row
        for row in folder.evaluations()
        if (row.seed, row.refiner, row.phase, row.step) == (source["seed"], label, phase, step)
    ]
    if not rows:
        return None
    episodes = sum(row.episodes for row in rows)
    successes = sum(round(row.success * row.episodes) for row in rows)
    return Success(successes, episodes, wilson(successes, episodes))


def _try(folder: Path, actor: JaxActor, *, numpy: bool) -> None:
    """Reads the package back and compares ``CALLS`` calls with the run's own policy."""
    packaged = read_package(folder)
    again = NumpyActor(packaged, 0) if numpy else JaxActor.of_package(packaged, None, 0)
    memories, far = [actor.memory(), again.memory()], 0
    draws = np.random.default_rng(0)
    _, _, blank, _ = actor.inputs()
    for number in range(CALLS):
        obs = jax.tree.map(lambda x: draws.standard_normal(x.shape, np.float32), blank)
        wanted, memories[0] = actor(number, obs, memories[0])
        given, memories[1] = again(number, obs, memories[1])
        far += not np.allclose(wanted, given, rtol=0, atol=AGREE)
    # Where two candidates are worth the same to rounding, either may be chosen.
    if far > CALLS // 8:
        raise InvalidConfig(
            f"{far} of {CALLS} actions of the package are not those of the run's policy to {AGREE}"
        )
