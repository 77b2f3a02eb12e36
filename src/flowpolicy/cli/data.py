"""``flowpolicy data collect|info|check``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flowpolicy.data import check as checking
from flowpolicy.data import ogbench
from flowpolicy.data.collect import COLLECTED, collect, environment_of
from flowpolicy.errors import unknown_name

ABOUT = {
    "collect": "play data by OGBench's scripted oracles, in OGBench's own format",
    "info": "what a data file holds",
    "check": "what is wrong with a data file",
}


def data(arguments: list[str]) -> int:
    """Dispatches."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: flowpolicy data COMMAND ...\n\ncommands (each has --help):")
        for name, text in ABOUT.items():
            print(f"  {name:10}{text}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in ABOUT:
        raise unknown_name("data command", name, ABOUT)
    return {"collect": _collect, "info": _info, "check": _check}[name](rest)


@dataclasses.dataclass(frozen=True)
class CollectOptions:
    """Collects play (or navigation) data; the same seed gives the same rows, whatever the number
    of workers, on one machine; another processor may round otherwise."""

    environment: Annotated[str, tyro.conf.Positional]
    """cube-single, cube-double, cube-triple, scene, puzzle-3x3, pointmaze-medium, ..."""
    rows: int = 100_000
    """Transitions, at least; whole episodes are played."""
    seed: int = 0
    """Seed of all episodes."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The npz to write; in $FLOWPOLICY_DATA or ~/.flowpolicy/data if not given."""
    workers: int = 0
    """Processes; one per core if 0."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an existing file."""


def _collect(arguments: list[str]) -> int:
    options = tyro.cli(CollectOptions, args=arguments, prog="flowpolicy data collect")
    name = environment_of(options.environment)
    dataset = f"{name}-{COLLECTED[name]}-v0"
    out = Path(options.out) if options.out else ogbench.default_path(dataset, options.rows)
    collect_with_progress(
        name,
        options.rows,
        out,
        seed=options.seed,
        workers=options.workers or None,
        overwrite=options.overwrite,
    )
    print(out)
    return 0


def collect_with_progress(
    name: str,
    rows: int,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """``data.collect.collect`` with a bar on standard error."""
    console = Console(stderr=True)
    console.print(f"[bold]collecting[/] {rows:,} rows of {name}", highlight=False)
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task(name, total=rows)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        collect(name, rows, out, seed=seed, workers=workers, progress=advance, overwrite=overwrite)


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """Looks at a data file."""

    file: Annotated[Path, tyro.conf.Positional]
    """An npz in OGBench's format."""


def _info(arguments: list[str]) -> int:
    options = tyro.cli(FileOptions, args=arguments, prog="flowpolicy data info")
    info = checking.info(options.file)
    print(f"{info.path}: {info.bytes / 2**20:.1f} MiB")
    print(f"{info.rows:,} rows, {info.transitions:,} transitions, {info.episodes} episodes")
    print(f"environment: {info.environment or 'unknown'}")
    table = Table("array", "shape", "dtype", "lowest", "highest", box=None, pad_edge=False)
    for name, array in info.arrays.items():
        low, high = min(array.low, default=0.0), max(array.high, default=0.0)
        table.add_row(name, str(array.shape), array.dtype, f"{low:.3g}", f"{high:.3g}")
    Console().print(table)
    for task, count in info.success_rows.items():
        print(f"{task}: {count:,} rows at the goal")
    if info.record:
        print(f"collected with {info.record.get('versions')}")
    return 0


def _check(arguments: list[str]) -> int:
    options = tyro.cli(FileOptions, args=arguments, prog="flowpolicy data check")
    result = checking.check(options.file)
    for text in result.problems:
        print(f"problem: {text}")
    for text in result.remarks:
        print(f"remark: {text}")
    print("sound" if result.sound else "not sound")
    return 0 if result.sound else 2
