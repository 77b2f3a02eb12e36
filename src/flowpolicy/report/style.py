"""The look that all figures share, and their way out as SVG or PNG bytes.

Figures are built without pyplot, so nothing is left behind in matplotlib's global state.
"""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's palette: told apart with every common colour blindness, and in grey print.
BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
PALETTE = (ORANGE, BLUE, GREEN, PINK, SKY, "#E69F00", "#6C6C6C")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
INK, MUTED, LIGHT = "#22272e", "#6b7280", "#dfe3e8"
PHASE_COLOUR = {"offline": BLUE, "online": ORANGE}
VALUES = "viridis"
WIDTH = 8.4
"""Inches of a figure that takes the page's width."""
_LETTERS = 40

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa3ad",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    # A "$" in a name is a letter.
    "text.parse_math": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Element names in an SVG are hashes with this salt: the same figure gives the same bytes.
    "svg.hashsalt": "flowpolicy",
}


def look(index: int) -> tuple[str, Any, str]:
    """Colour, dashes and marker of the line number ``index``; past the palette other dashes and
    another marker. Colour and marker alone, as of points, come again after 63 lines.
    """
    again = index // len(PALETTE)
    marker = MARKERS[again % len(MARKERS)]
    return PALETTE[index % len(PALETTE)], DASHES[again % len(DASHES)], marker


@contextmanager
def styled() -> Iterator[None]:
    """Builds and saves figures in the report's style; matplotlib's settings are put back."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with its layout found at drawing."""
    return Figure(figsize=(width, height), layout="constrained")


def close_panels(figure: Figure) -> None:
    """Takes away the padding between neighbouring panels of ``new_figure``."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=0, wspace=0)


def wrapped(name: str) -> str:
    """A name over lines of at most ``_LETTERS``, so that a picture keeps its room."""
    return textwrap.fill(name, _LETTERS)


def lines_of(names: Sequence[str]) -> int:
    """Lines of the one that is wrapped most."""
    return max((wrapped(name).count("\n") + 1 for name in names), default=1)


def legend_below(figure: Figure, names: Sequence[str]) -> None:
    """A legend under all panels of those of ``names`` that any panel shows, in their order.

    Such a figure is ``WIDTH`` wide, and higher by ``legend_room``.
    """
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(name, handle)
    found = [name for name in names if name in shown]
    if found:
        handles, labels = [shown[name] for name in found], [wrapped(name) for name in found]
        figure.legend(handles, labels, loc="outside lower center", ncols=_columns(found))


def legend_room(names: Sequence[str]) -> float:
    """Inches that a legend of ``names`` takes."""
    rows = -(-len(names) // _columns(names))
    return rows * (0.2 + 0.16 * (lines_of(names) - 1))


def _columns(names: Sequence[str]) -> int:
    longest = max((min(len(name), _LETTERS) for name in names), default=0)
    return max(1, min(3, len(names), 110 // (longest + 8)))


def svg(figure: Figure) -> bytes:
    """The figure as a standalone SVG; text is drawn as outlines, so no font is needed."""
    return _save(figure, "svg", dpi=150)


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG, ``dpi`` dots an inch."""
    return _save(figure, "png", dpi=dpi)


def success_axis(axes: Axes) -> None:
    """A y axis for success rates: always 0 to 1, whatever was reached."""
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
    axes.grid(visible=False, axis="x")


def _save(figure: Figure, kind: str, *, dpi: int) -> bytes:
    buffer = io.BytesIO()
    # Without a date the bytes depend on the figure alone.
    metadata = {"Date": None} if kind == "svg" else None
    with styled():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
