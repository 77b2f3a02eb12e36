"""Keeps what a run has: checkpoints, the best state, the journals, written beside training."""

import concurrent.futures
from pathlib import Path
from typing import Any

from flowpolicy.train import checkpoint, durable, journal
from flowpolicy.train.checkpoint import Contents
from flowpolicy.train.folder import LOGS, RunFolder
from flowpolicy.train.journal import Journal


class Keeper:
    """Writes one checkpoint at a time in a thread, while training goes on.

    A checkpoint counts once its folder has its name; by then the disk has the rows and the lines of
    the logs that it speaks of. What could not be written is told at the next call.
    """

    def __init__(self, folder: RunFolder, journals: list[Journal], *, keep: int) -> None:
        """``journals``: one per seed; ``keep``: how many checkpoints stay."""
        self._folder, self._journals, self._keep = folder, journals, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self._oldest: dict[str, list[int]] = {}

    def save(self, name: str, contents: Contents, oldest: list[int]) -> Path:
        """Begins to write a checkpoint and returns its path; waits for the one before it.

        oldest: per seed, the number of the oldest row the checkpoint needs
        """
        self.wait()
        files = self._logs().union(*(j.unflushed() for j in self._journals))
        path = self._folder.checkpoints / checkpoint.free_name(self._folder.checkpoints, name)
        self._oldest[path.name] = oldest

        def work() -> None:
            journal.flush(files)
            durable.make_folder(path.parent)
            checkpoint.save(path, contents, keep=self._keep)
            self._forget()

        self._pending = self._thread.submit(work)
        return path

    def save_best(self, name: str, contents: Contents) -> None:
        """Writes a state that was better than those before, in the place of the last such one.

        A run that goes on from before the one that is there comes by it again: then it stays.
        """
        self.wait()
        before = checkpoint.checkpoints(self._folder.best)
        path = self._folder.best / checkpoint.free_name(self._folder.best, name)

        def work() -> None:
            if not (before and checkpoint.holds(before[-1], contents)):
                durable.make_folder(path.parent)
                checkpoint.save(path, contents, keep=len(before) + 1)
                # By hand: a run that went back comes by it at a smaller number than the last one's.
                for old in before:
                    checkpoint.discard(old)

        self._pending = self._thread.submit(work)

    def know(self, path: Path, meta: dict[str, Any]) -> None:
        """Tells of a checkpoint that was there before."""
        self._oldest[path.name] = [c[0]["first"] if c else 0 for c in meta.get("journals", [])]

    def trim(self) -> None:
        """Removes what a kill left between a checkpoint and the removal of older ones."""
        checkpoint.trim(self._folder.checkpoints, self._keep)
        self._forget()

    def _forget(self) -> None:
        """Drops the rows that no checkpoint needs."""
        kept = {path.name for path in checkpoint.checkpoints(self._folder.checkpoints)}
        needs = [rows for name, rows in self._oldest.items() if name in kept and rows]
        if len(kept - set(self._oldest)) or not needs:
            return  # one that nobody told of may need any row
        for i, rows in enumerate(self._journals):
            journal.drop_before(rows.folder, min(need[i] for need in needs))

    def poll(self) -> None:
        """Raises what the thread met, if it is done."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Until everything is written. Raises ``StorageFailed`` where it could not be."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def settle(self) -> None:
        """``wait``, and the logs are as durable as the checkpoints: nothing comes after them."""
        self.wait()
        journal.flush(self._logs())

    def _logs(self) -> set[Path]:
        return {self._folder.path / log for log in LOGS if (self._folder.path / log).exists()}

    def close(self) -> None:
        """Ends the thread, after what it does now."""
        self._thread.shutdown(wait=True)
        for rows in self._journals:
            rows.close()
