"""Going on from what was trained before: a flow of a run on disk becomes a flow map for FMQ."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import jax

from flowpolicy.agents import FMQ
from flowpolicy.agents.distilled import Distilled, lagrangian_distillation
from flowpolicy.api import Run, free_folder, versions
from flowpolicy.data.dataset import Dataset
from flowpolicy.deploy.units import RECORD, action_units
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.flows import Term
from flowpolicy.parts import describe, name_of
from flowpolicy.train import attempts
from flowpolicy.train.fits import units_of
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.given import as_phases, check_out
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.phases import Offline, Online, Phase
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.watch import Watch
from flowpolicy.types import Spec


def distil(
    run: Run | str | Path,
    target: FMQ,
    data: Dataset | None = None,
    *,
    phases: Phase | Sequence[Phase] = (Offline(100_000), Online()),
    terms: tuple[Term, ...] = lagrangian_distillation(),
    out: str | Path | None = None,
    watch: Watch | None = None,
    hardware: Hardware | None = None,
) -> Run:
    """Distils the flow of a run's newest checkpoint into a flow map, from which ``target`` goes on.

    run:      a run of an agent with a velocity and critics: qc, fql, ifql, gfp, qam, mvp or
              decision_flow, fmq before its online phase. It is read and left as it is
    target:   FMQ; chunk, discount, ends, critics, their optimiser and tau must be those of the run
    data:     offline rows, their actions in the run's units; those of the run's task where None
    phases:   offline the flow map learns the run's velocity, online FMQ adapts it
    terms:    the distillation loss, one of ``agents.distilled``'s ..._distillation functions
    out:      the new run's folder; a new one under ``runs/`` where None
    hardware: processes and devices, as for ``train``

    Task, seeds, batch and evaluation are the run's, and so is the normaliser, whatever the data.
    Raises ``InvalidConfig`` where run and target do not fit, ``InvalidData`` where the data do not,
    ``MissingData`` or ``CorruptFile`` where the run cannot be read, all before anything is written.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    old = folder.config()
    agent = Distilled(old.agent, target, terms, train_source=False)
    config = dataclasses.replace(old, agent=agent, phases=as_phases(phases))
    _check_phases(config.phases)
    spec = dataclasses.replace(folder.spec(), offline_updates=config.offline_updates)
    name = f"distilled-{folder.record().get('run', 'own run')}"
    where = free_folder(name) if out is None else Path(out)
    check_out(where)
    dataset = config.task.dataset() if data is None else data
    if dataset is not None:
        _check_data(folder, spec, dataset)
    start = _start(folder, agent, config.seeds, spec)
    record = {"run": name, "from": str(folder.path.resolve()), "versions": versions()}
    return attempts.run(
        config, config.task, dataset, where,
        record=record, watch=watch, start=start, hardware=hardware,
    )  # fmt: skip


def _check_phases(phases: tuple[Phase, ...]) -> None:
    """``InvalidConfig`` where FMQ would keep a flow map as its reference that learned nothing."""
    before = itertools.takewhile(lambda phase: isinstance(phase, Offline), phases)
    learns = any(isinstance(phase, Offline) and phase.steps for phase in before)
    if not learns and any(isinstance(phase, Online) for phase in phases):
        raise InvalidConfig(
            "phases must have offline updates before the first online phase, in which the flow map "
            f"learns the run's velocity, as in (offline(steps=100000), online()), got "
            f"{describe(phases)}"
        )


def _check_data(folder: RunFolder, spec: Spec, dataset: Dataset) -> None:
    found, wanted = (dataset.obs_shape, dataset.action_size), (spec.obs, spec.action)
    if found != wanted:
        raise InvalidData(
            f"data must be of the run's (observation shape, action size), {wanted}, got {found}"
        )
    given, recorded = units_of(dataset), action_units(folder.path)
    if given != recorded:
        # The velocity and the critics would be asked about other actions than they learned.
        raise InvalidData(
            f"data's {RECORD} must be those of the run, {recorded}, got {given}; "
            f"fp.action_units({str(folder.path)!r}) has a to_box(...) for recorded actions and a "
            "record() for the data's info"
        )


def _start(folder: RunFolder, agent: Distilled, seeds: tuple[int, ...], spec: Spec) -> Trained:
    """The run's agents, each with a flow map of its own to be trained."""
    trained, meta = folder.load()
    keys = stream_keys(seeds, Stream.INIT)
    old = folder.spec()
    new = jax.eval_shape(jax.vmap(lambda key: agent.source.init(key, old)), keys)
    if meta["online"] and jax.tree.structure(new) != jax.tree.structure(trained.agents):
        raise InvalidConfig(
            f"{folder.path}: {name_of(agent.source)} is another agent once it is online, and this "
            "run is; give a run that ends before its online phase"
        )
    around = jax.jit(jax.vmap(lambda key, source: agent.around(key, source, spec)))
    return Trained(around(keys, trained.agents), trained.normaliser)
