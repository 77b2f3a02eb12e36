"""The closed table of steps, and the rules of those that are entry by entry or draw noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowpolicy.deploy import threefry
from flowpolicy.deploy.elementwise import BINARY, TERNARY, UNARY
from flowpolicy.deploy.gather import gather
from flowpolicy.deploy.reductions import REDUCTIONS
from flowpolicy.deploy.shapes import SHAPES
from flowpolicy.deploy.values import Function, Kind, Params, Rule, expect, number
from flowpolicy.errors import CorruptFile

Kinds = Sequence[Kind]


def _entrywise(function: Function, arity: int) -> Rule:
    def rule(params: Params, ins: Kinds, outs: Kinds) -> Function:
        del params
        if len(ins) != arity:
            raise CorruptFile(f"takes {arity} values, got {len(ins)}")
        expect(outs[0], np.broadcast_shapes(*(kind.shape for kind in ins)))
        return function

    return rule


def _integer_pow(params: Params, ins: Kinds, outs: Kinds) -> Function:
    y = number(params, "y")
    expect(outs[0], ins[0].shape)
    if y == 3:
        return lambda x: x * x * x
    power = ins[0].numpy.type(y)
    return lambda x: np.power(x, power)


def _convert(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    before, after = ins[0].numpy, outs[0].numpy
    expect(outs[0], ins[0].shape)
    if before.kind != "f" or after.kind not in "iu":
        return lambda x: x.astype(after)
    # As in XLA, what does not fit becomes the nearest number that does, and NaN becomes 0.
    low, high = np.iinfo(after).min, np.iinfo(after).max

    def saturate(x: Any) -> Any:
        x = np.nan_to_num(np.asarray(x, np.float64), nan=0.0)
        inside = np.clip(x, float(low), np.nextafter(float(high), 0.0) if high > 2**53 else high)
        return inside.astype(after)

    return saturate


def _bitcast(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    expect(outs[0], ins[0].shape)
    if ins[0].numpy.itemsize != outs[0].numpy.itemsize:
        raise CorruptFile("bits are read as a type of another size")
    return lambda x: x.view(outs[0].numpy)


def _fold_in(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    expect(outs[0], np.broadcast_shapes(*(kind.shape for kind in ins)))
    return threefry.fold_in


def _random_split(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    shape = _drawn(ins, outs)
    return lambda key: threefry.split(key, shape)


def _random_bits(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    shape, dtype = _drawn(ins, outs), outs[0].numpy
    return lambda key: threefry.bits(key, shape, dtype)


def _drawn(ins: Kinds, outs: Kinds) -> tuple[int, ...]:
    """What is drawn for each key: the output's shape behind that of the keys."""
    place = len(ins[0].shape)
    expect(outs[0], [*ins[0].shape, *outs[0].shape[place:]])
    return outs[0].shape[place:]


def _wrap(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    expect(outs[0], ins[0].shape[:-1])
    return lambda x: x[..., 0].astype(np.uint64) << np.uint64(32) | x[..., 1].astype(np.uint64)


def _unwrap(params: Params, ins: Kinds, outs: Kinds) -> Function:
    del params
    expect(outs[0], [*ins[0].shape, 2])
    return lambda key: np.stack([key >> np.uint64(32), key & np.uint64(2**32 - 1)], -1).astype(
        np.uint32
    )


RULES: dict[str, Rule] = {
    **{name: _entrywise(f, 1) for name, f in UNARY.items()},
    **{name: _entrywise(f, 2) for name, f in BINARY.items()},
    **{name: _entrywise(f, 3) for name, f in TERNARY.items()},
    **SHAPES,
    **REDUCTIONS,
    "bitcast": _bitcast,
    "convert": _convert,
    "fold_in": _fold_in,
    "gather": gather,
    "integer_pow": _integer_pow,
    "random_bits": _random_bits,
    "random_split": _random_split,
    "random_unwrap": _unwrap,
    "random_wrap": _wrap,
}
"""Every step that a program may hold, besides ``scan``, ``while`` and ``cond``."""
