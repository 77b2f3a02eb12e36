"""The pictures of a comparison: intervals side by side, success against cost, profiles."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from flowpolicy.report import style
from flowpolicy.report.costs import Cost
from flowpolicy.report.results import Aggregate, Result

Looks = Mapping[str, tuple[str, Any, str]]
"""Colour, dashes and marker of every method, the same in every picture."""


def looks_of(methods: Sequence[str]) -> Looks:
    """One look a method, as in ``figures.learning_curve``."""
    return {method: style.look(i) for i, method in enumerate(methods)}


def bars(rows: Sequence[Result], looks: Looks) -> Figure:
    """Final success of every method, a panel a task, with 95 % intervals."""
    tasks = sorted({row.task for row in rows})
    with style.styled():
        height = 0.7 + len(rows) * _row_height([r.method for r in rows]) + 0.35 * len(tasks)
        figure = style.new_figure(style.WIDTH, height)
        heights = [sum(row.task == task for row in rows) + 0.6 for task in tasks]
        grid = figure.subplots(len(tasks), 1, squeeze=False, sharex=True, height_ratios=heights)
        for axes, task in zip(grid[:, 0], tasks, strict=True):
            mine = [row for row in rows if row.task == task]
            for y, row in enumerate(mine):
                _interval(axes, y, row.mean, *row.interval, looks[row.method][0])
            _labelled(axes, [row.method for row in mine], task)
        grid[-1, 0].set_xlabel("success rate")
    return figure


def overall(rows: Sequence[Aggregate], looks: Looks) -> Figure:
    """Interquartile mean and plain mean over all runs and tasks, with 95 % bootstrap intervals."""
    with style.styled():
        height = 1.0 + len(rows) * _row_height([row.method for row in rows])
        figure = style.new_figure(style.WIDTH, height)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for y, row in enumerate(rows):
            for axes, value, interval in (
                (panels[0], row.iqm, row.iqm_interval),
                (panels[1], row.mean, row.mean_interval),
            ):
                _interval(axes, y, value, *(interval or (value, value)), looks[row.method][0])
        _labelled(panels[0], [row.method for row in rows], "interquartile mean")
        panels[1].set_title("mean")
        panels[1].grid(visible=False, axis="y")
        for axes in panels:
            axes.set_xlabel("success rate")
    return figure


def success_against_cost(rows: Sequence[tuple[Result, Cost]], looks: Looks) -> Figure | None:
    """Final success against NFE and against milliseconds, both on log axes, a row a task.

    Methods of the same cost stand a little beside each other, so that none hides another.

    Only what was measured is drawn; None where nothing was.
    """
    known = [(row, cost) for row, cost in rows if cost.nfe is not None]
    tasks = sorted({row.task for row, _ in known})
    if not tasks:
        return None
    with style.styled():
        methods = list(dict.fromkeys(row.method for row, _ in known))
        height = 0.4 + 2.6 * len(tasks) + style.legend_room(methods)
        figure = style.new_figure(style.WIDTH, height)
        grid = figure.subplots(len(tasks), 2, squeeze=False, sharey=True)
        for (left, right), task in zip(grid, tasks, strict=True):
            mine = [(row, cost) for row, cost in known if row.task == task]
            _cost_panel(left, [(r, c.nfe) for r, c in mine], looks)
            _cost_panel(right, [(r, c.ms_p50) for r, c in mine], looks)
            left.set(title=task, ylabel="success rate", xlabel="NFE a chunk")
            right.set_xlabel("milliseconds a chunk (p50)")
        style.legend_below(figure, methods)
    return figure


def profiles(
    levels: Float[np.ndarray, "levels"],
    shares: Mapping[str, Float[np.ndarray, "levels"]],
    looks: Looks,
) -> Figure:
    """Performance profiles: the share of runs x tasks above each success rate."""
    with style.styled():
        figure = style.new_figure(style.WIDTH, 3.2 + style.legend_room(list(shares)))
        axes = figure.add_subplot()
        every = max(1, len(levels) // 6)
        for method, share in shares.items():
            colour, dashes, marker = looks[method]
            axes.step(
                levels, share, where="post", color=colour, linestyle=dashes, label=method,
                marker=marker, markersize=4.5, markevery=every,
            )  # fmt: skip
        axes.set(xlabel="success rate", ylabel="share of runs above", ylim=(-0.02, 1.02))
        style.legend_below(figure, list(shares))
    return figure


def _row_height(names: Sequence[str]) -> float:
    """Inches from one row to the next, where names stand on the left."""
    return 0.12 + 0.17 * style.lines_of(names)


def _interval(axes: Axes, y: int, value: float, low: float, high: float, colour: str) -> None:
    axes.barh(y, high - low, left=low, height=0.62, color=colour, alpha=0.35, linewidth=0)
    axes.plot([value, value], [y - 0.31, y + 0.31], color=colour, linewidth=2.4)


def _labelled(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), [style.wrapped(name) for name in names], color=style.INK)
    axes.set(xlim=(-0.02, 1.02), title=title)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _cost_panel(
    axes: Axes, points: Sequence[tuple[Result, int | float | None]], looks: Looks
) -> None:
    style.success_axis(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    known = [(row, float(x)) for row, x in points if x is not None]
    if not known:
        return
    low, high = _span([x for _, x in known])
    placed = _beside([x for _, x in known], high / low)
    axes.set_xlim(low, max(high, 1.1 * max(placed)))
    for (row, _), x in zip(known, placed, strict=True):
        bar = [[row.mean - row.interval.low], [row.interval.high - row.mean]]
        colour, _, marker = looks[row.method]
        axes.errorbar(x, row.mean, bar, fmt=marker, color=colour, capsize=4, label=row.method)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a log axis with room at the ends, a factor of 8 apart at least."""
    low, high = min(values), max(values)
    room = max(1.3, math.sqrt(8.0 * low / high))
    return low / room, high * room


def _beside(values: Sequence[float], span: float) -> list[float]:
    """The values, those within 2 % of the log axis of one before moved aside by 2 % each."""
    step, placed = span**0.02, []
    for value in values:
        while any(1 / step < value / other < step for other in placed):
            value *= step
        placed.append(value)
    return placed
