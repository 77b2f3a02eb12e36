"""Progress on a terminal: rate, time to go, current success, a line while something compiles."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flowpolicy.train.clock import PARTS
from flowpolicy.train.folder import OWN, EvaluationRow


class ConsoleWatch:
    """A ``Watch`` that draws a progress bar, and writes one line per evaluation.

    Where the output is not a terminal there is no bar, only lines.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Draws on ``console``, standard error by default."""
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._success = "-"
        self._began = time.perf_counter()
        self._paused = 0.0
        self._unit = ""
        self._done, self._total = 0, 1

    def phase(self, name: str, total: int, unit: str) -> None:
        """A bar of its own for every phase."""
        self.stop()
        self._unit, self._done, self._total = unit, 0, total
        self._began, self._paused = time.perf_counter(), 0.0
        self._console.print(f"[bold]{escape(name)}[/]: {total:,} {unit}", highlight=False)
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("success {task.fields[success]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(name, total=total, rate="", success=self._success)
        self._progress.start()

    def advance(self, done: int) -> None:
        """Moves the bar."""
        self._done = done
        seconds = max(time.perf_counter() - self._began - self._paused, 1e-9)
        if self._progress is not None and self._task is not None:
            rate = f"{done / seconds:,.0f} {self._unit}/s"
            self._progress.update(self._task, completed=done, rate=rate)
        if done >= self._total:
            self.stop()

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Says so before, because the bar stands still."""
        started = time.perf_counter()
        self.say(f"  compiling {what} ...")
        yield
        taken = time.perf_counter() - started
        self._paused += taken
        self.say(f"  compiling {what} took {taken:.1f} s")

    def metrics(self, line: dict[str, Any]) -> None:
        """They are in metrics.jsonl; a terminal shows success only."""
        if "time/seconds" in line:
            parts = ", ".join(
                f"{name} {100 * line[f'time/{name}']:.0f} %"
                for name in (*PARTS, "rest")
                if line[f"time/{name}"]
            )
            self.say(f"  the {line['phase']} phase took {line['time/seconds']:.0f} s: {parts}")

    def evaluation(self, row: EvaluationRow) -> None:
        """One line, and the bar's current success."""
        self._paused += row.seconds
        way = "" if row.refiner == OWN else f", {escape(row.refiner)}"
        if not way:
            self._success = f"{row.success:.2f}"
            if self._progress is not None and self._task is not None:
                self._progress.update(self._task, success=self._success)
        score = "" if row.score is None else f", normalised {row.score:.1f}"
        self._console.print(
            f"  {row.phase} {row.step:>7,} {self._unit}, seed {row.seed}{way}: "
            f"success [bold]{row.success:.2f}[/] over {row.episodes} episodes, "
            f"return {row.returns:.1f}{score}, length {row.length:.0f} ({row.seconds:.1f} s)",
            highlight=False,
        )

    def say(self, text: str) -> None:
        """One line, as it is: a path in it may hold brackets, which are no markup."""
        self._console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
