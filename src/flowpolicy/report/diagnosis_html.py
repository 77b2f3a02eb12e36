"""``diagnose.html`` and ``diagnose.json``: what ``diagnose`` found, drawn and in words."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowpolicy.report import style
from flowpolicy.report.document import Picture, render, svg_picture, write_whole
from flowpolicy.report.findings import Acting, Agreement, Diagnosis, Radius
from flowpolicy.train.checkpoint import to_json
from flowpolicy.train.durable import write as write_durably

GAINS = {
    "predicted": ("η |∇Q|, the prediction", style.MUTED, "--"),
    "theorem": ("Theorem 3.2", style.ORANGE, "-"),
    "ball": ("numerical optimum in the ball", style.INK, ":"),
    "clipped": ("Theorem 3.2, then clipped", style.SKY, "-"),
    "box": ("trust_region_box", style.GREEN, "-"),
    "ball_in_box": ("numerical optimum in ball and box", style.PINK, ":"),
}


def write_diagnosis(folder: Path, found: Diagnosis) -> Path:
    """Writes both files into a run's folder, each complete or not there; the HTML's path."""
    write_durably(folder / "diagnose.json", to_json(as_json(found)))
    path = folder / "diagnose.html"
    write_whole(path, render_diagnosis(found))
    return path


def as_json(found: Diagnosis) -> dict[str, object]:
    """Strict JSON; named tuples become objects too."""
    content = dataclasses.asdict(found)
    if found.agreement is not None:
        content["agreement"]["noise"] = found.agreement.noise._asdict()
    return content


def render_diagnosis(found: Diagnosis) -> str:
    """The HTML. It runs no script and refers to nothing outside itself."""
    played = [row for row in found.acting if row.success is not None]
    return render(
        "diagnose.html.j2",
        found=found,
        gains=_svg(gains(found.radii), "Change of Q against eta"),
        laws=_svg(laws(found.agreement), "Energy distances") if found.agreement else None,
        refiners=_svg(refiners(played), "Q less return, and success") if played else None,
        names={name: label for name, (label, _, _) in GAINS.items()},
    )


def gains(radii: Sequence[Radius]) -> Figure:
    """The mean change of Q against eta: as it is, and as a share of the optimum."""
    with style.styled():
        figure = style.new_figure(10.5, 4.0)
        left, right = figure.subplots(1, 2)
        eta = [row.eta for row in radii]
        for name, (label, colour, line) in GAINS.items():
            left.plot(
                eta, [getattr(row, name).mean for row in radii], line, color=colour, label=label
            )
        for name, optimum in (
            ("theorem", "ball"), ("clipped", "ball_in_box"), ("box", "ball_in_box"),
        ):  # fmt: skip
            label, colour, _ = GAINS[name]
            share = [
                getattr(row, name).mean / max(getattr(row, optimum).mean, 1e-12) for row in radii
            ]
            right.plot(eta, share, "o-", color=colour, label=label, ms=4)
        left.set(xlabel="η", ylabel="mean change of Q", title="Gained, predicted, possible")
        right.set(xlabel="η", title="Share of the numerical optimum", ylim=(None, 1.05))
        right.axhline(1.0, color=style.INK, linewidth=0.8, linestyle=":")
        left.legend()
        right.legend()
    return figure


def laws(found: Agreement) -> Figure:
    """Energy distances of the laws pushed from each r, with what noise alone gives."""
    with style.styled():
        figure = style.new_figure(6.5, 3.4)
        axes = figure.subplots()
        r = np.array([p.r for p in found.pushed])
        axes.bar(
            r - 0.04, [p.to_data for p in found.pushed], 0.07, color=style.BLUE, label="to data"
        )
        first = [p.to_first for p in found.pushed]
        axes.bar(r + 0.04, first, 0.07, color=style.SKY, label="to r = 0")
        low, high = (found.noise.mean + sign * 2 * found.noise.std for sign in (-1, 1))
        axes.axhspan(low, high, color=style.LIGHT, zorder=0, label="noise of the estimate, ±2 sd")
        axes.set(xlabel="r, pushed to 1", ylabel="energy distance", xticks=r)
        axes.legend()
    return figure


def refiners(rows: Sequence[Acting]) -> Figure:
    """Q less return as an interval, and success with its own, a line for each refiner."""
    with style.styled():
        figure = style.new_figure(10.5, 0.9 + 0.42 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True)
        for y, row in enumerate(rows):
            if row.excess_low is not None and row.excess_high is not None:
                error = 2 * (row.excess_error or 0.0)
                ends = [row.excess_low, row.excess_high]
                left.plot(ends, [y, y], "|-", color=style.BLUE, ms=9, linewidth=3)
                left.plot([ends[0] - error, ends[1] + error], [y, y], color=style.BLUE, linewidth=1)
            if row.success is not None and row.low is not None and row.high is not None:
                right.plot([row.low, row.high], [y, y], color=style.ORANGE, linewidth=2)
                right.plot(row.success, y, "o", color=style.ORANGE)
        left.axvline(0.0, color=style.INK, linewidth=0.8)
        left.set_yticks(range(len(rows)), [row.refiner.split("(")[0] for row in rows])
        left.invert_yaxis()
        _title(left, "Q less discounted return", "too low | too high")
        _title(right, "Success", "share of episodes")
        right.set_xlim(-0.02, 1.02)
    return figure


def _title(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(label)


def _svg(figure: Figure, alt: str) -> Picture:
    return svg_picture(style.svg(figure), alt)
