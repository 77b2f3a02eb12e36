"""Playing scripted episodes in several processes, in their order."""

import collections
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from flowpolicy.data.collect import check_workers
from flowpolicy.errors import InvalidConfig

E = TypeVar("E")
HOPELESS = 20
"""Episodes, none of them solved, after which collecting gives up."""


@contextlib.contextmanager
def in_order(play: Callable[[int], E], workers: int | None) -> Iterator[Iterator[E]]:
    """``play`` of 0, 1, ... without end, whichever process is the first to finish one.

    workers: processes, one a core where None; with 1 the caller's own. ``play`` must be picklable.
    """
    check_workers(workers)
    workers = workers or _cores()
    if workers == 1:
        yield (play(index) for index in range(sys.maxsize))
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield _ahead(pool, play, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def check_request(rows: int, out: Path, seed: int, suffix: str, *, overwrite: bool) -> None:
    """Raises ``InvalidConfig`` where what is asked for cannot be collected."""
    if rows < 1:
        raise InvalidConfig(f"rows must be at least 1, got {rows}")
    if seed < 0:
        raise InvalidConfig(f"seed must not be negative, got {seed}")
    if out.suffix != suffix:
        raise InvalidConfig(f"out must end in {suffix}, got {out.name!r}")
    if out.exists() and not overwrite:
        raise InvalidConfig(f"out: {out} is there already; choose another name or overwrite it")


def check_hope(task: str, failed: int, solved: int, noise: float, mistakes: float) -> None:
    """Raises ``InvalidConfig`` where so many episodes failed that none will be solved."""
    if failed >= HOPELESS and not solved:
        raise InvalidConfig(
            f"none of {failed} episodes of {task} was solved with noise={noise} and "
            f"mistakes={mistakes}; choose less of them"
        )


def _ahead(pool: ProcessPoolExecutor, play: Callable[[int], E], most: int) -> Iterator[E]:
    waiting: collections.deque[Future[E]] = collections.deque()
    for index in range(sys.maxsize):
        waiting.append(pool.submit(play, index))
        if len(waiting) == most:
            yield waiting.popleft().result()


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
