"""Evaluating a run: episodes of its newest checkpoint, told in its tables and returned."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy import parts
from flowpolicy.envs.fleet import Local, Single
from flowpolicy.errors import InvalidConfig, StorageFailed
from flowpolicy.refine import Cost, Refiner
from flowpolicy.report.statistics import Interval, success_interval
from flowpolicy.train import place
from flowpolicy.train.evaluate import Evaluator, own, refined, scored
from flowpolicy.train.folder import OWN, CostRow, EvaluationRow, RunFolder, Trained
from flowpolicy.train.given import check_episodes
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.policy import Policy
from flowpolicy.train.table import Episodes
from flowpolicy.train.task import Task, is_physical


@dataclasses.dataclass(frozen=True)
class Result:
    """An evaluation: how often the task was solved, and what an action cost.

    success:   share of solved episodes over all seeds; interval: its 95 % interval
    rows:      one per seed, over all its episodes, those told of before among them
    cost:      evaluations of nets per chunk; ``nfe`` is those of the flow's net
    ms_p50, ms_p99: milliseconds from one observation to its chunk, over 200 calls
    """

    success: float
    interval: Interval
    rows: tuple[EvaluationRow, ...]
    cost: Cost
    ms_p50: float
    ms_p99: float

    @property
    def nfe(self) -> int:
        """Evaluations of the flow's net per chunk."""
        return self.cost.policy


def evaluate(
    run: RunFolder | str | Path,
    refiner: Refiner | None = None,
    *,
    episodes: int = 50,
    seeds: Sequence[int] | None = None,
    episode_seed: int | None = None,
    task: Task | None = None,
    write: bool = True,
    best: bool = False,
) -> Result:
    """Plays ``episodes`` episodes with seeds of a run's newest checkpoint.

    seeds:   which of the run's seeds; all where None
    episode_seed: what the episodes are drawn from; each agent's own seed where None
    refiner: acts in the place of the agent's own (``fp.qgbs(beam=4)``, ``fp.best_of_n(n=8)``)
    task:    where to play; the run's own where None. What was played elsewhere is not written,
             unless the run has no environment of its own: its tables are of one task
    write:   whether a line per seed is added to ``evaluations.csv``, and one to ``costs.csv``
    best:    the state whose evaluation within the run was the best, and not the newest; its lines
             are of its own step

    Episodes are the same for every refiner: a function of (seed, index). Where the table tells of
    m episodes of this checkpoint and refiner already, they are taken to be the first m, and the
    line is of the others. Of those drawn from ``episode_seed``, which no line tells, a line is
    added that differs in more than its seconds from each there is.

    ``StorageFailed``, before anything is played, where lines are to be added and cannot be.
    """
    check_episodes(episodes, episode_seed)
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    config = folder.config()
    chosen = _chosen(seeds, config.seeds)
    # Before anything is played: an agent without what the refiner needs is told of here.
    policy = Policy.load(folder.path, refiner=refiner, best=best)
    loaded, where = folder.load(best=best), task or config.task
    write = write and (where == config.task or not config.task.playable)
    if write:
        _try_tables(folder)
    played = _play(loaded, config, refiner, where, episodes, chosen, episode_seed)
    rows = [one.row() for one in played]
    if write:
        _tell(folder, played, drawn=episode_seed is not None)
    milliseconds = 1e3 * policy.latencies(200)
    cost = policy.agent.cost(refiner or config.agent.act)
    p50, p99 = (float(np.percentile(milliseconds, share)) for share in (50, 99))
    if write:
        label, device = rows[0].refiner, jax.devices()[0].device_kind
        times = round(p50, 4), round(p99, 4), len(milliseconds)
        folder.append_cost(CostRow(label, cost.policy, *times, device))
    counts = np.asarray([round(row.success * row.episodes) for row in rows])
    return Result(
        success=float(np.mean([row.success for row in rows])),
        interval=success_interval(counts, np.full(len(rows), episodes), np.random.default_rng(0)),
        rows=tuple(rows),
        cost=cost,
        ms_p50=p50,
        ms_p99=p99,
    )


@dataclasses.dataclass(frozen=True)
class _Played:
    """Episodes of one seed, and what they tell of."""

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: Episodes
    task: Task

    def row(self, first: int = 0) -> EvaluationRow:
        """The line of those from number ``first`` on, with their share of the seconds."""
        every = self.episodes
        share = 1 - first / len(every.success)
        some = dataclasses.replace(
            every, success=every.success[first:], returns=every.returns[first:],
            lengths=every.lengths[first:], seconds=share * every.seconds,
        )  # fmt: skip
        return scored(some.row(self.seed, self.phase, self.step, self.refiner), self.task)

    def _same(self, told: Sequence[EvaluationRow]) -> list[EvaluationRow]:
        mine = self.seed, self.phase, self.step, self.refiner
        return [row for row in told if (row.seed, row.phase, row.step, row.refiner) == mine]

    def untold(self, told: Sequence[EvaluationRow]) -> EvaluationRow | None:
        """The line of those beyond as many as ``told`` has; None where it has them all."""
        first = sum(row.episodes for row in self._same(told))
        return self.row(first) if first < len(self.episodes.success) else None

    def unlike(self, told: Sequence[EvaluationRow]) -> EvaluationRow | None:
        """The line of all; None where ``told`` has one that differs in its seconds at most."""
        row = self.row()
        alike = [dataclasses.replace(other, seconds=row.seconds) for other in self._same(told)]
        return None if row in alike else row


def _play(
    loaded: tuple[Trained, dict[str, Any]],
    config: RunConfig,
    refiner: Refiner | None,
    task: Task,
    episodes: int,
    seeds: tuple[int, ...],
    episode_seed: int | None,
) -> list[_Played]:
    """One per seed, of what was loaded of the run."""
    trained, meta = loaded
    kind = "online" if meta["online"] else "offline"
    step = min(meta["env_steps"]) if meta["online"] else meta["updates"]
    label = OWN if refiner is None else parts.describe(refiner)
    if is_physical(task) and len(seeds) > 1:
        raise InvalidConfig(f"{task.name} is a robot: choose one of the seeds {seeds}")
    fleet = Single(task.env) if is_physical(task) else Local(task.env)
    try:
        choose = own if refiner is None else refined(refiner)
        size = max(min(config.evaluation.side_by_side, episodes), len(seeds))
        numbers = range(size if fleet.repeats else 1)
        evaluator = Evaluator(choose, trained.normaliser, fleet, numbers)
        which = np.asarray([config.seeds.index(seed) for seed in seeds])
        agents = jax.tree.map(lambda x: x[which], trained.agents)
        starts = seeds if episode_seed is None else (episode_seed,) * len(seeds)
        played = evaluator(agents, starts, episodes, config.agent.view.chunk)
        return [
            _Played(seed, kind, step, label, own_ones, task)
            for seed, own_ones in zip(seeds, played, strict=True)
        ]
    finally:
        fleet.close()


def _tell(folder: RunFolder, played: Sequence[_Played], *, drawn: bool) -> None:
    """Adds the lines that the table has not; ``drawn`` where a seed of its own drew the episodes,
    which no line tells."""
    told = folder.evaluations()
    for one in played:
        row = one.unlike(told) if drawn else one.untold(told)
        if row is not None:
            folder.append_evaluation(row)


def _try_tables(folder: RunFolder) -> None:
    """Before anything is played: the numbers of a table that takes no line would be lost."""
    try:
        for name in ("evaluations.csv", "costs.csv"):
            place.try_end(folder.path / name)
    except StorageFailed as error:
        raise StorageFailed(
            f"{error}; with write=False (--no-write) the run is played and its tables stay"
        ) from error


def _chosen(seeds: Sequence[int] | None, known: tuple[int, ...]) -> tuple[int, ...]:
    for seed in seeds or ():
        if seed not in known:
            raise InvalidConfig(f"seeds must be among the run's, {known}, got {seed}")
    if seeds and len(set(seeds)) != len(seeds):
        raise InvalidConfig(f"seeds must be distinct, got {tuple(seeds)}")
    return tuple(seeds) if seeds else known
