"""What makes runs unlike each other, or unlike the paper's: told, never mixed silently."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flowpolicy.report import page
from flowpolicy.report.methods import Cell, flattened, in_words, shown, task_of, what_matters
from flowpolicy.report.runfiles import RunFiles
from flowpolicy.train.phases import RunConfig

Settings = Mapping[str, Any]
Things = Mapping[str, Callable[[RunFiles], str]]
"""What is compared, by name, and how it reads in a run."""
# Lines of their own say what the data and the timing are.
_TOLD_OTHERWISE = {"task.rows", "task.file", "task.timing"}
# The method; the task and the seeds, which are compared on their own; what trains nothing.
_NO_CONDITION = {"agent", "task", "seeds", "block", "checkpoint_every", "keep", "keep_best"}
_CONDITIONS = tuple(f.name for f in dataclasses.fields(RunConfig) if f.name not in _NO_CONDITION)


class Departure(NamedTuple):
    """One thing in which runs of a method differ from the paper."""

    method: str
    what: str
    here: str
    paper: str


def differences(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Sentences, one a thing that is not the same in all runs and is no part of the method.

    Things of all runs: reward timing, versions, device, commit, and every setting of a run outside
    its agent, as budget, batch, draw, precision and evaluation. Of the runs on one task: their
    rows, every other field of the task, as its reward scheme, and the seeds of methods.
    """
    runs = tuple({run.path: run for cell in cells for run in cell.runs}.values())
    notes = _told(runs, _shared_things(runs))
    for task in sorted({cell.task for cell in cells}):
        own = [run for run in runs if task_of(run) == task]
        notes += _told(own, _things_of_a_task(own), f" on {task}")
    return (*notes, *_other_seeds(cells))


def _told(runs: Sequence[RunFiles], things: Things, where: str = "") -> list[str]:
    notes = []
    for what, get in things.items():
        groups: dict[str, list[str]] = {}
        for run in runs:
            groups.setdefault(get(run), []).append(str(run.path))
        if len(groups) > 1:
            told = "; ".join(f"{value} in {', '.join(paths)}" for value, paths in groups.items())
            notes.append(f"{what}{where}: {told}")
    return notes


def _other_seeds(cells: Sequence[Cell]) -> list[str]:
    notes = []
    for task in sorted({cell.task for cell in cells}):
        groups: dict[str, list[str]] = {}
        for cell in (c for c in cells if c.task == task):
            groups.setdefault(", ".join(map(str, sorted(cell.origin))), []).append(cell.method)
        if len(groups) > 1:
            told = "; ".join(f"{seeds} of {', '.join(who)}" for seeds, who in groups.items())
            notes.append(f"seeds on {task}: {told}")
    return notes


def departures(
    cells: Sequence[Cell], papers: Mapping[tuple[str, str], Settings]
) -> tuple[Departure, ...]:
    """In what each method differs from the paper: its settings, versions, timing, seeds, data.

    ``papers`` holds the settings of the named run at the paper's size by (base, task).
    """
    rows: dict[Departure, None] = {}
    for cell in cells:
        settings = papers.get((cell.base, cell.task))
        if settings is None:
            unknown = "no named run at the paper's size, or the paper has no such task"
            rows[Departure(cell.method, "settings", "", unknown)] = None
        for run in cell.runs:
            if settings is not None:
                rows.update(dict.fromkeys(_settings(cell.method, run, settings)))
            rows.update(dict.fromkeys(_protocol(cell.method, run)))
        if len(cell.origin) != page.SEEDS:
            seeds = Departure(cell.method, "seeds", str(len(cell.origin)), str(page.SEEDS))
            rows[seeds] = None
    return tuple(sorted(rows))


def _shared_things(runs: Sequence[RunFiles]) -> Things:
    versions = sorted({name for run in runs for name in _versions(run)})
    things: dict[str, Callable[[RunFiles], str]] = {"success and reward timing": timing_of}
    for name in versions:
        things[name] = lambda run, name=name: str(_versions(run).get(name, "not recorded"))
    things["commit"] = lambda run: str(run.config.get("commit") or "not recorded")[:12]
    for field in _CONDITIONS:
        things[field] = lambda run, field=field: _field(run, field)
    return things


def _things_of_a_task(runs: Sequence[RunFiles]) -> Things:
    names = dict.fromkeys(name for run in runs for name in _task_fields(run))
    return {
        "data": _data,
        **{
            name: lambda run, name=name: shown(_task_fields(run).get(name, "absent"))
            for name in names
        },
    }


def _task_fields(run: RunFiles) -> dict[str, Any]:
    """The fields of the task beside its name and what has a line of its own."""
    fields = flattened(run.settings.get("task"), "task")
    return {k: v for k, v in fields if k != "task.task" and k not in _TOLD_OTHERWISE}


def _settings(method: str, run: RunFiles, paper: Settings) -> list[Departure]:
    other = RunFiles(run.path, {"config": paper}, (), (), {})
    here, there = what_matters(run), what_matters(other)
    names = [n for n in dict.fromkeys([*here, *there]) if n not in _TOLD_OTHERWISE]
    return [
        Departure(method, name, shown(here.get(name, "absent")), shown(there.get(name, "absent")))
        for name in names
        if here.get(name) != there.get(name)
    ]


def _protocol(method: str, run: RunFiles) -> list[Departure]:
    rows = []
    versions = _versions(run)
    for name, theirs in page.VERSIONS.items():
        ours = versions.get(name, "not recorded")
        if ours != theirs:
            rows.append(Departure(method, f"version of {name}", str(ours), theirs))
    timing = timing_of(run)
    if timing != page.TIMING:
        rows.append(Departure(method, "success and reward timing", timing, page.TIMING))
    collected = _record(run.config.get("data")).get("collected")
    if collected:
        arguments = _record(_record(collected).get("arguments"))
        ours = f"collected here, {arguments.get('rows', 'an unknown number of')} rows"
        rows.append(Departure(method, "data", ours, "the published data set"))
    episodes = {e.episodes for e in run.evaluations[-1:]}
    for count in episodes - {page.EPISODES}:
        rows.append(Departure(method, "episodes of an evaluation", str(count), str(page.EPISODES)))
    return rows


def timing_of(run: RunFiles) -> str:
    """When a run is told of rewards and success: ``pre`` or ``post`` the action, or ``mixed``."""
    task, data = _record(run.settings.get("task")), _record(run.config.get("data"))
    return str(task.get("timing") or data.get("reward_timing") or "not recorded")


def _data(run: RunFiles) -> str:
    data = _record(run.config.get("data"))
    name = data.get("file") or data.get("source") or "not recorded"
    for of, field in (("rows", "rows_sha256"), ("file", "sha256")):
        digest = data.get(field)
        if isinstance(digest, str):
            return f"{name} (SHA-256 of its {of} {digest[:12]})"
    return str(name)


def _versions(run: RunFiles) -> Mapping[str, Any]:
    return _record(run.config.get("versions"))


def _field(run: RunFiles, field: str) -> str:
    return in_words(run.settings.get(field, "not recorded"))


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
