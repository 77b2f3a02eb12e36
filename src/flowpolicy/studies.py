"""Studies of a trained run: its refiners side by side, and whether the closed form holds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowpolicy import parts
from flowpolicy.api import Result, Run, evaluate
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import Refiner
from flowpolicy.report.sweep import SweepRow, page_iqm, page_refiners, write_sweep
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.task import Task


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
              every refiner
    told:     is given each row as it comes

    Raises what ``evaluate`` raises, before anything is played where it can be known.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    chosen = page_refiners() if refiners is None else tuple(refiners)
    if not chosen or len(set(chosen)) != len(chosen):
        raise InvalidConfig(f"refiners must be at least one, and each once, got {chosen}")
    rows: list[SweepRow] = []
    for refiner in chosen:
        result = evaluate(
            folder, refiner, episodes=episodes, seeds=seeds, episode_seed=episode_seed, task=task,
            write=False,
        )  # fmt: skip
        rows.append(_row(refiner, result))
        if write:
            write_sweep(folder.path, rows, _protocol(result, episodes, episode_seed))
        if told is not None:
            told(rows[-1])
    return tuple(rows)


def _row(refiner: Refiner, result: Result) -> SweepRow:
    # What an evaluation counts over what the refiner counts is what one jump takes.
    cost = refiner.cost.integrated(result.nfe // refiner.nfe)
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
