"""``jax.lax.gather``: windows of an array at computed places."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowpolicy.deploy.values import Function, Kind, Params, expect, ints
from flowpolicy.errors import CorruptFile


def gather(params: Params, ins: Sequence[Kind], outs: Sequence[Kind]) -> Function:
    """Windows of ``sizes`` at the starts in the last axis of the second value.

    offsets:    axes of the output that run inside a window
    collapsed:  axes of the first value of which a window has one entry, and the output no axis
    starts:     axes of the first value that the starts speak of
    batch, start_batch: axes of both values that are walked together
    outside:    "clip" moves a window inside; "fill" puts ``fill`` where it is not
    """
    operand, starts = ins[0].shape, ins[1].shape
    sizes, offsets = ints(params, "sizes"), ints(params, "offsets")
    collapsed, spoken = ints(params, "collapsed"), ints(params, "starts")
    batch, start_batch = ints(params, "batch"), ints(params, "start_batch")
    inner = [d for d in range(len(operand)) if d not in collapsed and d not in batch]
    rank = len(inner) + len(starts) - 1
    outer = [place for place in range(rank) if place not in offsets]
    if any(s > n for s, n in zip(sizes, operand, strict=True)) or len(offsets) != len(inner):
        raise CorruptFile(f"windows {sizes} do not fit into {operand}")
    shape = [0] * rank
    for place, size in zip(outer, starts[:-1], strict=True):
        shape[place] = size
    for place, d in zip(offsets, inner, strict=True):
        shape[place] = sizes[d]
    expect(outs[0], shape)

    def line(place: int, size: int) -> np.ndarray:
        return np.arange(size).reshape([size if i == place else 1 for i in range(rank)])

    steps = {d: line(place, sizes[d]) for place, d in zip(offsets, inner, strict=True)}
    together = {d: line(outer[s], operand[d]) for d, s in zip(batch, start_batch, strict=True)}
    where = {d: i for i, d in enumerate(spoken)}
    around = [starts[outer.index(i)] if i in outer else 1 for i in range(rank)]
    fill = _fill(params, outs[0])

    def take(x: Any, begin: Any) -> Any:
        index, inside = [], np.True_
        for d, size in enumerate(operand):
            first = together.get(d, np.zeros((), int))
            if d in where:
                asked = begin[..., where[d]].reshape(around)
                first = np.clip(asked, 0, size - sizes[d])
                inside = inside & (first == asked)
            index.append(first + steps.get(d, 0))
        taken = np.broadcast_to(x[tuple(index)], shape)
        return taken if fill is None else np.where(inside, taken, fill)

    return take


def _fill(params: Params, kind: Kind) -> Any:
    """What stands in windows that are outside; None where they are moved inside."""
    if params.get("outside") != "fill":
        return None
    value = params.get("fill")
    if value is None:
        return kind.numpy.type(np.nan)
    if type(value) not in (int, float, bool):
        raise CorruptFile("fill must be a number")
    return kind.numpy.type(value)
