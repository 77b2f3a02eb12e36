"""What each primitive of ``jax.lax`` is called in a program, and which of its parameters stay.

The table is closed: a primitive that is not in it, or a setting that numpy has no like of, is an
error when the package is made.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import InvalidConfig

Params = Mapping[str, Any]
Step = tuple[str, dict[str, Any]]
Lowering = Callable[[Any], Step]
"""From an equation of a jaxpr to the name and the parameters of a step."""


def unsupported(equation: Any, why: str = "") -> InvalidConfig:
    """The error of an equation that a program cannot hold."""
    reason = f" {why}" if why else ""
    return InvalidConfig(
        f"the numpy back end has no step for jax.lax.{equation.primitive.name}{reason}; "
        "package without a program (numpy=False, --no-numpy) to run it with JAX alone"
    )


def _list(values: Any) -> list[int]:
    return [int(v) for v in values]


def _named(name: str) -> Lowering:
    return lambda equation: (name, {})


def _axes(name: str) -> Lowering:
    return lambda equation: (name, {"axes": _list(equation.params["axes"])})


def _axis(name: str, parameter: str = "axis") -> Lowering:
    return lambda equation: (name, {"axis": int(equation.params[parameter])})


def _arg(name: str) -> Lowering:
    def lower(equation: Any) -> Step:
        (axis,) = equation.params["axes"]
        return name, {"axis": int(axis)}

    return lower


def _cumulate(name: str) -> Lowering:
    def lower(equation: Any) -> Step:
        params = equation.params
        return name, {"axis": int(params["axis"]), "reverse": bool(params["reverse"])}

    return lower


def _division(equation: Any) -> Step:
    whole = np.issubdtype(equation.outvars[0].aval.dtype, np.integer)
    return ("int_div" if whole else "div"), {}


def _shift_right_logical(equation: Any) -> Step:
    if not np.issubdtype(equation.invars[0].aval.dtype, np.unsignedinteger):
        raise unsupported(equation, "of signed numbers")
    return "shift_right_logical", {}


def _erf_inv(equation: Any) -> Step:
    if equation.invars[0].aval.dtype != np.float32:
        raise unsupported(equation, "but in float32")
    return "erf_inv", {}


def _round(equation: Any) -> Step:
    if int(equation.params["rounding_method"]) != 1:
        raise unsupported(equation, "with halves away from zero")
    return "round_even", {}


def _select(equation: Any) -> Step:
    if len(equation.invars) != 3 or equation.invars[0].aval.dtype != np.bool_:
        raise unsupported(equation, "among more than two")
    return "select", {}


def _power(equation: Any) -> Step:
    if equation.invars[0].aval.dtype != equation.invars[1].aval.dtype:
        raise unsupported(equation, "with an exponent of another type")
    return "pow", {}


def _reshape(equation: Any) -> Step:
    if equation.params.get("dimensions") is not None:
        raise unsupported(equation, "in another order")
    return "reshape", {}


def _slice(equation: Any) -> Step:
    params = equation.params
    start = _list(params["start_indices"])
    step = params["strides"] or [1] * len(start)
    return "slice", {"start": start, "stop": _list(params["limit_indices"]), "step": _list(step)}


def _pad(equation: Any) -> Step:
    low, high, inner = zip(*equation.params["padding_config"], strict=True)
    if min((*low, *high)) < 0:
        raise unsupported(equation, "with negative padding")
    return "pad", {"low": _list(low), "high": _list(high), "inner": _list(inner)}


def _dot(equation: Any) -> Step:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    return "dot", {
        "left": _list(left),
        "right": _list(right),
        "left_batch": _list(left_batch),
        "right_batch": _list(right_batch),
    }


def _sort(equation: Any) -> Step:
    params = equation.params
    return "sort", {"axis": int(params["dimension"]), "keys": int(params["num_keys"])}


def _top(equation: Any) -> Step:
    params = equation.params
    return "top", {"axis": int(params.get("axis", -1)), "k": int(params["k"])}


def _gather(equation: Any) -> Step:
    params = equation.params
    numbers, mode = params["dimension_numbers"], params["mode"]
    modes = jax.lax.GatherScatterMode
    if mode not in (modes.CLIP, modes.PROMISE_IN_BOUNDS, modes.FILL_OR_DROP):
        raise unsupported(equation, f"with mode {mode}")
    outside: dict[str, Any] = {"outside": "clip"}
    if mode == modes.FILL_OR_DROP:
        outside = {"outside": "fill", "fill": _fill(equation)}
    return "gather", outside | {
        "sizes": _list(params["slice_sizes"]),
        "offsets": _list(numbers.offset_dims),
        "collapsed": _list(numbers.collapsed_slice_dims),
        "starts": _list(numbers.start_index_map),
        "batch": _list(numbers.operand_batching_dims),
        "start_batch": _list(numbers.start_indices_batching_dims),
    }


def _fill(equation: Any) -> Any:
    """What JAX puts outside: NaN, which JSON does not have (None), or an end of the range."""
    dtype, value = equation.outvars[0].aval.dtype, equation.params["fill_value"]
    if value is not None and not np.isnan(value):
        if np.isinf(value):
            raise unsupported(equation, "with infinity outside")
        return np.asarray(value).item()
    if not np.issubdtype(dtype, np.integer):
        return True if dtype == np.bool_ else None
    unsigned = np.issubdtype(dtype, np.unsignedinteger)
    return int(np.iinfo(dtype).max if unsigned else np.iinfo(dtype).min)


def _broadcast(equation: Any) -> Step:
    if len(equation.invars) != 1:
        raise unsupported(equation, "to a computed shape")
    return "broadcast", {"dims": _list(equation.params["broadcast_dimensions"])}


def _wrap(equation: Any) -> Step:
    if equation.params["impl"].name != "threefry2x32" or not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise unsupported(equation, "but with partitionable threefry2x32 keys")
    return "random_wrap", {}


_SAME = (
    "abs", "acos", "acosh", "add", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt",
    "ceil", "clamp", "cos", "cosh", "dynamic_slice", "dynamic_update_slice", "eq", "erf", "erfc",
    "exp", "exp2", "expm1", "floor", "ge", "gt", "is_finite", "le", "log", "log1p", "logistic",
    "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "random_bits",
    "random_split", "random_unwrap", "rem", "rsqrt", "shift_left", "shift_right_arithmetic",
    "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "xor",
)  # fmt: skip

LOWERINGS: dict[str, Lowering] = {
    **{name: _named(name) for name in _SAME},
    **{name: _axes(name) for name in ("reduce_and", "reduce_max", "reduce_min", "reduce_or")},
    **{name: _cumulate(name) for name in ("cummax", "cummin", "cumprod", "cumsum")},
    "add_any": _named("add"),
    "argmax": _arg("argmax"),
    "argmin": _arg("argmin"),
    "bitcast_convert_type": _named("bitcast"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _axis("concatenate", "dimension"),
    "convert_element_type": _named("convert"),
    "div": _division,
    "dot_general": _dot,
    "erf_inv": _erf_inv,
    "expand_dims": _named("reshape"),
    "gather": _gather,
    "integer_pow": lambda equation: ("integer_pow", {"y": int(equation.params["y"])}),
    "iota": _axis("iota", "dimension"),
    "pad": _pad,
    "pow": _power,
    "random_fold_in": _named("fold_in"),
    "random_wrap": _wrap,
    "reduce_prod": _axes("reduce_prod"),
    "reduce_sum": _axes("reduce_sum"),
    "reshape": _reshape,
    "rev": lambda equation: ("rev", {"axes": _list(equation.params["dimensions"])}),
    "round": _round,
    "select_n": _select,
    "shift_right_logical": _shift_right_logical,
    "slice": _slice,
    "sort": _sort,
    "split": _axis("split"),
    "squeeze": _named("reshape"),
    "stack": _axis("stack"),
    "top_k": _top,
    "transpose": lambda equation: (
        "transpose",
        {"order": _list(equation.params["permutation"])},
    ),
    "unstack": _axis("unstack"),
}
"""Primitives that become one step."""

ALIASES = ("copy", "copy_p", "optimization_barrier", "pvary", "stop_gradient")
"""Primitives that pass their values on as they are."""

CALLS = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}
"""Primitives that are functions called in place, and the parameter that holds the function."""


def is_key(dtype: Any) -> bool:
    """Whether values of ``dtype`` are random keys."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)
