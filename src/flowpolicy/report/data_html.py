"""The page of ``flowpolicy data check``: what a data set holds, with histograms, in one file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from flowpolicy.data.check import FileCheck
from flowpolicy.data.describe import Description, Histogram
from flowpolicy.report import style
from flowpolicy.report.document import Picture, check_page, render, svg_picture, write_whole

ACROSS = 6
_TEMPLATE = "data.html.j2"


def write_data_page(check: FileCheck, told: Description | None, out: Path) -> Path:
    """Writes the page, complete or not there, and returns its path; ``out`` ends in .html."""
    check_page(out)
    write_whole(out, render_data_page(check, told))
    return out


def render_data_page(check: FileCheck, told: Description | None) -> str:
    """The page's HTML. It runs no script and refers to nothing outside itself."""
    groups = {} if told is None else _groups(told.histograms)
    return render(
        _TEMPLATE,
        check=check,
        told=told,
        facts={} if told is None else facts(told),
        pictures={name: _picture(name, group) for name, group in groups.items()},
    )


def facts(told: Description) -> dict[str, str]:
    """What there is to say in a line each; the command line prints the same."""
    lengths, returns = np.asarray(told.lengths), np.asarray(told.returns)
    share = f"{told.succeeded:,} of {told.episodes:,}" if told.tells_success else "not told"
    return {
        "source": str(told.about.get("source", "unknown")),
        "rows": f"{told.rows:,}",
        "trajectories": f"{told.episodes:,}",
        "lengths": f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):,.0f}",
        "returns": f"{returns.min():.4g} to {returns.max():.4g}, median {np.median(returns):.4g}",
        "trajectories that succeed": share,
        "actions outside [-1, 1]": f"{told.outside:,} rows",
        "rows there before": f"{told.duplicate_rows:,}",
        "trajectories there before": f"{told.duplicate_episodes:,}",
        **{
            f"chunks of {fit.horizon} fit": f"at {100 * fit.share:.1f} % of the rows; "
            f"{fit.short_episodes:,} trajectories are shorter"
            for fit in told.chunks
        },
    }


def _groups(histograms: dict[str, Histogram]) -> dict[str, dict[str, Histogram]]:
    """By array; what is told of whole trajectories comes first."""
    found: dict[str, dict[str, Histogram]] = {}
    for name, histogram in histograms.items():
        group = name.partition("[")[0] if "[" in name else "trajectories and rewards"
        found.setdefault(group, {})[name] = histogram
    return found


def _picture(name: str, group: dict[str, Histogram]) -> Picture:
    return svg_picture(style.svg(_figure(group)), f"Histograms of {name}")


def _figure(group: dict[str, Histogram]) -> Figure:
    down = math.ceil(len(group) / ACROSS)
    with style.styled():
        figure = style.new_figure(10.5, 0.4 + 1.5 * down)
        panels = figure.subplots(down, ACROSS, squeeze=False).reshape(-1)
        for panel in panels[len(group) :]:
            panel.set_axis_off()
        for panel, (name, histogram) in zip(panels, group.items(), strict=False):
            _draw(panel, name, histogram)
    return figure


def _draw(panel: Any, name: str, histogram: Histogram) -> None:
    edges = np.asarray(histogram.edges)
    panel.bar(edges[:-1], histogram.counts, np.diff(edges), align="edge", color=style.BLUE)
    panel.set_title(name, fontsize=8)
    panel.set_yticks([])
    panel.tick_params(labelsize=7)
    panel.locator_params(axis="x", nbins=3)
