"""Steps that move, cut and join arrays: the rules of ``jax.lax``, in numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowpolicy.deploy.values import Function, Kind, Params, Rule, expect, ints, number
from flowpolicy.errors import CorruptFile

Kinds = Sequence[Kind]


def _broadcast(params: Params, ins: Kinds, outs: Kinds) -> Function:
    places = ints(params, "dims")
    shape = [1] * len(outs[0].shape)
    for place, size in zip(places, ins[0].shape, strict=True):
        shape[place] = size
    return lambda x: np.broadcast_to(np.reshape(x, shape), outs[0].shape)


def _reshape(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params, ins
    return lambda x: np.reshape(x, outs[0].shape)


def _transpose(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del ins, outs
    order = ints(params, "order")
    return lambda x: x.transpose(order)


def _slice(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del ins, outs
    bounds = [ints(params, name) for name in ("start", "stop", "step")]
    parts = tuple(slice(*part) for part in zip(*bounds, strict=True))
    return lambda x: x[parts]


def _begin(starts: Sequence[Any], sizes: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The window of ``sizes`` at ``starts``, moved inside ``shape``."""
    parts = []
    for start, size, whole in zip(starts, sizes, shape, strict=True):
        first = min(max(int(start), 0), whole - size)
        parts.append(slice(first, first + size))
    return tuple(parts)


def _dynamic_slice(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    sizes, shape = outs[0].shape, ins[0].shape
    return lambda x, *starts: x[_begin(starts, sizes, shape)]


def _dynamic_update_slice(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params, outs
    shape, sizes = ins[0].shape, ins[1].shape

    def update(x: Any, new: Any, *starts: Any) -> Any:
        x = x.copy()
        x[_begin(starts, sizes, shape)] = new
        return x

    return update


def _concatenate(params: Params, ins: Kinds, outs: Kinds) -> Function:
    axis = number(params, "axis")
    shape = list(ins[0].shape)
    shape[axis] = sum(kind.shape[axis] for kind in ins)
    expect(outs[0], shape)
    return lambda *xs: np.concatenate(xs, axis)


def _stack(params: Params, ins: Kinds, outs: Kinds) -> Function:
    axis = number(params, "axis")
    expect(outs[0], [*ins[0].shape[:axis], len(ins), *ins[0].shape[axis:]])
    return lambda *xs: np.stack(xs, axis)


def _split(params: Params, ins: Kinds, outs: Kinds) -> Function:
    axis = number(params, "axis")
    ends = np.cumsum([kind.shape[axis] for kind in outs])
    if ends[-1] != ins[0].shape[axis]:
        raise CorruptFile("the pieces are not the whole")
    if len(outs) == 1:
        return lambda x: x
    return lambda x: np.split(x, ends[:-1], axis)


def _unstack(params: Params, ins: Kinds, outs: Kinds) -> Function:
    axis = number(params, "axis")
    if len(outs) != ins[0].shape[axis]:
        raise CorruptFile("not as many pieces as there are")
    if len(outs) == 1:
        return lambda x: np.squeeze(x, axis)
    return lambda x: tuple(np.moveaxis(x, axis, 0))


def _pad(params: Params, ins: Kinds, outs: Kinds) -> Function:
    low, high, inner = (ints(params, name) for name in ("low", "high", "inner"))
    if min((*low, *high, *inner, 0)) < 0:
        raise CorruptFile("padding must not be negative")
    sides = tuple(zip(ins[0].shape, low, high, inner, strict=True))
    expect(outs[0], [a + max(n - 1, 0) * i + n + b for n, a, b, i in sides])
    inside = tuple(slice(a, a + max(n - 1, 0) * (i + 1) + (n > 0), i + 1) for n, a, _, i in sides)

    def pad(x: Any, value: Any) -> Any:
        out = np.full(outs[0].shape, value, outs[0].numpy)
        out[inside] = x
        return out

    return pad


def _rev(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del ins, outs
    axes = ints(params, "axes")
    return lambda x: np.flip(x, axes)


def _iota(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del ins
    axis, kind = number(params, "axis"), outs[0]
    shape = [n if i == axis else 1 for i, n in enumerate(kind.shape)]
    line = np.arange(kind.shape[axis]).astype(kind.numpy).reshape(shape)
    return lambda: np.broadcast_to(line, kind.shape)


SHAPES: dict[str, Rule] = {
    "broadcast": _broadcast,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
"""Their rules by name."""
