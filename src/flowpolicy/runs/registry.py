"""Named runs: a name, a sentence, and everything that decides what the run computes.

Most are a method under a protocol on a task, ``<method>/<task>`` in the paper's size and
``mini/<method>/<task>`` in one that two cores train in minutes; a ``Family`` holds all of them.
"""

import dataclasses
from collections.abc import Callable

from flowpolicy.errors import InvalidConfig, unknown_name
from flowpolicy.train.phases import RunConfig


@dataclasses.dataclass(frozen=True)
class NamedRun:
    """A registered run: what it is, in a sentence, and its configuration."""

    name: str
    summary: str
    config: RunConfig


@dataclasses.dataclass(frozen=True)
class Family:
    """One method under one protocol: a run ``<name>/<task>`` for each task.

    ``tasks`` is empty for a run that stands alone under its own name.
    """

    name: str
    summary: str
    tasks: tuple[str, ...]


_FAMILIES: dict[str, Family] = {}
_BUILDERS: dict[str, tuple[Family, Callable[[], RunConfig]]] = {}


def add(name: str, summary: str, build: Callable[[], RunConfig]) -> None:
    """Registers a run that stands alone; a name is given once."""
    _add_family(Family(name, summary, ()), {name: build})


def add_family(
    name: str, summary: str, tasks: tuple[str, ...], build: Callable[[str], RunConfig]
) -> None:
    """Registers ``<name>/<task>`` for every task as ``build(task)``; names are given once."""
    _add_family(
        Family(name, summary, tasks),
        {f"{name}/{task}": lambda task=task: build(task) for task in tasks},
    )


def _add_family(family: Family, builders: dict[str, Callable[[], RunConfig]]) -> None:
    for name in (family.name, *builders):
        if name in _FAMILIES or name in _BUILDERS:
            raise InvalidConfig(f"the run {name!r} is already registered")
    _FAMILIES[family.name] = family
    _BUILDERS.update({name: (family, build) for name, build in builders.items()})


def get(name: str) -> NamedRun:
    """The run called ``name``; ``UnknownName`` with the nearest names otherwise."""
    family, build = _found(name)
    return NamedRun(name, family.summary, build())


def names() -> list[str]:
    """All names, sorted."""
    return sorted(_BUILDERS)


def families() -> list[Family]:
    """All families, in the order in which they were registered."""
    return list(_FAMILIES.values())


def summary(name: str) -> str:
    """The sentence of the run called ``name``."""
    return _found(name)[0].summary


def _found(name: str) -> tuple[Family, Callable[[], RunConfig]]:
    if name not in _BUILDERS:
        raise unknown_name("run", name, _BUILDERS)
    return _BUILDERS[name]
