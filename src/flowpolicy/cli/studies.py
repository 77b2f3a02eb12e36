"""``flowpolicy sweep-refiner`` and ``diagnose``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from flowpolicy import parts, studies
from flowpolicy.report.sweep import SweepRow


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Evaluates refiners on a run's newest checkpoint, each on the same episodes."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder; sweep.csv and sweep.json are written into it."""
    refiners: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PART ...")] = ()
    """Which, as in 'best_of_n(n=8)' 'qgbs(beam=2)'; the six of FMQ's page if none is given."""
    episodes: int = 50
    """Episodes per seed."""
    seeds: tuple[int, ...] = ()
    """Which of the run's seeds; all if not given."""
    episode_seed: int | None = None
    """Draw the episodes from this seed; from each agent's own if not given."""


def sweep_refiner(arguments: list[str]) -> int:
    """Prints a line as each refiner is done, then the table."""
    options = tyro.cli(SweepOptions, args=arguments, prog="flowpolicy sweep-refiner")
    rows = studies.sweep_refiner(
        options.run,
        [parts.parse(text) for text in options.refiners] or None,
        episodes=options.episodes,
        seeds=options.seeds or None,
        episode_seed=options.episode_seed,
        told=lambda row: print(f"{row.refiner}: success {row.success:.3f}", flush=True),
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("refiner", overflow="fold")
    for name in ("policy", "critic", "gradients", "depth", "ms p50", "ms p99", "success", "page"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(_short(row.refiner), *_cells(row))
    Console().print(table)
    print(
        f"{rows[0].episodes} episodes a refiner, 95 % intervals; page: IQM over its 12 tasks.\n"
        f"Written: {options.run / 'sweep.csv'}, {options.run / 'sweep.json'}"
    )
    return 0


def _short(refiner: str) -> str:
    """The text up to the number of candidates; the rest stands in the line above and in the CSV."""
    head, *fields = refiner.rstrip(")").split(", ")
    counts = [f for f in fields if f.startswith(("beam=", "branches="))]
    return f"{', '.join([head, *counts])})"


def _cells(row: SweepRow) -> tuple[str, ...]:
    return (
        str(row.policy),
        str(row.critic),
        str(row.gradients),
        str(row.depth),
        f"{row.ms_p50:.2f}",
        f"{row.ms_p99:.2f}",
        f"{row.success:.2f} [{row.low:.2f}, {row.high:.2f}]",
        "" if row.page_iqm is None else f"{row.page_iqm:.2f}",
    )
