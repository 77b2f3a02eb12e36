"""The pictures of learning: the curve, before and after, and what the flow map does to noise.

Each function takes arrays and returns a figure; ``style.svg`` and ``style.png`` make bytes of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from flowpolicy.report import style
from flowpolicy.report.material import FlowPicture
from flowpolicy.report.progress import STEP_UNIT, PhaseCurve, Result, thousands

_LIMIT = 1.0  # actions lie in [-1, 1]
_DOTS: dict[str, Any] = {
    "cmap": style.VALUES,
    "s": 22,
    "zorder": 3,
    "edgecolor": "white",
    "linewidth": 0.3,
}
_STAR: dict[str, Any] = {
    "linestyle": "none",
    "marker": "*",
    "ms": 15,
    "color": style.ORANGE,
    "mec": "white",
    "zorder": 6,
}


def learning_curve(curves: Mapping[str, Sequence[PhaseCurve]]) -> Figure:
    """Success against step, one look a line; a panel a phase, parted by a line.

    The phases share the success axis and not the step axis: one counts updates, the other
    environment steps. Thick: mean over seeds with its 95 % band; thin: each seed. A hollow point
    at online step 0 repeats the last offline value, which belongs to the same policy.
    """
    phases = [p for p in STEP_UNIT if any(c.phase == p for cs in curves.values() for c in cs)]
    with style.styled():
        named = list(curves) if len(curves) > 1 else []
        figure = style.new_figure(style.WIDTH, 3.5 + style.legend_room(named))
        style.close_panels(figure)
        ratios = [1 if p == "offline" and len(phases) == 2 else 2.6 for p in phases]
        grid = figure.add_gridspec(1, max(1, len(phases)), width_ratios=ratios or [1], wspace=0)
        first = None
        for column, phase in enumerate(phases):
            axes = figure.add_subplot(grid[0, column], sharey=first)
            _phase_panel(axes, phase, curves)
            if first is None:
                axes.set_ylabel("success rate")
                first = axes
            else:
                # The left spine is the divider between the phases.
                axes.spines["left"].set(color=style.INK, linewidth=1.4, linestyle=(0, (4, 3)))
                axes.tick_params(axis="y", left=False, labelleft=False)
        style.legend_below(figure, named)
    return figure


def _phase_panel(axes: Axes, phase: str, curves: Mapping[str, Sequence[PhaseCurve]]) -> None:
    style.success_axis(axes)
    axes.set_title(f"{phase} training", color=style.MUTED)
    axes.set_xlabel(STEP_UNIT[phase])
    end = 1.0
    few = len(curves) <= 3
    for index, (label, parts) in enumerate(curves.items()):
        by_phase = {part.phase: part for part in parts}
        if phase not in by_phase:
            continue
        colour = style.look(index)[0]
        _draw_curve(axes, by_phase[phase], index, label, seeds=0.55 if few else 0.2)
        end = max([end, *(s[0][-1] for s in by_phase[phase].seeds.values() if len(s[0]))])
        if phase == "online" and "offline" in by_phase:
            _draw_start(axes, by_phase["offline"], by_phase["online"], colour)
    axes.set_xlim(-0.03 * end, 1.03 * end)
    nice = MaxNLocator(3 if phase == "offline" else 6, integer=True, steps=[1, 2, 2.5, 5, 10])
    axes.xaxis.set_major_locator(nice)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def _draw_curve(axes: Axes, part: PhaseCurve, index: int, label: str, *, seeds: float) -> None:
    """``seeds`` is the opacity of the thin lines."""
    mean, low, high = part.curve
    colour, dashes, marker = style.look(index)
    if len(part.seeds) > 1:
        for steps, rates in part.seeds.values():
            axes.plot(steps, rates, color=colour, linewidth=0.8, alpha=seeds, marker=".", ms=3)
    if len(part.steps) == 1:
        bars = np.stack([mean - low, high - mean])
        axes.errorbar(part.steps, mean, bars, color=colour, capsize=4, linewidth=1.4)
    axes.fill_between(part.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        part.steps, mean, color=colour, linestyle=dashes, marker=marker, ms=4.5, label=label,
        clip_on=False,
    )  # fmt: skip


def _draw_start(axes: Axes, offline: PhaseCurve, online: PhaseCurve, colour: str) -> None:
    if not len(offline.steps) or not len(online.steps) or online.steps[0] == 0:
        return
    rate = offline.curve.mean[-1]
    axes.plot(
        [0, online.steps[0]],
        [rate, online.curve.mean[0]],
        color=colour,
        linewidth=1.4,
        linestyle=":",
    )
    axes.plot(0, rate, "o", ms=5.5, mfc="white", mec=colour, mew=1.4, clip_on=False, zorder=5)


def before_after(before: Result | None, after: Result | None) -> Figure:
    """Success before and after as two bars with 95 % intervals, and a dot for each seed."""
    with style.styled():
        figure = style.new_figure(4.8, 3.5)
        axes = figure.add_subplot()
        style.success_axis(axes)
        axes.set_ylim(0, 1.08)
        axes.set_ylabel("success rate")
        shown = [r for r in (before, after) if r is not None]
        for x, result in enumerate(shown):
            _result_bar(axes, x, result)
        names = [f"{r.phase}\n{r.step:,} {STEP_UNIT[r.phase]}" for r in shown]
        axes.set_xticks(range(len(shown)), names, color=style.INK)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, max(1, len(shown) - 1) + 0.6)
    return figure


def _result_bar(axes: Axes, x: int, result: Result) -> None:
    colour = style.PHASE_COLOUR[result.phase]
    axes.bar(x, result.rate, width=0.56, color=colour, alpha=0.85)
    bars = [[result.rate - result.low], [result.high - result.rate]]
    axes.errorbar(x, result.rate, bars, color=style.INK, capsize=5, linewidth=1.3)
    if len(result.rates) > 1:
        # Left of the interval, so that neither hides the other.
        spread = np.linspace(-0.22, -0.1, len(result.rates))
        axes.plot(x + spread, result.rates, "o", ms=5, mfc="white", mec=style.INK, mew=1)
    text = f"{result.rate:.2f}"
    axes.text(x + 0.33, result.rate, text, va="center", weight="bold", size=11.5, color=colour)


def flow_map(picture: FlowPicture) -> Figure:
    """What the flow map does to noise at one state, in two entries of the action.

    Left: noise (grey) follows the flow in small steps to actions; middle: one jump with the same
    noises; right: both ends enlarged, joined noise by noise. Colour is the critic's value of the
    small steps' ends, the star the best of them, the dashed square holds the admissible actions.
    A few far noises lie outside the frame.
    """
    x, y = picture.axes
    points, jump = picture.points[..., [x, y]], picture.jump[:, [x, y]]
    reach = max(1.2, 1.05 * float(np.quantile(np.abs(points[0]), 0.985)))
    pieces = (
        (points, f"{len(picture.times) - 1} small steps", reach),
        (np.stack([points[0], jump]), "One jump", reach),
    )
    with style.styled():
        figure = Figure(figsize=(11, 3.95), layout="compressed")
        panels = figure.subplots(1, 3)
        for axes, (path, title, limit) in zip(panels, pieces, strict=False):
            _noise_panel(axes, path, picture.q)
            _frame(axes, picture, title, limit)
        dots = _ends_panel(panels[2], points[-1], jump, picture.q)
        gap = float(np.mean(np.linalg.norm(points[-1] - jump, axis=-1)))
        limit = max(1.2, 1.05 * float(np.abs([points[-1], jump]).max()))
        _frame(panels[2], picture, f"Both ends, {gap:.2f} apart on average", limit)
        panels[0].set_ylabel(picture.labels[1])
        bar = figure.colorbar(dots, ax=panels, shrink=0.85, pad=0.015, aspect=28)
        bar.set_label("critic's value Q")
        bar.outline.set_visible(False)
    return figure


def _noise_panel(axes: Axes, points: np.ndarray, q: np.ndarray) -> None:
    paths = list(np.swapaxes(points, 0, 1))
    axes.add_collection(LineCollection(paths, colors=style.MUTED, linewidths=0.5, alpha=0.4))
    axes.plot(*points[0].T, "o", ms=3, mfc="white", mec=style.MUTED, mew=0.7, label="noise")
    order = np.argsort(q)
    axes.scatter(*points[-1][order].T, c=q[order], **_DOTS, label="action")
    axes.plot(*points[-1][order[-1]], **_STAR, label="highest Q")
    legend = axes.legend(loc="lower left", handletextpad=0.1, borderpad=0.2, fontsize=8.5)
    legend.set_frame_on(True)
    legend.get_frame().set(linewidth=0, alpha=0.8)


def _ends_panel(axes: Axes, ends: np.ndarray, jump: np.ndarray, q: np.ndarray) -> PathCollection:
    joints = list(np.stack([ends, jump], axis=1))
    axes.add_collection(LineCollection(joints, colors=style.INK, linewidths=0.6, alpha=0.6))
    axes.plot(*jump.T, "x", ms=3.5, mew=0.8, color=style.INK, label="one jump", zorder=5)
    order = np.argsort(q)
    dots = axes.scatter(*ends[order].T, c=q[order], **_DOTS, label="small steps")
    axes.plot(*ends[order[-1]], **_STAR)
    axes.legend(loc="lower left", handletextpad=0.1, borderpad=0.2, fontsize=8.5)
    return dots


def _frame(axes: Axes, picture: FlowPicture, title: str, limit: float) -> None:
    square = Rectangle((-_LIMIT, -_LIMIT), 2 * _LIMIT, 2 * _LIMIT, fill=False, ls="--", lw=1)
    square.set_edgecolor(style.MUTED)
    axes.add_patch(square)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    axes.set_xlabel(picture.labels[0])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
