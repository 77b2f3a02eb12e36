"""Steps that act entry by entry; inputs are broadcast against each other, as numpy does.

Names and meanings are those of ``jax.lax``, with types fixed when the program was written.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

# Giles (2010), "Approximating the erfinv function", single precision: the two polynomials in
# w = -log(1 - x^2), about w = 2.5 and about sqrt(w) = 3, highest power first.
_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Any) -> Any:
    """The error function, as exact as Python's; slow (some 60 ns an entry)."""
    return np.asarray(_erf(x), np.asarray(x).dtype)[()]


def erfc(x: Any) -> Any:
    """1 - erf(x) without its cancellation."""
    return np.asarray(_erfc(x), np.asarray(x).dtype)[()]


def erf_inv(x: Any) -> Any:
    """The inverse of ``erf`` on float32, in (-1, 1); infinite at the ends."""
    w = -np.log1p(-x * x)
    values = x * _polynomial(_CENTRE, w - np.float32(2.5))
    far = w >= 5
    if np.any(far):  # one number in 300 of those that make noise
        tail = x * _polynomial(_TAIL, np.sqrt(np.maximum(w, 5)) - 3)
        values = np.where(far, tail, values)
    return np.where(np.abs(x) == 1, x * np.float32(np.inf), values)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    total = np.float32(coefficients[0])
    for c in coefficients[1:]:
        total = total * x + np.float32(c)
    return total


def _int_div(a: Any, b: Any) -> Any:
    quotient = np.floor_divide(a, b)
    towards_zero = (quotient < 0) & (quotient * b != a)
    return quotient + towards_zero.astype(np.asarray(a).dtype)


def _rsqrt(x: Any) -> Any:
    return 1 / np.sqrt(x)


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _clamp(low: Any, x: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _select(which: Any, no: Any, yes: Any) -> Any:
    return np.where(which, yes, no)


UNARY: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atanh": np.arctanh, "cbrt": np.cbrt,
    "ceil": np.ceil, "cos": np.cos, "cosh": np.cosh, "erf": erf, "erf_inv": erf_inv,
    "erfc": erfc, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "floor": np.floor,
    "is_finite": np.isfinite, "log": np.log, "log1p": np.log1p, "logistic": _logistic,
    "neg": np.negative, "not": np.invert, "round_even": np.rint, "rsqrt": _rsqrt,
    "sign": np.sign, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square,
    "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip

BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "and": np.bitwise_and, "atan2": np.arctan2, "div": np.true_divide,
    "eq": np.equal, "ge": np.greater_equal, "gt": np.greater, "int_div": _int_div,
    "le": np.less_equal, "lt": np.less, "max": np.maximum, "min": np.minimum,
    "mul": np.multiply, "ne": np.not_equal, "nextafter": np.nextafter, "or": np.bitwise_or,
    "pow": np.power, "rem": np.fmod, "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift, "shift_right_logical": np.right_shift,
    "sub": np.subtract, "xor": np.bitwise_xor,
}  # fmt: skip

TERNARY: dict[str, Callable[..., Any]] = {"clamp": _clamp, "select": _select}
