"""Optional places for metrics: TensorBoard and Weights & Biases, each behind its extra.

A sink is a ``Watch`` like the console; ``Several`` lets one run have many.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowpolicy.errors import MissingExtra
from flowpolicy.train.folder import OWN, EvaluationRow
from flowpolicy.train.watch import Watch


def _require(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(
            f"{module} is not installed; install the extra: pip install 'flowpolicy[{extra}]'"
        ) from None


class _Sink:
    """A ``Watch`` that only takes numbers."""

    def __init__(self, write: Any) -> None:
        self._write = write

    def phase(self, name: str, total: int, unit: str) -> None:
        """Not written."""

    def advance(self, done: int) -> None:
        """Not written."""

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Not written."""
        del what
        yield

    def metrics(self, line: dict[str, Any]) -> None:
        """Every metric, against the number of updates."""
        if "seed" in line and "updates" in line:
            values = {k: v for k, v in line.items() if "/" in k}
            self._write(f"seed{line['seed']}/{line['phase']}", values, line["updates"])

    def evaluation(self, row: EvaluationRow) -> None:
        """Success, return and length, against the phase's step."""
        values = {"success": row.success, "return": row.returns, "length": row.length}
        way = "" if row.refiner == OWN else f"/{row.refiner}"
        self._write(f"seed{row.seed}/{row.phase}/evaluation{way}", values, row.step)

    def say(self, text: str) -> None:
        """Not written."""


def tensorboard(folder: Path) -> Watch:
    """Writes event files under ``folder``/tensorboard; ``MissingExtra`` without tensorboardX."""
    writer = _require("tensorboardX", "tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def write(prefix: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(f"{prefix}/{name}", value, step)
        writer.flush()

    return _Sink(write)


def wandb(folder: Path, name: str) -> Watch:
    """Logs to Weights & Biases, offline unless ``WANDB_MODE`` says otherwise."""
    import os

    module = _require("wandb", "wandb")
    mode = os.environ.get("WANDB_MODE", "offline")
    folder.mkdir(parents=True, exist_ok=True)
    session = module.init(project="flowpolicy", name=name, dir=str(folder), mode=mode)

    def write(prefix: str, values: dict[str, float], step: int) -> None:
        session.log({f"{prefix}/{k}": v for k, v in values.items()} | {f"{prefix}/step": step})

    return _Sink(write)


class Several:
    """Tells every one of several watches."""

    def __init__(self, *watches: Watch) -> None:
        """In the order in which they are told."""
        self._watches = watches

    def phase(self, name: str, total: int, unit: str) -> None:
        """Told to all."""
        for watch in self._watches:
            watch.phase(name, total, unit)

    def advance(self, done: int) -> None:
        """Told to all."""
        for watch in self._watches:
            watch.advance(done)

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Told to all."""
        with contextlib.ExitStack() as stack:
            for watch in self._watches:
                stack.enter_context(watch.compiling(what))
            yield

    def metrics(self, line: dict[str, Any]) -> None:
        """Told to all."""
        for watch in self._watches:
            watch.metrics(line)

    def evaluation(self, row: EvaluationRow) -> None:
        """Told to all."""
        for watch in self._watches:
            watch.evaluation(row)

    def say(self, text: str) -> None:
        """Told to all."""
        for watch in self._watches:
            watch.say(text)
