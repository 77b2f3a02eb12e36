"""``flowpolicy sweep-refiner`` and ``diagnose``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from flowpolicy import parts, studies
from flowpolicy.report.findings import Diagnosis, Estimate
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


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions:
    """Is the closed form what it says? On the critic and the map of a run's newest checkpoint."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder; diagnose.html and diagnose.json are written into it."""
    refiners: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PART ...")] = ()
    """Whose Q and success are told; six if none is given. The first is the others' measure."""
    etas: tuple[float, ...] = studies.ETAS
    """Radii of the trust region."""
    states: int = 64
    """States, drawn from the offline rows."""
    episodes: int = 20
    """Episodes played with each refiner; 0 for none."""
    seed: int | None = None
    """Which of the run's seeds; its first if not given."""


def diagnose(arguments: list[str]) -> int:
    """Prints a summary and says where the page is."""
    options = tyro.cli(DiagnoseOptions, args=arguments, prog="flowpolicy diagnose")
    found = studies.diagnose(
        options.run,
        [parts.parse(text) for text in options.refiners] or studies.REFINERS,
        etas=options.etas,
        states=options.states,
        episodes=options.episodes,
        seed=options.seed,
    )
    _print_radii(found)
    _print_map(found)
    _print_refiners(found)
    for name, why in found.absent.items():
        print(f"left out: {name}: {why}")
    print(f"Written: {options.run / 'diagnose.html'}, {options.run / 'diagnose.json'}")
    return 0


def _print_radii(found: Diagnosis) -> None:
    names = ("predicted", "theorem", "ball", "clipped", "box", "ball_in_box")
    table = _table("mean change of Q (errors are on the page)", "eta", *names)
    for row in found.radii:
        table.add_row(f"{row.eta:g}", *(f"{getattr(row, name).mean:.3g}" for name in names))
    Console().print(table)


def _print_map(found: Diagnosis) -> None:
    if found.end_points is not None:
        ends = found.end_points
        print(
            f"one jump ends {_pm(ends.apart)} from the integrated flow (two samples are "
            f"{_pm(ends.spread)} apart); its Q is {_pm(ends.q)} more"
        )
    if found.agreement is not None:
        laws = found.agreement
        away = ", ".join(f"r = {p.r:g}: {p.to_data:.3g}" for p in laws.pushed)
        print(f"energy distance to the data (noise +- {2 * laws.noise.std:.2g}): {away}")


def _print_refiners(found: Diagnosis) -> None:
    table = _table("refiners", "refiner", "Q", "over the first", "success", "Q less return")
    for row in found.acting:
        success = "" if row.success is None else f"{row.success:.2f}"
        over = "" if row.excess_low is None else f"{row.excess_low:.3g} to {row.excess_high:.3g}"
        table.add_row(_short(row.refiner), _pm(row.q), _pm(row.q_over_first), success, over)
    Console().print(table)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _pm(value: Estimate) -> str:
    return f"{value.mean:.3g} +- {value.error:.1g}"


def _short(refiner: str) -> str:
    """``qgbs K=1 M=4 B=4``, with spaces to wrap at; the whole text stands above and in the CSV."""
    head, _, fields = refiner.rstrip(")").partition("(")
    values = dict(field.split("=") for field in fields.split(", ") if field.count("=") == 1)
    letters = {"steps": "K", "beam": "M", "branches": "B", "n": "N", "eta": "eta"}
    return " ".join([head, *(f"{letters[k]}={v}" for k, v in values.items() if k in letters)])


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
