"""One HTML file over several runs, and a folder of CSV files beside it with its numbers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowpolicy.errors import InvalidConfig
from flowpolicy.report import comparison_figures, page, scenes, style
from flowpolicy.report.clock import training_clock
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_tables import LEVELS, modes_table, tables
from flowpolicy.report.confounders import differing
from flowpolicy.report.costs import cost_of
from flowpolicy.report.document import (
    Picture,
    check_page,
    png_picture,
    render,
    svg_picture,
    write_whole,
)
from flowpolicy.report.figures import learning_curve
from flowpolicy.report.gallery import Example
from flowpolicy.report.material import Rollout
from flowpolicy.report.methods import shown
from flowpolicy.report.modes import Modes
from flowpolicy.report.runfiles import RunFiles
from flowpolicy.report.table import Table
from flowpolicy.report.unlike import Settings, differences
from flowpolicy.train import place

_TEMPLATE = "comparison.html.j2"
_STRIP_PIXELS = 900


class Episode(NamedTuple):
    """One recorded episode: what it is, and its picture where there is one."""

    caption: str
    picture: Picture | None


def check_comparison(out: Path) -> None:
    """Whether the page ``out`` and its tables have a place, told before episodes are played.

    ``InvalidConfig`` where ``out`` is no name of a page, or the folder of the tables is that of a
    run, whose ``sweep.csv`` one of them would replace; ``StorageFailed`` where no file can be made.
    """
    check_page(out)
    folder = out.with_suffix("")
    if os.path.lexists(folder / "config.json"):
        raise InvalidConfig(
            f"out {str(out)!r} has its tables in {folder}, which holds a config.json as runs and "
            "packages do; choose another name"
        )
    place.try_new(folder / "success.csv")


def write_comparison(
    comparison: Comparison,
    out: Path,
    *,
    papers: Mapping[tuple[str, str], Settings] | None = None,
    examples: Sequence[Example] = (),
    modes: Sequence[Modes] = (),
) -> Path:
    """Writes the page ``out`` and its tables into the folder of the same name without the ending.

    papers:   settings of the named runs at the paper's size, by (base of the method, task)
    examples: the gallery; empty for none
    modes:    what is known of modes kept; empty where no task states them

    Returns ``out``. Each file is complete or not there. Raises what ``check_comparison`` does.
    """
    check_comparison(out)
    made = {**tables(comparison, papers or {}), "modes": modes_table(modes)}
    folder = out.with_suffix("")
    for name, table in made.items():
        write_whole(folder / f"{name}.csv", table.csv())
    write_whole(out, render_comparison(comparison, made, folder.name, examples))
    return out


def render_comparison(
    comparison: Comparison, made: Mapping[str, Table], folder: str, examples: Sequence[Example]
) -> str:
    """The page's HTML. It runs no script and refers to nothing outside itself."""
    return render(
        _TEMPLATE,
        tables=made,
        folder=folder,
        methods=comparison.methods,
        tasks=comparison.tasks,
        runs=[_run(run) for run in comparison.runs],
        differences=differences(comparison.cells),
        differing=differing(made["confounders"]),
        missing=_missing(comparison),
        few_seeds=_few_seeds(comparison),
        pictures=_pictures(comparison),
        gallery=[(e, _episodes(e)) for e in examples],
        page_matches=any(row[4] is not None for row in made["page"].rows),
        page_tasks=len({task for task, _ in page.table()}),
    )


def _run(run: Any) -> dict[str, str]:
    command = run.config.get("command")
    return {
        "path": str(run.path),
        "name": shown(run.config.get("run") or "not recorded"),
        "commit": str(run.config.get("commit") or "not recorded")[:12],
        "command": command if isinstance(command, str) else "not recorded",
    }


def _missing(comparison: Comparison) -> list[str]:
    notes = list(comparison.missing())
    where: dict[str, list[str]] = {}
    for run in comparison.runs:
        for lack in _lacking(run):
            where.setdefault(lack, []).append(str(run.path))
    notes += [f"{lack}: {', '.join(paths)}" for lack, paths in where.items()]
    for cell in comparison.cells:
        if cost_of(cell).nfe is None:
            how = "`flowpolicy evaluate RUN` measures it"
            notes.append(f"{cell.method} on {cell.task}: cost of acting not measured; {how}")
    return notes


def _lacking(run: RunFiles) -> list[str]:
    lacks = [f"no {name}" for name in run.absent]
    lacks += [f"the last line of {name} is cut off" for name in run.cut_off]
    if training_clock(run) is None:
        lacks.append("no seconds of training, as metrics.jsonl has no clock")
    return lacks


def _few_seeds(comparison: Comparison) -> str | None:
    fewest = min((len(row.seeds) for row in comparison.table()), default=None)
    return None if fewest is None or fewest >= page.SEEDS else str(fewest)


def _pictures(comparison: Comparison) -> dict[str, Any]:
    looks = comparison_figures.looks_of(comparison.methods)
    rows, totals = comparison.table(), comparison.aggregate()
    found: dict[str, Any] = {"curves": {}, "success": None, "overall": None, "profile": None}
    for task in comparison.tasks:
        # A method without a run on this task keeps its colour on the others.
        curves = comparison.curves(task)
        figure = learning_curve({m: curves.get(m, ()) for m in comparison.methods})
        words = f"Success against training step on {task}"
        found["curves"][task] = svg_picture(style.svg(figure), words)
    if rows:
        figure = comparison_figures.bars(rows, looks)
        found["success"] = svg_picture(style.svg(figure), "Success of every method")
    if totals:
        figure = comparison_figures.overall(totals, looks)
        found["overall"] = svg_picture(style.svg(figure), "Success over all tasks")
        figure = comparison_figures.profiles(LEVELS, comparison.profile(LEVELS), looks)
        found["profile"] = svg_picture(style.svg(figure), "Performance profiles")
    costs = [(r, cost_of(cell)) for r in rows if (cell := comparison.cell(r.method, r.task))]
    figure = comparison_figures.success_against_cost(costs, looks)
    found["cost"] = None if figure is None else svg_picture(style.svg(figure), "Success and cost")
    return found


def _episodes(example: Example) -> list[Episode]:
    if example.absent:
        return [Episode(example.absent, None)]
    pairs = (("solved", example.success), ("not solved", example.failure))
    return [_episode(kind, rollout) for kind, rollout in pairs]


def _episode(kind: str, rollout: Rollout | None) -> Episode:
    if rollout is None:
        return Episode(f"None of the episodes tried was {kind}.", None)
    count = f"{len(rollout.solved)} of {len(rollout.tried)} tried were solved"
    caption = (
        f"{kind.capitalize()}: environment seed {rollout.seed}, {rollout.length} steps, "
        f"return {rollout.reward:.1f} ({count}). {rollout.note}"
    )
    if rollout.frames:
        strip = scenes.frame_strip(rollout.frames, count=7, width=_STRIP_PIXELS)
        return Episode(caption, png_picture(strip, f"An episode, {kind}"))
    if rollout.paths:
        figure = scenes.paths(rollout.paths, success_step=rollout.success_step)
        words = f"The path of an episode, {kind}"
        return Episode(f"{caption} This machine could not draw the scene, so the path is shown.",
                       svg_picture(style.svg(figure), words))  # fmt: skip
    return Episode(f"{caption} This machine could not draw the scene.", None)
