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
from flowpolicy.report.progress import STEP_UNIT
from flowpolicy.report.runfiles import PHASES, metric_series

COLUMNS = 4
MAX_PANELS = 24
_BOOKKEEPING = {"seed", "phase", "step", "updates", "seconds"}
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
    ``MAX_PANELS`` are drawn; ``left_out`` names the rest.
    """
    records = [r for r in metrics if r["phase"] == phase]
    shown = panels(metric_names(records))[:MAX_PANELS]
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
        found = panels(metric_names([r for r in metrics if r["phase"] == phase]))
        names += [name for panel in found[MAX_PANELS:] for name in panel.names]
    return tuple(dict.fromkeys(names))


def _draw_panel(axes: Axes, panel: Panel, records: Sequence[Mapping[str, Any]]) -> None:
    values_seen: list[float] = []
    for index, name in enumerate(panel.names):
        colour = style.PALETTE[(index + 1) % len(style.PALETTE)]
        series = [(steps, values) for _, _, steps, values in metric_series(tuple(records), name)]
        values_seen += [v for _, values in series for v in values if math.isfinite(v)]
        if len(series) == 1:
            axes.plot(*series[0], color=colour, linewidth=1.3, label=_short(name, panel))
            continue
        for steps, values in series:
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(*_mean_series(series), color=colour, linewidth=1.6, label=_short(name, panel))
    axes.set_title(panel.title, fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.thousands(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if _is_share(panel, values_seen):
        axes.set_ylim(-0.02, 1.02)
    if len(panel.names) > 1:
        axes.legend(fontsize=7, handlelength=1.2, labelspacing=0.2)


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
