"""What callers give by hand, checked where it comes in: episodes, phases, a task, a refiner."""

from typing import Any

from flowpolicy import parts
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import Refiner
from flowpolicy.train.phases import Phase
from flowpolicy.train.task import Task


def check_episodes(episodes: int, seed: int | None) -> None:
    """``InvalidConfig`` unless there are some, and ``seed``, where there is one, is at least 0."""
    if episodes < 1 or (seed or 0) < 0:
        raise InvalidConfig(f"need episodes >= 1 and episode_seed >= 0, got {episodes} and {seed}")


def as_phases(phases: Any) -> tuple[Phase, ...]:
    """``phases`` as a tuple; one alone is a tuple of one."""
    found = tuple(phases) if isinstance(phases, tuple | list) else (phases,)
    for phase in found:
        if not isinstance(phase, Phase):
            raise InvalidConfig(
                f"phases must be offline(...) or online(...), or a tuple of them, got {phase!r}"
            )
    return found


def check_task(task: Any) -> None:
    """``InvalidConfig`` unless ``task`` is one."""
    if not isinstance(task, Task):
        raise InvalidConfig(
            f"task must be one, as in ogbench(task='cube-single-task1'), got {task!r}"
        )


def check_refiner(refiner: Any) -> None:
    """``InvalidConfig`` unless ``refiner`` is one that is registered as a part."""
    if not (parts.is_part(refiner) and isinstance(refiner, Refiner)):
        raise InvalidConfig(
            f"refiner must be one, as in fp.best_of_n(n=8) or fp.qgbs(beam=4), got {refiner!r}"
        )
