"""Which method on which task a run is, so that runs can be compared: names, and nothing else.

A method is the name of the run without its task (``mini/fmq`` of ``mini/fmq/cube-single-task1``)
and, where a refiner acted in the place of the agent's own, that refiner (``mini/fmq + QGBS``).
Runs of one name whose settings differ on one task are different methods, named by what differs.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowpolicy.errors import InvalidConfig
from flowpolicy.report.runfiles import Evaluation, RunFiles
from flowpolicy.train.folder import OWN

_SHOWN = {"qgbs": "QGBS"}
# What decides neither the method nor its budget.
_INCIDENTAL = {"seeds", "evaluation", "block", "checkpoint_every", "keep", "keep_best"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """All evaluations of one method on one task.

    method:      its label; ``base`` is the part without the refiner or what tells it apart
    refiner:     as in ``evaluations.csv``
    evaluations: those by ``refiner``, at most one for a seed, phase and step
    origin:      the run that each seed was trained in
    """

    method: str
    base: str
    task: str
    refiner: str
    evaluations: tuple[Evaluation, ...]
    origin: Mapping[int, RunFiles]

    @property
    def runs(self) -> tuple[RunFiles, ...]:
        """The runs it is made of."""
        return tuple({run.path: run for run in self.origin.values()}.values())


def gather(groups: Sequence[Sequence[RunFiles]]) -> tuple[Cell, ...]:
    """The cells of all runs, methods in the order in which they are given.

    Methods of different groups stay apart: where two groups have one label, it gets the group's
    number. Raises ``InvalidConfig`` where a seed of a method on a task is in two runs of a group.
    """
    every = [run for group in groups for run in group]
    labels = dict(zip(map(id, every), _labels(every), strict=True))
    bases = [{labels[id(run)] for run in group} for group in groups]
    cells: list[Cell] = []
    for number, group in enumerate(groups):
        clash = set().union(*(b for i, b in enumerate(bases) if i != number))
        for run in group:
            label = labels[id(run)]
            told = f"{label} [{number + 1}]" if label in clash else label
            cells += _cells_of(run, told, every)
    merged: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = cell.method, cell.task
        merged[key] = _joined(merged[key], cell) if key in merged else cell
    return tuple(merged.values())


def base_of(run: RunFiles) -> str:
    """The run's name without its task; the agent's name where the run has none."""
    name = run.config.get("run")
    if not isinstance(name, str) or not name or name.startswith("own "):
        agent = run.settings.get("agent")
        return str(agent.get("part", "unnamed")) if isinstance(agent, Mapping) else "unnamed"
    head, _, tail = name.rpartition("/")
    named = re.search(r"-task\d+$", tail) or short_task(tail) == task_of(run)
    return head if head and named else name


def task_of(run: RunFiles) -> str:
    """The task's name, without the parts that all OGBench tasks share."""
    task = run.config.get("task")
    return short_task(task) if isinstance(task, str) else "not recorded"


def short_task(task: str) -> str:
    """``cube-single-task1`` of ``cube-single-play-singletask-task1-v0``; others as they are."""
    found = re.fullmatch(r"(.+?)(-play|-navigate)?(-singletask)?(-task\d+)(-v0)?", task)
    return found[1] + found[4] if found else task


def flattened(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a configuration with its dotted name; a part's name stands for the part."""
    items: Iterator[tuple[str, Any]] | None = None
    if isinstance(tree, Mapping) and tree:
        items = iter(tree.items())
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = ((str(i), item) for i, item in enumerate(tree))
    if items is None:
        yield prefix, tree
        return
    for key, value in items:
        name = prefix if key == "part" and prefix else f"{prefix}.{key}" if prefix else str(key)
        yield from flattened(value, name)


def shown(value: Any) -> str:
    """A value of a configuration, in words."""
    return value if isinstance(value, str) else json.dumps(value)


def in_words(tree: Any) -> str:
    """All values of a configuration in one line: ``offline_share, share 0.5``."""
    fields = flattened(tree, "_")
    return ", ".join(f"{name[2:]} {shown(value)}".strip() for name, value in fields)


def what_matters(run: RunFiles) -> dict[str, Any]:
    """The settings that make a method and its budget, flat; the task's name is not among them."""
    kept = {k: v for k, v in run.settings.items() if k not in _INCIDENTAL}
    return {k: v for k, v in flattened(kept) if k not in ("task.task", "part", "task")}


def _labels(runs: Sequence[RunFiles]) -> list[str]:
    bases = [base_of(run) for run in runs]
    settings = [what_matters(run) for run in runs]
    telling: dict[str, list[str]] = {base: [] for base in bases}
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run, base, own in zip(runs, bases, settings, strict=True):
        kinds.setdefault((base, task_of(run)), []).append(own)
    for (base, _), same in kinds.items():
        for field in dict.fromkeys(name for own in same for name in own):
            if any(own.get(field) != same[0].get(field) for own in same):
                telling[base].append(field)
    return [
        ", ".join([base, *(_told(f, own.get(f)) for f in dict.fromkeys(telling[base]))])
        for base, own in zip(bases, settings, strict=True)
    ]


def _told(field: str, value: Any) -> str:
    return f"{field.removeprefix('agent.')}={shown(value)}"


def _cells_of(run: RunFiles, label: str, every: Sequence[RunFiles]) -> list[Cell]:
    refiners = list(dict.fromkeys(e.refiner for e in run.evaluations)) or [OWN]
    known = {e.refiner for other in every for e in other.evaluations}
    cells = []
    for refiner in refiners:
        rows = tuple(e for e in run.evaluations if e.refiner == refiner)
        seeds = dict.fromkeys([*_configured(run, refiner), *(e.seed for e in rows)])
        name = label if refiner == OWN else f"{label} + {_refiner_name(refiner, known)}"
        origin = dict.fromkeys(seeds, run)
        cells.append(Cell(name, base_of(run), task_of(run), refiner, rows, origin))
    return cells


def _configured(run: RunFiles, refiner: str) -> list[int]:
    """The seeds a run was meant to try; a refiner that was tried later need not have tried all."""
    seeds, wanted = run.settings.get("seeds"), run.settings.get("evaluation")
    planned = refiner == OWN or (isinstance(wanted, Mapping) and bool(wanted.get("refiners")))
    listed = seeds if planned and isinstance(seeds, list) else []
    return [seed for seed in listed if isinstance(seed, int)]


def _refiner_name(refiner: str, known: set[str]) -> str:
    """The part's name alone, unless two of that name were tried."""
    part = refiner.partition("(")[0]
    alike = [other for other in known if other.partition("(")[0] == part]
    return _SHOWN.get(part, part) if len(alike) == 1 else refiner


def _joined(first: Cell, second: Cell) -> Cell:
    for seed in second.origin:
        if seed in first.origin:
            raise InvalidConfig(
                f"{first.origin[seed].path} and {second.origin[seed].path} both hold seed {seed} "
                f"of {first.method} on {first.task}; give one of them"
            )
    return dataclasses.replace(
        first,
        evaluations=(*first.evaluations, *second.evaluations),
        origin={**first.origin, **second.origin},
    )
