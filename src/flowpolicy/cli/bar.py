"""A bar on standard error for what collects rows."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def collecting(name: str, rows: int) -> Iterator[Callable[[int, int], None]]:
    """Gives what is to be told (rows done, rows in all); drawn on a terminal alone."""
    console = Console(stderr=True)
    console.print(f"[bold]collecting[/] {rows:,} rows of {name}", highlight=False)
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task(name, total=rows)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
