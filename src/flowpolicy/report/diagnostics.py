"""Small multiples of everything a run logged: losses, displacement against its radius, spread."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from flowpolicy.report import style
from flowpolicy.report.progress import STEP_UNIT, thousands
from flowpolicy.report.runfiles import PHASES, metric_series

COLUMNS = 4
MAX_PANELS = 24
EPISODES = 20  # what one episode gave is drawn as the mean of the last so many
_BOOKKEEPING = {"seed", "phase", "step", "updates", "seconds", "env_steps", "episode"}
# A metric split by a bin or a member ends in its number: those share a panel.
_NUMBERED = re.compile(r"[/_@]?[a-z]?\d[\d.\-_]*$")


class Panel(NamedTuple):
    """One small plot: a title and the metrics drawn in it."""

    title: str
    names: tuple[str, ...]


def metric_names(metrics: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The metrics that were logged as numbers, in the order in which they first appear."""
    names = dict.fromkeys(
        key
        for record in metrics
        for key, value in record.items()
        if key not in _BOOKKEEPING and isinstance(value, int | float)
    )
    return tuple(names)


def panels(names: Sequence[str]) -> tuple[Panel, ...]:
    """Which metrics share a plot, critics first, then flows, then what the update did.

    Displacements |u - u_off| stand with the radius eta_eff that they are meant to reach; metrics
    that differ in a trailing number stand together; every other metric stands alone.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_panel_title(name), []).append(name)
    order = sorted(groups, key=lambda title: (_rank(title), title))
    return tuple(Panel(title, tuple(groups[title])) for title in order)


def diagnostics(metrics: Sequence[Mapping[str, Any]], *, phase: str) -> Figure | None:
    """Everything logged in ``phase`` as small multiples, ``None`` if that is nothing.

    Thin: each seed; thick: the mean over seeds at the steps that all of them logged. At most
    ``MAX_PANELS`` are drawn, ``left_out`` names the rest; ``logged_once`` has what has no curve.
    """
    records = [r for r in metrics if r["phase"] == phase]
    shown = _repeated_panels(records)[:MAX_PANELS]
    if not shown:
        return None
    rows = math.ceil(len(shown) / COLUMNS)
    with style.styled():
        figure = style.new_figure(11.0, 0.35 + 1.95 * rows)
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        for axes, panel in zip(grid.flat, shown, strict=False):
            _draw_panel(axes, panel, records)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        figure.supxlabel(STEP_UNIT[phase], fontsize=9.5)
    return figure


def left_out(metrics: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Metrics that ``diagnostics`` does not draw, because a phase has too many panels."""
    names: list[str] = []
    for phase in PHASES:
        found = _repeated_panels([r for r in metrics if r["phase"] == phase])
        names += [name for panel in found[MAX_PANELS:] for name in panel.names]
    return tuple(dict.fromkeys(names))


def logged_once(metrics: Sequence[Mapping[str, Any]], *, phase: str) -> dict[str, float]:
    """What was logged a single time in ``phase``, such as shares of the wall time."""
    records = [r for r in metrics if r["phase"] == phase]
    return {
        name: float(next(r[name] for r in records if name in r))
        for name in metric_names(records)
        if _count(records, name) == 1
    }


def _repeated_panels(records: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    return panels([name for name in metric_names(records) if _count(records, name) > 1])


def _count(records: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(name in record for record in records)


def _draw_panel(axes: Axes, panel: Panel, records: Sequence[Mapping[str, Any]]) -> None:
    values_seen: list[float] = []
    for index, name in enumerate(panel.names):
        colour = style.PALETTE[(index + 1) % len(style.PALETTE)]
        series = [(steps, values) for _, _, steps, values in metric_series(records, name)]
        if name.startswith("episode/"):
            series = [(steps, _trailing_mean(values)) for steps, values in series]
        values_seen += [v for _, values in series for v in values if math.isfinite(v)]
        _draw_metric(axes, series, colour, _short(name, panel))
    episodes = f", mean of last {EPISODES}" if panel.title.startswith("episode/") else ""
    axes.set_title(panel.title + episodes, fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if _is_share(panel, values_seen):
        axes.set_ylim(-0.02, 1.02)
    if len(panel.names) > 1:
        axes.legend(fontsize=7, handlelength=1.2, labelspacing=0.2)


def _draw_metric(
    axes: Axes, series: Sequence[tuple[list[float], list[float]]], colour: str, label: str
) -> None:
    """One seed: its line. More: their lines, thin, and the mean where they share enough steps."""
    marker = "o" if max(len(steps) for steps, _ in series) < 3 else ""
    if len(series) == 1:
        axes.plot(*series[0], color=colour, linewidth=1.3, marker=marker, ms=3, label=label)
        return
    for steps, values in series:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.5, marker=marker, ms=2)
    common, means = _mean_series(series)
    if 2 * len(common) >= len(series[0][0]):
        axes.plot(common, means, color=colour, linewidth=1.6, label=label)


def _trailing_mean(values: Sequence[float]) -> list[float]:
    return [float(np.mean(values[max(0, i - EPISODES) : i])) for i in range(1, len(values) + 1)]


def _mean_series(
    series: Sequence[tuple[list[float], list[float]]],
) -> tuple[list[float], list[float]]:
    tables = [dict(zip(steps, values, strict=True)) for steps, values in series]
    common = sorted(set.intersection(*(set(table) for table in tables)))
    return common, [float(np.mean([table[step] for table in tables])) for step in common]


def _panel_title(name: str) -> str:
    low = name.lower()
    if "eta_eff" in low or "u_off" in low or "displacement" in low:
        return "|u - u_off| against eta_eff"
    return _NUMBERED.sub("", name) or name


def _short(name: str, panel: Panel) -> str:
    tail = name.removeprefix(panel.title)
    return (tail if tail != name else name.split("/")[-1]).strip("/_@")


def _rank(title: str) -> int:
    order = ("critic", "flow", "actor", "|u - u_off|")
    found = [i for i, word in enumerate(order) if title.lower().startswith(word)]
    return found[0] if found else len(order)


def _is_share(panel: Panel, values: Sequence[float]) -> bool:
    named = any(word in panel.title.lower() for word in ("share", "fraction", "success"))
    return named and all(0 <= value <= 1 for value in values)
