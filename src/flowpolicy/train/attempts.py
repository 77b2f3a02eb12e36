"""A run from its beginning to its end: new, gone on with, gone back."""

import contextlib
import json
from pathlib import Path
from typing import Any

from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import CorruptFile, Diverged
from flowpolicy.readers import read_records
from flowpolicy.train import checkpoint, durable
from flowpolicy.train.folder import ROLLBACKS, RunFolder, Trained
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.loop import Loop
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.prepare import prepare
from flowpolicy.train.resume import reopen
from flowpolicy.train.sentinel import GoBack
from flowpolicy.train.task import Task
from flowpolicy.train.watch import Silent, Watch


def run(
    config: RunConfig,
    task: Task,
    dataset: Dataset | None,
    out: Path,
    *,
    record: dict[str, Any] | None = None,
    watch: Watch | None = None,
    start: Trained | None = None,
    hardware: Hardware | None = None,
) -> RunFolder:
    """Trains ``config.agent`` through ``config.phases`` and leaves a run folder at ``out``.

    ``record`` is added to ``config.json``. ``start`` is what training begins with in the place of
    new agents and of a normaliser fitted to the rows; its agents must be of this configuration.
    Raises ``Diverged`` where training does (see ``Guard``) and ``Stopped`` on Ctrl-C or SIGTERM;
    the last checkpoint stays in both cases.
    """
    watch = watch or Silent()
    hardware = hardware or Hardware()
    parts = prepare(
        config, task, dataset, RunFolder(out), watch,
        record=record or {}, start=start, hardware=hardware,
    )  # fmt: skip
    loop = Loop(parts)
    if start is not None:
        loop.save()  # nothing else could bring it back
    return _to_the_end(loop, task, dataset, watch, hardware)


def resume(
    out: Path,
    task: Task,
    dataset: Dataset | None,
    *,
    watch: Watch | None = None,
    allow_inexact: bool = False,
    hardware: Hardware | None = None,
) -> RunFolder:
    """Goes on with the run in ``out`` from its newest valid checkpoint, or from its beginning.

    ``dataset`` must hold the rows the run began with, ``InvalidData`` otherwise. The state at the
    end is that of a run that was not interrupted, to the bit; what is in the way of that raises
    ``Inexact``, or is told to ``watch`` with ``allow_inexact``. A
    run that is finished is left as it is, and one that diverged raises its verdict again.
    """
    folder, watch = RunFolder(out), watch or Silent()
    folder.config()
    status = folder.status()
    if status.get("state") == "diverged":
        if not isinstance(verdict := status.get("verdict"), str):
            raise CorruptFile(
                f"{out / 'status.json'}: 'verdict' must be a text where the run diverged, got "
                f"{verdict!r}"
            )
        raise Diverged(verdict)
    if folder.finished():
        watch.say(f"{out} is finished; there is nothing to go on with")
        return folder
    attempt = len(rollbacks(folder))
    hardware = hardware or Hardware()
    loop = reopen(
        folder, task, dataset, watch,
        allow_inexact=allow_inexact, attempt=attempt, hardware=hardware,
    )  # fmt: skip
    return _to_the_end(loop, task, dataset, watch, hardware)


def rollbacks(folder: RunFolder) -> list[dict[str, Any]]:
    """How often and why a run went back; the next attempt has their number."""
    path = folder.path / ROLLBACKS
    return [line for _, line in read_records(path)[0]] if path.exists() else []


def _to_the_end(
    loop: Loop, task: Task, dataset: Dataset | None, watch: Watch, hardware: Hardware
) -> RunFolder:
    """Plays ``loop``; where it asks to go back, the newest good checkpoint with other keys."""
    folder = loop.folder
    while True:
        try:
            return loop.go()
        except GoBack as reason:
            # Where a run that was never stopped would go. Before the line, without which a run that
            # is killed here meets the same again.
            for path in filter(checkpoint.of_stop, checkpoint.checkpoints(folder.checkpoints)):
                checkpoint.discard(path)
            lines = [*rollbacks(folder), {"updates": loop.learner.updates, "why": str(reason)}]
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
            durable.write(folder.path / ROLLBACKS, text.encode())
            watch.say(f"going back, attempt {len(lines)}: {reason}")
        except Diverged as reason:
            told = {"updates": loop.learner.updates, "verdict": str(reason)}
            with contextlib.suppress(OSError):  # the verdict is raised, whatever the disk says
                folder.write_status({"state": "diverged", **told})
            raise
        loop = reopen(
            folder, task, dataset, watch,
            allow_inexact=True, attempt=len(lines), hardware=hardware,
        )  # fmt: skip
