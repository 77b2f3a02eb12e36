"""Two tiny collections, made once: a point maze with two workers, an arm with one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from flowpolicy.data.collect import collect


@dataclasses.dataclass(frozen=True)
class Collected:
    path: Path
    record: dict[str, Any]
    progress: list[tuple[int, int]]


def _collect(folder: Path, name: str, rows: int, steps: int, workers: int) -> Collected:
    progress: list[tuple[int, int]] = []
    path = folder / f"{name}.npz"
    record = collect(
        name,
        rows,
        path,
        seed=3,
        workers=workers,
        progress=lambda done, total: progress.append((done, total)),
        episode_steps=steps,
    )
    return Collected(path, record, progress)


@pytest.fixture(scope="session")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """Three episodes of 301 steps in the medium maze, and one for validation."""
    return _collect(tmp_path_factory.mktemp("maze"), "pointmaze-medium", 900, 301, workers=2)


@pytest.fixture(scope="session")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """Two episodes of 121 steps with one cube, and one for validation."""
    return _collect(tmp_path_factory.mktemp("cube"), "cube-single", 240, 121, workers=1)
