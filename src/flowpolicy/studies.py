"""Studies of a trained run: its refiners side by side, and whether the closed form holds."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy import parts
from flowpolicy.agents.base import Agent
from flowpolicy.api import Run
from flowpolicy.data.chunk import View
from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.evaluation import Result, evaluate
from flowpolicy.flows import FlowMap
from flowpolicy.refine import (
    QGBS,
    BestOfN,
    OneStep,
    QGBSKeepBest,
    Refiner,
    TrustRegion,
    TrustRegionBox,
)
from flowpolicy.report import diagnosis
from flowpolicy.report.findings import Acting, Diagnosis
from flowpolicy.report.recording import Episode, RecordedTask
from flowpolicy.report.sweep import SweepRow, page_iqm, page_refiners, write_sweep
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.given import check_refiner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.place import try_new
from flowpolicy.train.task import RowsOnly, Task
from flowpolicy.types import Key, Rows, Transition

ETAS = (0.03, 0.1, 0.3, 0.5, 0.8, 1.0)
REFINERS: tuple[Refiner, ...] = (
    BestOfN(32), OneStep(), TrustRegion(), TrustRegionBox(), QGBS(), QGBSKeepBest(),
)  # fmt: skip
PUSHED = 400
"""Chunks of each law that is compared with the data's."""


def sweep_refiner(
    run: Run | str | Path,
    refiners: Sequence[Refiner] | None = None,
    *,
    episodes: int = 50,
    seeds: Sequence[int] | None = None,
    episode_seed: int | None = None,
    task: Task | None = None,
    write: bool = True,
    told: Callable[[SweepRow], None] | None = None,
) -> tuple[SweepRow, ...]:
    """Evaluates refiners on a run's newest checkpoint, each on the same episodes.

    refiners: the six settings of FMQ's page where None
    episodes, seeds, episode_seed, task: as in ``evaluate``; episodes are counted per seed
    write:    whether ``sweep.csv`` and ``sweep.json`` are written into the run's folder, anew after
              every refiner; never of another task than the run's own
    told:     is given each row as it comes

    Raises what ``evaluate`` raises, before anything is played where it can be known.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    chosen = page_refiners() if refiners is None else tuple(refiners)
    _check_refiners(chosen)
    if write and task is None:
        try_new(folder.path / "sweep.csv")
    rows: list[SweepRow] = []
    for refiner in chosen:
        result = evaluate(
            folder, refiner, episodes=episodes, seeds=seeds, episode_seed=episode_seed, task=task,
            write=False,
        )  # fmt: skip
        rows.append(_row(refiner, result))
        if write and task is None:
            write_sweep(folder.path, rows, _protocol(result, episodes, episode_seed))
        if told is not None:
            told(rows[-1])
    return tuple(rows)


def _row(refiner: Refiner, result: Result) -> SweepRow:
    cost = result.cost
    return SweepRow(
        refiner=parts.describe(refiner),
        policy=cost.policy,
        critic=cost.critic,
        gradients=cost.gradients,
        depth=cost.depth,
        ms_p50=result.ms_p50,
        ms_p99=result.ms_p99,
        episodes=sum(row.episodes for row in result.rows),
        success=result.success,
        low=result.interval.low,
        high=result.interval.high,
        page_iqm=page_iqm(refiner),
    )


def _protocol(result: Result, episodes: int, episode_seed: int | None) -> dict[str, Any]:
    first = result.rows[0]
    return {
        "phase": first.phase,
        "step": first.step,
        "seeds": [row.seed for row in result.rows],
        "episodes_per_seed": episodes,
        "episode_seed": episode_seed,
        "interval": "95 %: the wider of a bootstrap over seeds and Wilson's of all episodes",
        "page_iqm": "interquartile mean over the page's 12 tasks and 5 seeds, full training",
    }


def diagnose(
    run: Run | str | Path,
    refiners: Sequence[Refiner] = REFINERS,
    *,
    etas: Sequence[float] = ETAS,
    states: int = 64,
    episodes: int = 20,
    seed: int | None = None,
    data: Dataset | None = None,
    task: Task | None = None,
    write: bool = True,
) -> Diagnosis:
    """Is the closed form what it says? On the critic and the map of a run's newest checkpoint.

    refiners: whose Q, success and excess of Q over returns are told; the first is what the others
              are compared with
    etas:     radii of the trust region, each above 0
    states:   drawn from the offline rows; with them the actions that the map is compared with
    episodes: played with every refiner, the same ones; 0 for none
    seed:     which of the run's seeds; its first where None
    data:     offline rows; those of the run's task where None
    task:     where to play; the run's own where None
    write:    whether ``diagnose.html`` and ``diagnose.json`` are written into the run's folder

    Raises ``InvalidConfig`` for an agent without a flow or a critic, naming those that have both,
    and ``MissingData`` where there are no rows. What the task or the flow does not allow is left
    out, and ``absent`` says why.
    """
    _check(refiners, etas, states, episodes)
    subject = _subject(run, seed, data, write=write)
    flow, value = subject.agent.flow(), subject.agent.value
    task = subject.task if task is None else task
    key_rows, *keys = jax.random.split(jax.random.key(subject.what["seed"]), 5)
    some, rest = subject.draw(key_rows, states)
    jax.eval_shape(jax.vmap(value), some.obs, some.action)  # an agent without a critic
    acting, absent = diagnosis.compare(keys[0], flow, value, some, refiners), {}
    if episodes and task.playable:
        acting = tuple(_played(subject, row, task, episodes) for row in acting)
    else:
        why = "has no environment" if episodes else "was not to be played"
        absent["episodes"] = f"the task {task.name!r} {why}"
    ends = None
    if isinstance(flow, FlowMap):
        ends = diagnosis.end_points(keys[1], flow, value, some)
    else:
        absent["end_points"] = f"{type(flow).__name__} is no flow map and has no second way to 1"
    found = Diagnosis(
        what={**subject.what, "states": some.reward.shape[0], "episodes": episodes},
        radii=diagnosis.radii(keys[2], flow, value, some, etas),
        end_points=ends,
        agreement=diagnosis.agreement(keys[3], flow, rest),
        acting=acting,
        absent=absent,
    )
    if write:
        from flowpolicy.report.diagnosis_html import write_diagnosis  # draws

        write_diagnosis(subject.folder.path, found)
    return found


@dataclasses.dataclass(frozen=True)
class _Subject:
    """One agent of a run, its rows, and what they are."""

    folder: RunFolder
    task: Task
    agent: Agent
    normaliser: Normaliser
    view: View
    rows: Rows
    what: dict[str, Any]

    def draw(self, key: Key, states: int) -> tuple[Transition, Transition]:
        """Chunks that give ``states``, and others for the comparison of laws."""
        wanted = states + PUSHED * (len(diagnosis.PUSHED_FROM) + 1)
        found = diagnosis.draw_chunks(key, self.rows, self.view, self.normaliser, wanted)
        cut = min(states, found.reward.shape[0] // 2)
        return jax.tree.map(lambda x: x[:cut], found), jax.tree.map(lambda x: x[cut:], found)


def _subject(
    run: Run | str | Path, seed: int | None, data: Dataset | None, *, write: bool
) -> _Subject:
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    if write:
        try_new(folder.path / "diagnose.json")
    config = folder.config()
    seed = config.seeds[0] if seed is None else seed
    if seed not in config.seeds:
        raise InvalidConfig(f"seed must be one of the run's, {config.seeds}, got {seed}")
    task = config.task or RowsOnly()
    dataset = task.dataset() if data is None else data
    if dataset is None:
        raise MissingData(f"the task {task.name!r} gives no rows; give diagnose(data=...)")
    trained, meta = folder.load()
    place, view = config.seeds.index(seed), config.agent.view
    agent = jax.tree.map(lambda x: x[place], trained.agents)
    what = {
        "run": str(folder.record().get("run", folder.path.name)),
        "task": task.name,
        "agent": parts.name_of(config.agent),
        "seed": seed,
        "phase": "online" if meta["online"] else "offline",
        "updates": meta["updates"],
        "rows": dataset.rows.reward.shape[0],
        "chunk": view.chunk,
        "discount": view.discount,
    }
    return _Subject(folder, task, agent, trained.normaliser, view, dataset.rows, what)


def _played(subject: _Subject, row: Acting, task: Task, episodes: int) -> Acting:
    """The row with what the refiner earned, and with Q less the returns."""
    record: list[Episode] = []
    result = evaluate(
        subject.folder,
        parts.parse(row.refiner),
        episodes=episodes,
        seeds=[subject.what["seed"]],
        task=RecordedTask(task, record),
        write=False,
    )
    known = np.concatenate([np.asarray(subject.rows.reward), *(e.rewards for e in record)])
    over = diagnosis.excess(
        subject.agent.value,
        subject.agent.flow().action,
        subject.normaliser,
        record,
        subject.view.discount,
        (float(known.min()), float(known.max())),
    )
    low, high = result.interval
    return dataclasses.replace(row, success=result.success, low=low, high=high, **over)


def _check(refiners: Sequence[Refiner], etas: Sequence[float], states: int, episodes: int) -> None:
    _check_refiners(refiners)
    if not etas or not all(0 < eta < math.inf for eta in etas):
        raise InvalidConfig(f"etas must be above 0 and finite, and at least one, got {tuple(etas)}")
    if states < 2 or episodes < 0:
        raise InvalidConfig(f"need states >= 2 and episodes >= 0, got {states} and {episodes}")


def _check_refiners(refiners: Sequence[Refiner]) -> None:
    for refiner in refiners:
        check_refiner(refiner)
    if not refiners or len(set(refiners)) != len(refiners):
        raise InvalidConfig(f"refiners must be at least one, and each once, got {tuple(refiners)}")
