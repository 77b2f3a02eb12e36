"""An episode to look at: a moving picture, a strip of frames, or the path of what moved."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from flowpolicy.errors import InvalidData
from flowpolicy.report import style

_GAP = 4  # pixels between the frames of a strip


def frame_strip(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]], *, count: int = 8, width: int = 1200
) -> bytes:
    """At most ``count`` frames, evenly spaced, first and last included, in a row, as a PNG.

    ``width`` is the picture's width in pixels; frames are never enlarged.
    """
    frames = _checked(frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    tile = min(frames[0].shape[1], (width - _GAP * (count - 1)) // count)
    tiles = [_resized(frames[i], tile) for i in chosen]
    height = tiles[0].height
    strip = Image.new("RGB", (len(tiles) * (tile + _GAP) - _GAP, height), "white")
    for i, image in enumerate(tiles):
        strip.paste(image, (i * (tile + _GAP), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def animation(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    *,
    width: int = 320,
    milliseconds: int = 120,
) -> bytes:
    """The frames as an animated WebP that repeats, ``milliseconds`` a frame, the last held."""
    images = [_resized(frame, width) for frame in _checked(frames)]
    durations = [milliseconds] * (len(images) - 1) + [8 * milliseconds]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=70,
        method=4,
    )
    return buffer.getvalue()


def animation_gif(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    *,
    width: int = 320,
    milliseconds: int = 120,
) -> bytes:
    """As ``animation``, as a GIF, for places that do not show WebP; several times as large."""
    images = [_resized(frame, width).quantize(128) for frame in _checked(frames)]
    durations = [milliseconds] * (len(images) - 1) + [8 * milliseconds]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def paths(
    positions: Mapping[str, Float[np.ndarray, "time axes"]], *, success_step: int | None
) -> Figure:
    """Where things went: from above, and, for positions with a height, from the side as well.

    Positions are (x, y) or (x, y, z) in metres, one row a step. Marked: start, end, and the step
    that counted as success. The scale is the same along both axes of a panel.
    """
    sizes = {np.shape(path)[1] if np.ndim(path) == 2 else 0 for path in positions.values()}
    if not sizes or not sizes <= {2, 3} or len(sizes) > 1:
        raise InvalidData(f"paths must be (time, 2) or (time, 3), all alike; got {sorted(sizes)}")
    views = [(0, 1, "from above", "x, m", "y, m")]
    if sizes == {3}:
        views.append((0, 2, "from the side", "x, m", "height z, m"))
    with style.styled():
        figure = Figure(figsize=(4.6 * len(views) + 0.4, 4.0), layout="constrained")
        for axes, (i, j, title, xlabel, ylabel) in zip(
            figure.subplots(1, len(views), squeeze=False).flat, views, strict=True
        ):
            for index, (name, path) in enumerate(positions.items()):
                colour = style.PALETTE[(index + 1) % len(style.PALETTE)]
                _draw_path(axes, np.asarray(path)[:, [i, j]], name, colour, success_step)
            axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
            axes.set_aspect("equal", adjustable="datalim")
            axes.margins(0.12)
        _legend_marks(figure.axes[0], success_step is not None)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _draw_path(
    axes: Axes, path: np.ndarray, name: str, colour: str, success_step: int | None
) -> None:
    axes.plot(*path.T, color=colour, linewidth=1.6, label=name)
    axes.plot(*path[::5].T, ".", color=colour, ms=3.5)
    axes.plot(*path[0], "o", ms=7.5, mfc="white", mec=colour, mew=1.6, zorder=4)
    axes.plot(*path[-1], "s", ms=6, color=colour, zorder=4)
    if success_step is not None and success_step < len(path):
        axes.plot(*path[success_step], "*", ms=15, color=style.ORANGE, mec="white", zorder=5)


def _legend_marks(axes: Axes, success: bool) -> None:
    axes.plot([], [], "o", ms=7.5, mfc="white", mec=style.INK, mew=1.6, label="start")
    axes.plot([], [], "s", ms=6, color=style.INK, label="end")
    if success:
        axes.plot([], [], "*", ms=15, color=style.ORANGE, mec="white", label="success")


def _checked(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
) -> list[UInt8[np.ndarray, "height width 3"]]:
    shapes = {np.shape(frame) for frame in frames}
    dtypes = {np.asarray(frame).dtype for frame in frames}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3 or next(iter(shapes))[2] != 3:
        raise InvalidData(f"frames must all be (height, width, 3), at least one; got {shapes}")
    if dtypes != {np.dtype(np.uint8)}:
        raise InvalidData(f"frames must be uint8, got {dtypes}")
    return list(frames)


def _resized(frame: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(frame)
    if image.width <= width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.LANCZOS)
