"""``flowpolicy data collect|demonstrate|download|info|check|convert``."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flowpolicy.cli.bar import collecting
from flowpolicy.cli.demonstrate import demonstrate_command
from flowpolicy.cli.options import read_scaling
from flowpolicy.data import check as checking
from flowpolicy.data import download as downloading
from flowpolicy.data import ogbench, own
from flowpolicy.data.collect import collect, collected
from flowpolicy.data.sets import find_set
from flowpolicy.errors import unknown_name

ABOUT = {
    "collect": "data by OGBench's scripted oracles, in OGBench's own format",
    "demonstrate": "RoboMimic's lift and can, or Push-T, by a script of ours",
    "download": "an official data set of OGBench, from its server or a mirror",
    "info": "what a data file holds",
    "check": "whether a data set of yours can be trained on, and what it holds",
    "convert": "write a data set as columns that are mapped, not read, when they are used",
}


def data(arguments: list[str]) -> int:
    """Dispatches."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: flowpolicy data COMMAND ...\n\ncommands (each has --help):")
        for name, text in ABOUT.items():
            print(f"  {name:13}{text}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in ABOUT:
        raise unknown_name("data command", name, ABOUT)
    run = {
        "collect": _collect,
        "demonstrate": demonstrate_command,
        "download": _download,
        "info": _info,
        "check": _check,
        "convert": _convert,
    }[name]
    return run(rest)


@dataclasses.dataclass(frozen=True)
class CollectOptions:
    """Collects data as OGBench's authors did; the same seed gives the same rows, whatever the
    number of workers, on one machine; another processor may round otherwise."""

    environment: Annotated[str, tyro.conf.Positional]
    """cube-single, cube-double, cube-triple, scene, puzzle-3x3, pointmaze-medium, ..., or a data
    set's name, as in cube-single-noisy; visual-cube-single for frames."""
    kind: str = ""
    """play or noisy for the arm, navigate or stitch for point mazes; the first of them if not
    given."""
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
    name = collected(options.environment, options.kind).name
    out = Path(options.out) if options.out else ogbench.default_path(name, options.rows)
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
    with collecting(name, rows) as progress:
        collect(name, rows, out, seed=seed, workers=workers, progress=progress, overwrite=overwrite)


@dataclasses.dataclass(frozen=True)
class DownloadOptions:
    """Fetches a data set of OGBench by its official name. What was interrupted goes on with the
    same command; files that are there stay."""

    dataset: Annotated[str, tyro.conf.Positional]
    """As in cube-double-play, antmaze-large-stitch, visual-scene-play or cube-octuple-play-100m; an
    environment's name means its usual data."""
    kind: str = ""
    """play, noisy, navigate, stitch or explore, where the name says none."""
    out: Annotated[str, tyro.conf.arg(metavar="PATH")] = ""
    """The npz to write, or the folder for a set of many files; in $FLOWPOLICY_DATA or
    ~/.flowpolicy/data if not given."""
    server: Annotated[str, tyro.conf.arg(metavar="URL")] = downloading.SERVER
    """Where to look."""
    sums: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A list of SHA-256 sums to compare with, in the format of sha256sum."""


def _download(arguments: list[str]) -> int:
    options = tyro.cli(DownloadOptions, args=arguments, prog="flowpolicy data download")
    found = find_set(options.dataset, options.kind)
    place = ogbench.default_path(found.name)
    out = Path(options.out) if options.out else place.with_suffix("") if found.shards else place
    sums = downloading.read_sums(Path(options.sums)) if options.sums else None
    console = Console(stderr=True)
    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=30), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def progress(name: str) -> Callable[[int, int], None]:
            bar = bars.add_task(name, total=None)
            return lambda done, size: bars.update(bar, completed=done, total=size)

        files = downloading.download(
            found.name, out, server=options.server, sums=sums, progress=progress
        )
    for path in files:
        print(path)
    return 0


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
        # As they are: what a file calls its arrays is no markup.
        what = (Text(name), str(array.shape), Text(array.dtype))
        table.add_row(*what, f"{low:.3g}", f"{high:.3g}")
    Console().print(table)
    for task, count in info.success_rows.items():
        print(f"{task}: {count:,} rows at the goal")
    if info.record:
        print(f"collected with {info.record.get('versions')}")
    return 0


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Looks for everything that training would refuse, and tells what the data hold. The exit code
    is 0 where they can be trained on, 2 where they cannot."""

    path: Annotated[Path, tyro.conf.Positional]
    """An npz in OGBench's format, a RoboMimic HDF5, the folder of a LeRobotDataset, or one that
    ``data convert`` wrote."""
    actions: Annotated[str, tyro.conf.arg(metavar="PART")] = "as_recorded"
    """How actions become [-1, 1]: as_recorded, action_min_max, 'action_mean_std(deviations=3)'."""
    chunk: int = 0
    """The length of chunks that is meant to be trained with."""
    fields: tuple[str, ...] = ()
    """Observations that are read; all vectors if not given."""
    subset: str = ""
    """A filter key of the file, as in mask/train."""
    page: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write an HTML page with histograms, whose name ends in .html."""


def _check(arguments: list[str]) -> int:
    options = tyro.cli(CheckOptions, args=arguments, prog="flowpolicy data check")
    from flowpolicy.report.data_html import facts, write_data_page  # draws; acting need not
    from flowpolicy.report.document import check_page

    if options.page:  # before anything is examined, which may take long
        check_page(Path(options.page), "page")
    result, told = checking.examine(
        options.path,
        actions=read_scaling(options.actions),
        chunk=options.chunk,
        fields=options.fields,
        subset=options.subset,
    )
    for name, value in {} if told is None else facts(told).items():
        print(f"{name}: {value}")
    for text in result.problems:
        print(f"problem: {text}")
    for text in result.remarks:
        print(f"remark: {text}")
    if options.page:
        print(write_data_page(result, told, Path(options.page)))
    print("sound" if result.sound else "not sound")
    return 0 if result.sound else 2


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """Writes the rows of a data set into a folder of columns, which training maps into memory."""

    path: Annotated[Path, tyro.conf.Positional]
    """As for ``data check``."""
    out: Annotated[Path, tyro.conf.Positional]
    """The folder, which must not be there yet."""
    actions: Annotated[str, tyro.conf.arg(metavar="PART")] = "as_recorded"
    """How actions become [-1, 1]: as_recorded, action_min_max, 'action_mean_std(deviations=3)'."""
    reward_shift: float = 0.0
    """Added to every reward."""
    fields: tuple[str, ...] = ()
    """Observations that are read; all vectors if not given."""
    subset: str = ""
    """A filter key of the file, as in mask/train."""


def _convert(arguments: list[str]) -> int:
    options = tyro.cli(ConvertOptions, args=arguments, prog="flowpolicy data convert")
    print(
        own.convert(
            options.path,
            options.out,
            actions=read_scaling(options.actions),
            reward_shift=options.reward_shift,
            fields=options.fields,
            subset=options.subset,
        )
    )
    return 0
