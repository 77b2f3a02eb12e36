"""Optional places for metrics."""

import dataclasses
import io
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from flowpolicy.errors import MissingExtra
from flowpolicy.train.console import ConsoleWatch
from flowpolicy.train.folder import EvaluationRow
from flowpolicy.train.sinks import Several, tensorboard, wandb
from flowpolicy.train.watch import Silent

LINE = {"seed": 3, "phase": "online", "step": 10, "updates": 25, "seconds": 1.0, "critic/loss": 0.5}
ROW = EvaluationRow(3, "online", 10, "own", 5, 0.4, -7.0, 20.0, 1.0)


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"flowpolicy\[tensorboard\]"):
        tensorboard(tmp_path)
    with pytest.raises(MissingExtra, match=r"flowpolicy\[wandb\]"):
        wandb(tmp_path, "x")


def test_metrics_reach_every_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics by number of updates, evaluations by step; W&B stays offline by default."""
    written, modes = [], []

    class Writer:
        """Keeps scalars."""

        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            """Keeps one."""
            written.append((name, value, step))

        def flush(self) -> None:
            """Nothing."""

    def init(**options: str) -> types.SimpleNamespace:
        modes.append(options["mode"])
        return types.SimpleNamespace(log=lambda values: written.append(values))

    monkeypatch.delenv("WANDB_MODE", raising=False)
    fake = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", fake)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    several = Several(tensorboard(tmp_path), wandb(tmp_path, "x"), Silent())
    several.phase("online", 10, "steps")
    several.advance(5)
    several.say("hello")
    with several.compiling("something"):
        several.metrics(LINE)
    several.evaluation(ROW)
    several.evaluation(dataclasses.replace(ROW, refiner="qgbs(beam=2)", success=0.6))
    assert modes == ["offline"]
    assert ("seed3/online/critic/loss", 0.5, 25) in written
    assert ("seed3/online/evaluation/success", 0.4, 10) in written
    assert ("seed3/online/evaluation/qgbs(beam=2)/success", 0.6, 10) in written
    assert {"seed3/online/critic/loss": 0.5, "seed3/online/step": 25} in written


def test_what_a_terminal_is_told_is_no_markup() -> None:
    """A folder in brackets is a name, as is a refiner of one's own; the bold ones stay bold."""
    told = io.StringIO()
    watch = ConsoleWatch(Console(file=told, width=200, force_terminal=True))
    watch.say("going on from [/tmp]/run")
    watch.evaluation(EvaluationRow(0, "online", 5, "mine(a=[/b])", 10, 0.5, -1.0, 3.0, 0.1))
    assert "going on from [/tmp]/run\n" in told.getvalue()
    assert "mine(a=[/b]): success \x1b[1m0.50\x1b[0m" in told.getvalue()
