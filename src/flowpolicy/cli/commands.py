"""``flowpolicy list``, ``evaluate`` and ``report``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from flowpolicy import api, evaluation, parts, runs
from flowpolicy.errors import InvalidConfig, unknown_name
from flowpolicy.refine import Refiner
from flowpolicy.report.show import rollout_of
from flowpolicy.runs.paper import TASKS
from flowpolicy.train.durable import write as write_durably
from flowpolicy.train.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """The named runs."""

    match: Annotated[str, tyro.conf.Positional] = ""
    """Only names that contain this text; one line for each family of runs if not given."""
    parts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """List the parts that options are made of instead: refiners, terms, nets, laws."""


def list_runs(arguments: list[str]) -> int:
    """Prints names and what they are; without a text to match, a line for each family.

    Where no name holds the text, ``UnknownName`` says which are near.
    """
    options = tyro.cli(ListOptions, args=arguments, prog="flowpolicy list")
    console = Console()
    if options.parts:
        rows = [(name, parts.first_line(name)) for name in parts.names()]
    elif options.match:
        rows = [(name, runs.summary(name)) for name in runs.names()]
    else:
        shown = [f for f in runs.families() if not f.name.startswith("mini/")]
        rows = [(f"{f.name}/TASK" if f.tasks else f.name, f.summary) for f in shown]
    found = [row for row in rows if options.match in row[0]]
    if not found:
        pieces = {piece for name, _ in rows for piece in (name, *name.split("/"))}
        raise unknown_name("part" if options.parts else "run", options.match, pieces)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in found:
        table.add_row(*row)
    console.print(table)
    if not options.parts and not options.match:
        console.print(
            f"\n{_tasks()}\n"
            "mini/ before a name with a TASK of the first sentence is the same method at a size "
            "that two cores train in minutes.\n"
            "flowpolicy list TEXT shows the names that contain TEXT.",
            highlight=False,
        )
    return 0


def _tasks() -> str:
    """What TASK may be: a sentence for every method, and one for those that have more."""
    more: dict[str, list[str]] = {}
    for family in runs.families():
        own = _ranges([task for task in family.tasks if task not in TASKS])
        more.setdefault(own, []).append(family.name)
    lines = [f"{', '.join(names)}: also {own}." for own, names in more.items() if own]
    return "\n".join([f"TASK is one of {_ranges(TASKS)}.", *lines])


def _ranges(tasks: Sequence[str]) -> str:
    """``cube-single-task1`` to ``-task5`` as ``cube-single-task1...5``; names without a number as
    they are."""
    numbers: dict[str, list[str]] = {}
    for task in tasks:
        head, numbered, number = task.rpartition("-task")
        numbers.setdefault(head if numbered else task, []).extend([number] * bool(numbered))
    return ", ".join(f"{head}-task{n[0]}...{n[-1]}" if n else head for head, n in numbers.items())


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Plays episodes with the policy of a run's newest checkpoint."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    refiner: Annotated[str, tyro.conf.arg(metavar="PART")] = ""
    """Acts in the place of the agent's own: one_step, 'best_of_n(n=8)', 'qgbs(beam=4)'."""
    episodes: int = 50
    """Episodes per seed."""
    seeds: tuple[int, ...] = ()
    """Which of the run's seeds; all if not given."""
    episode_seed: int | None = None
    """Draw the episodes from this seed; from each agent's own if not given."""
    best: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play the state whose evaluation within the run was the best, and not the newest."""
    write: bool = True
    """Add what was played to the run's evaluations.csv and costs.csv; --no-write for a run whose
    folder others share, or that cannot be written."""
    video: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write rollout.webp into the run's folder, an episode of the first of the seeds that were
    played, where this machine can draw."""


def evaluate(arguments: list[str]) -> int:
    """Prints success with its interval, and what an action costs."""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="flowpolicy evaluate")
    refiner = parts.parse(options.refiner) if options.refiner else None
    if options.video and not options.write:
        raise InvalidConfig("video is written into the run's folder, which --no-write forbids")
    result = evaluation.evaluate(
        options.run,
        refiner,
        episodes=options.episodes,
        seeds=options.seeds or None,
        episode_seed=options.episode_seed,
        write=options.write,
        best=options.best,
    )
    for row in result.rows:
        score = "" if row.score is None else f", normalised {row.score:.1f}"
        print(
            f"seed {row.seed}: success {row.success:.2f} over {row.episodes} episodes, "
            f"return {row.returns:.1f}{score}, length {row.length:.0f}"
        )
    low, high = result.interval
    print(f"success {result.success:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    print(
        f"{result.nfe} flow evaluations a chunk; {result.ms_p50:.2f} ms a chunk (p50), "
        f"{result.ms_p99:.2f} ms (p99)"
    )
    return _video(options, refiner, result.rows[0].seed) if options.video else 0


def _video(options: EvaluateOptions, refiner: Refiner | None, seed: int) -> int:
    from flowpolicy.report.scenes import animation  # draws; the other commands need not

    folder, file = RunFolder(options.run), options.run / "rollout.webp"
    index = folder.config().seeds.index(seed)
    rollout = rollout_of(folder, refiner, index, best=options.best)
    if not rollout.frames:
        print("no video: this machine cannot draw (see MUJOCO_GL in the README)")
        return 0
    write_durably(file, animation(rollout.frames))
    print(f"{rollout.sentence} It is in {file}")
    return 0


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Writes a run's report.html, or a page that compares several runs: one file, images inside."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs. Of one: its own report, in its folder. Of several: a comparison, with its
    tables as CSV files in a folder beside it."""
    out: Path | None = None
    """Where to write it; report.html in the run's folder, or comparison.html, if not given."""
    episodes: bool = True
    """Play episodes and show them: of several runs a success and a failure of every method."""


def report(arguments: list[str]) -> int:
    """Writes the report, or the comparison and its table, and says where it is."""
    options = tyro.cli(ReportOptions, args=arguments, prog="flowpolicy report")
    if len(options.runs) > 1:
        print(api.compare(options.runs))
    print(api.report(*options.runs, out=options.out, episodes=options.episodes))
    return 0
