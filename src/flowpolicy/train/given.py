"""What callers give by hand, checked where it comes in: episodes, seeds, phases, an agent, ..."""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy import parts
from flowpolicy.agents.base import AgentConfig
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import Refiner
from flowpolicy.train.phases import Phase
from flowpolicy.train.task import Task

Seeds = int | np.integer | Sequence[int | np.integer] | np.ndarray
"""How many agents, or which ones: numbers of Python or of numpy."""


def check_episodes(episodes: int, seed: int | None) -> None:
    """``InvalidConfig`` unless there are some, and ``seed``, where there is one, is at least 0."""
    if episodes < 1 or (seed or 0) < 0:
        raise InvalidConfig(f"need episodes >= 1 and episode_seed >= 0, got {episodes} and {seed}")


def as_seeds(seeds: Any) -> tuple[int, ...]:
    """``seeds`` as a tuple of plain integers, which alone are written as JSON; one number stands
    for that many.
    """
    found = seeds.tolist() if isinstance(seeds, np.ndarray) else seeds
    if isinstance(found, Integral):
        if found < 1:
            raise InvalidConfig(
                f"seeds must be at least 1, as one number is how many there are, got {found}; one "
                "agent alone, of a seed that is given, is (0,), or --seed 0"
            )
        return tuple(range(int(found)))
    if not isinstance(found, Sequence) or not all(isinstance(seed, Integral) for seed in found):
        raise InvalidConfig(
            f"seeds must be a whole number, or several, as in 3 or (0, 4), got {seeds!r}"
        )
    return tuple(int(seed) for seed in found)


def as_phases(phases: Any) -> tuple[Phase, ...]:
    """``phases`` as a tuple; one alone is a tuple of one."""
    found = tuple(phases) if isinstance(phases, tuple | list) else (phases,)
    for phase in found:
        if not isinstance(phase, Phase):
            raise InvalidConfig(
                f"phases must be offline(...) or online(...), or a tuple of them, got {phase!r}"
            )
    return found


def check_agent(agent: Any) -> None:
    """``InvalidConfig`` unless ``agent`` is one's configuration, registered as a part."""
    if not (parts.is_part(agent) and isinstance(agent, AgentConfig)):
        raise InvalidConfig(
            f"agent must be an agent's configuration, as in fp.FMQ(), got {agent!r}; one of your "
            "own is a frozen dataclass under @fp.register('name')"
        )


def check_task(task: Any) -> None:
    """``InvalidConfig`` unless ``task`` is one."""
    if not isinstance(task, Task):
        raise InvalidConfig(
            f"task must be one, as in ogbench(task='cube-single-task1'), got {task!r}"
        )


def check_least(part: Any, **least: int) -> None:
    """``InvalidConfig`` unless those fields of ``part`` are at least the numbers given here."""
    for field, low in least.items():
        if (value := getattr(part, field)) < low:
            name = parts.name_of(part)
            raise InvalidConfig(f"{name}.{field} must be at least {low}, got {value!r}")


def check_out(out: Path) -> None:
    """``InvalidConfig`` where ``out``, or what it is to be in, is a file: no folder can be made."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise InvalidConfig(f"out must be a folder, got {str(out)!r}, and {path} is a file")


def check_refiner(refiner: Any) -> None:
    """``InvalidConfig`` unless ``refiner`` is one that is registered as a part."""
    if not (parts.is_part(refiner) and isinstance(refiner, Refiner)):
        raise InvalidConfig(
            f"refiner must be one, as in fp.best_of_n(n=8) or fp.qgbs(beam=4), got {refiner!r}"
        )
