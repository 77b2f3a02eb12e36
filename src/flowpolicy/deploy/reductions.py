"""Steps that multiply, reduce and order arrays: the rules of ``jax.lax``, in numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowpolicy.deploy.values import Function, Kind, Params, Rule, expect, ints, number
from flowpolicy.errors import CorruptFile

Kinds = Sequence[Kind]


def _dot(params: Params, ins: Kinds, outs: Kinds) -> Function:
    """Contraction over some axes, side by side over others: (batch, free, contracted) products."""
    ca, cb = ints(params, "left"), ints(params, "right")
    ba, bb = ints(params, "left_batch"), ints(params, "right_batch")
    a, b = ins[0].shape, ins[1].shape
    free_a = [i for i in range(len(a)) if i not in ca and i not in ba]
    free_b = [i for i in range(len(b)) if i not in cb and i not in bb]
    if [a[i] for i in (*ca, *ba)] != [b[i] for i in (*cb, *bb)]:
        raise CorruptFile(f"shapes {a} and {b} do not multiply")
    side, rows, columns = [a[i] for i in ba], [a[i] for i in free_a], [b[i] for i in free_b]
    expect(outs[0], [*side, *rows, *columns])
    kind = outs[0]
    if len(ca) == 1 and not ba and len(b) == 2 and (len(a) == 1 or ca[0] == len(a) - 1):
        turned = cb[0] == 1
        return lambda x, y: np.dot(x, y.T if turned else y)
    depth = int(np.prod([a[i] for i in ca], dtype=np.int64))
    order_a, order_b = (*ba, *free_a, *ca), (*bb, *cb, *free_b)
    shape_a = [*side, int(np.prod(rows, dtype=np.int64)), depth]
    shape_b = [*side, depth, int(np.prod(columns, dtype=np.int64))]

    def product(x: Any, y: Any) -> Any:
        x, y = x.transpose(order_a).reshape(shape_a), y.transpose(order_b).reshape(shape_b)
        return np.matmul(x, y).reshape(kind.shape)

    return product


def _reduce(function: Any) -> Rule:
    def rule(params: Params, ins: Kinds, outs: Kinds) -> Function:
        del ins
        axes, dtype = ints(params, "axes"), outs[0].numpy
        return lambda x: function.reduce(x, axis=axes, dtype=dtype)

    return rule


def _arg(function: Function) -> Rule:
    def rule(params: Params, ins: Kinds, outs: Kinds) -> Function:
        del ins
        axis, dtype = number(params, "axis"), outs[0].numpy
        return lambda x: function(x, axis).astype(dtype)

    return rule


def _cumulate(function: Any) -> Rule:
    def rule(params: Params, ins: Kinds, outs: Kinds) -> Function:
        axis, dtype = number(params, "axis"), ins[0].numpy
        expect(outs[0], ins[0].shape)
        if params.get("reverse") is True:
            return lambda x: np.flip(function.accumulate(np.flip(x, axis), axis, dtype), axis)
        return lambda x: function.accumulate(x, axis, dtype)

    return rule


def _sort(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del outs
    axis, keys = number(params, "axis"), number(params, "keys")
    if not 1 <= keys <= len(ins):
        raise CorruptFile(f"sorts by 1 to {len(ins)} values, not by {keys}")

    def sort(*xs: Any) -> Any:
        order = np.lexsort(xs[:keys][::-1], axis)
        sorted_ = tuple(np.take_along_axis(x, order, axis) for x in xs)
        return sorted_ if len(xs) > 1 else sorted_[0]

    return sort


def _top(params: Params, ins: Kinds, outs: Kinds) -> Function:
    axis, count, dtype = number(params, "axis"), number(params, "k"), outs[1].numpy
    if not 0 <= count <= ins[0].shape[axis]:
        raise CorruptFile(f"{count} are asked for of {ins[0].shape[axis]}")

    def top(x: Any) -> Any:
        # Backwards, for not every integer has its negative. NaN comes first and of equals the
        # earlier, as in JAX, which alone tells 0 from -0.
        upwards = np.argsort(np.flip(x, axis), axis, kind="stable")
        order = (x.shape[axis] - 1 - np.flip(upwards, axis)).take(np.arange(count), axis)
        return np.take_along_axis(x, order, axis), order.astype(dtype)

    return top


REDUCTIONS: dict[str, Rule] = {
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "cummax": _cumulate(np.maximum),
    "cummin": _cumulate(np.minimum),
    "cumprod": _cumulate(np.multiply),
    "cumsum": _cumulate(np.add),
    "dot": _dot,
    "reduce_and": _reduce(np.logical_and),
    "reduce_max": _reduce(np.maximum),
    "reduce_min": _reduce(np.minimum),
    "reduce_or": _reduce(np.logical_or),
    "reduce_prod": _reduce(np.multiply),
    "reduce_sum": _reduce(np.add),
    "sort": _sort,
    "top": _top,
}
"""Their rules by name."""
