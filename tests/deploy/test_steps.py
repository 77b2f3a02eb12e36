"""Every step of a program against JAX: traced, written as JSON, read back, run with numpy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.deploy.elementwise import erf_inv
from flowpolicy.deploy.loops import LOOPS
from flowpolicy.deploy.program import Program
from flowpolicy.deploy.steps import RULES
from flowpolicy.errors import InvalidConfig
from flowpolicy.packaging.trace import program

lax = jax.lax
DRAW = np.random.default_rng(0)


def normal(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


def uniform(*shape, low=-0.95, high=0.95):
    return DRAW.uniform(low, high, shape).astype(np.float32)


def whole(*shape, low=-9, high=9, dtype=np.int32):
    return DRAW.integers(low, high, shape).astype(dtype)


X, Y, P = normal(3, 4), normal(3, 4), uniform(3, 4, low=0.1, high=3.0)
U, V = whole(5, low=0, high=200, dtype=np.uint32), whole(5, low=0, high=40, dtype=np.uint32)
WIDE = whole(5, low=-100, high=100)
TIES = X.round() + np.float32(0)  # no -0, which JAX tells from 0
B, C = X > 0, Y > 0
KEY = np.array([3, 7], np.uint32)
SQUARE, TALL = normal(4, 4), normal(4, 2)


def key(data):
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def newton(x):
    """The square root by a loop that stops when it is close."""
    start = (x, 0.5 * (x + 1.0))
    near = lambda s: jnp.abs(s[0] - s[1]) > 1e-6  # noqa: E731
    return lax.while_loop(near, lambda s: (s[1], 0.5 * (s[1] + x / s[1])), start)[1]


def rows(x, y, backwards=False):
    """A loop along both arguments, with a constant and two carried values."""

    def step(carry, row):
        a, b = row
        total, last = carry
        return (total + a * b * 0.5, a), (a - total, last)

    return lax.scan(step, (jnp.zeros(4), y[0]), (x, y), reverse=backwards)


UNARY = {
    "abs": X, "acos": uniform(9), "acosh": P + 1, "asin": uniform(9), "asinh": X, "atan": X,
    "atanh": uniform(9), "cbrt": X, "ceil": X, "cos": X, "cosh": X, "erf": 2 * X,
    "erf_inv": uniform(99), "erfc": 2 * X, "exp": X, "exp2": X, "expm1": X, "floor": X,
    "is_finite": np.array([1, np.inf, -np.inf, np.nan], np.float32), "log": P, "log1p": P,
    "logistic": 5 * X, "neg": X, "rsqrt": P, "sign": np.array([-2, 0, 3], np.float32),
    "sin": X, "sinh": X, "sqrt": P, "square": X, "tan": X, "tanh": X,
}  # fmt: skip
BINARY = {
    "add": (X, Y), "atan2": (X, Y), "div": (X, Y), "eq": (X, X), "ge": (X, Y), "gt": (X, Y),
    "le": (X, Y), "lt": (X, Y), "max": (X, Y), "min": (X, Y), "mul": (X, Y), "ne": (X, X),
    "nextafter": (X, Y), "pow": (P, Y), "rem": (X, Y), "sub": (X, Y),
}  # fmt: skip
INTEGERS = {
    "bitwise_and": (U, V), "bitwise_or": (U, V), "bitwise_xor": (U, V), "shift_left": (U, V),
    "shift_right_logical": (U, V), "shift_right_arithmetic": (WIDE, WIDE % 40),
    "div": (whole(9), np.array([-4, -3, -2, -1, 1, 2, 3, 4, 5], np.int32)),
    "rem": (whole(9), np.array([-4, -3, -2, -1, 1, 2, 3, 4, 5], np.int32)),
}  # fmt: skip
CASES = {
    **{f"{k} float": (getattr(lax, k), v) for k, v in UNARY.items()},
    **{f"{k} float": (getattr(lax, k), *v) for k, v in BINARY.items()},
    **{f"{k} int": (getattr(lax, k), *v) for k, v in INTEGERS.items()},
    "not": (lax.bitwise_not, B),
    "not int": (lax.bitwise_not, WIDE),
    "round_even": (jnp.round, np.array([-1.5, -0.5, 0.5, 1.5, 2.4], np.float32)),
    "integer_pow 3": (lambda x: x**3, X),
    "integer_pow 5": (lambda x: lax.integer_pow(x, 5), X),
    "integer_pow -2": (lambda x: lax.integer_pow(x, -2), P),
    "select": (jnp.where, B, X, Y),
    "select by one": (lax.select_n, np.bool_(True), X, Y),
    "clamp": (lambda x: jnp.clip(x, -0.5, 0.7), X),
    "clamp itself": (lambda x: lax.clamp(-0.5, x, 0.7), X),
    "broadcast scalar": (lambda x: x + 1.0, np.float32(3)),
    "convert to int": (lambda x: x.astype(jnp.int32), 5 * X),
    "convert saturates": (
        lambda x: x.astype(jnp.int32),
        np.array([3e9, -3e9, np.inf, -np.inf, np.nan], np.float32),
    ),
    "convert to uint8": (lambda x: x.astype(jnp.uint8), np.array([-3, 4.7, 300], np.float32)),
    "convert wraps": (lambda x: x.astype(jnp.uint32), WIDE),
    "convert flag": (lambda x: x.astype(jnp.float32), B),
    "convert to flag": (lambda x: x.astype(bool), TIES),
    "bitcast": (lambda x: lax.bitcast_convert_type(x, jnp.uint32), X),
    "broadcast": (lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)), X),
    "reshape": (lambda x: x.reshape(2, 6), X),
    "squeeze": (lambda x: lax.squeeze(x[:1], (0,)), X),
    "transpose": (lambda x: jnp.transpose(x, (2, 0, 1)), normal(2, 3, 4)),
    "slice": (lambda x: lax.slice(x, (0, 1), (3, 4), (2, 2)), X),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, i), (2, 2)), X, np.int32(1)),
    "dynamic_slice outside": (lambda x, i: lax.dynamic_slice(x, (i, i), (2, 2)), X, np.int32(9)),
    "dynamic_update_slice": (
        lambda x, y, i: lax.dynamic_update_slice(x, y, (i, i)), X, SQUARE[:2, :2], np.int32(5),
    ),
    "concatenate": (lambda x, y: jnp.concatenate([x, y, x], 1), X, Y),
    "stack": (lambda x, y: jnp.stack([x, y], 1), X, Y),
    "split": (lambda x: lax.split(x, (1, 3), 1), X),
    "split into one": (lambda x: lax.split(x, (4,), 1), X),
    "unstack": (lambda x: jnp.unstack(x, axis=1), X),
    "unstack of one": (lambda x: jnp.unstack(x, axis=1), X[:, :1]),
    "pad": (lambda x: lax.pad(x, np.float32(7), ((1, 2, 0), (0, 1, 2))), X),
    "rev": (lambda x: lax.rev(x, (0, 1)), X),
    "iota": (lambda x: x + lax.broadcasted_iota(jnp.float32, (3, 4), 1), X),
    "gather rows": (lambda x, i: x[i], X, np.array([2, 0, 0], np.int32)),
    "gather columns": (lambda x, i: x[:, i], X, np.array([3, -1], np.int32)),
    "gather pairs": (lambda x, i, j: x[i, j], X, np.array([2, 0]), np.array([1, 3])),
    "gather side by side": (jax.vmap(lambda x, i: x[i]), X, np.array([2, 0, 3], np.int32)),
    "gather filled": (
        lambda x, i: x.at[i].get(mode="fill", fill_value=7.0), X, np.array([2, 9, -9], np.int32),
    ),
    "gather not a number": (
        lambda x, i: x.at[i].get(mode="fill"), X, np.array([0, 9], np.int32),
    ),
    "gather clipped": (
        lambda x, i: x.at[i, 1:3].get(mode="clip"), X, np.array([2, 9], np.int32),
    ),
    "take_along_axis": (lambda x, i: jnp.take_along_axis(x, i, 1), X, whole(3, 2, low=0, high=4)),
    "dot vector": (jnp.dot, SQUARE[0], SQUARE),
    "dot vectors": (jnp.dot, SQUARE[0], SQUARE[1]),
    "dot matrix": (jnp.dot, X, SQUARE),
    "dot transposed": (lambda x, y: jnp.einsum("ik,jk->ij", x, y), X, Y),
    "dot first axes": (lambda x, y: jnp.einsum("ki,kj->ij", x, y), X, Y),
    "dot two axes": (
        lambda x, y: jnp.einsum("abk,kbc->ac", x, y), normal(2, 3, 4), normal(4, 3, 2),
    ),
    "dot side by side": (
        lambda x, y: jnp.einsum("bik,bjk->bij", x, y), normal(5, 2, 3), normal(5, 4, 3),
    ),
    "dot outer": (jnp.outer, SQUARE[0], TALL[:, 0]),
    "dot tall": (lambda x, y: jnp.tensordot(x, y, 1), normal(2, 3, 4), TALL),
    "reduce_sum": (lambda x: jnp.sum(x, 0), X),
    "reduce_sum ints": (jnp.sum, WIDE),
    "reduce_max": (lambda x: jnp.max(x, 1), X),
    "reduce_min": (jnp.min, X),
    "reduce_prod": (lambda x: jnp.prod(x, 1), X),
    "reduce_and": (lambda x: jnp.all(x, 0), B | C),
    "reduce_or": (lambda x: jnp.any(x, 1), B & C),
    "argmax": (lambda x: jnp.argmax(x, 1), TIES),
    "argmin": (lambda x: jnp.argmin(x, 0), TIES),
    "cumsum": (lambda x: jnp.cumsum(x, 1), X),
    "cumsum backwards": (lambda x: lax.cumsum(x, 0, reverse=True), X),
    "cumprod": (lambda x: lax.cumprod(x, 1), X),
    "cummax": (lambda x: lax.cummax(x, 0), X),
    "cummin": (lambda x: lax.cummin(x, 1, reverse=True), X),
    "sort": (lambda x: jnp.sort(x, 0), X),
    "argsort": (lambda x: jnp.argsort(x), TIES),
    "sort by two": (lambda x, y, z: lax.sort((x, y, z), num_keys=2), TIES, Y.round(), X),
    "top": (lambda x: lax.top_k(x, 3), TIES),
    "top of natural numbers": (
        lambda x: lax.top_k(x, 3), np.array([2, 0, 7, 2**32 - 1], np.uint32),
    ),
    "top of whole numbers": (lambda x: lax.top_k(x, 3), np.array([5, -(2**31), 5, 3], np.int32)),
    "top with NaN": (
        lambda x: lax.top_k(x, 4), np.array([1, np.nan, np.inf, -np.inf, np.nan], np.float32),
    ),
    "random_bits": (lambda k: jax.random.bits(key(k), (3, 7)), KEY),
    "random normal": (lambda k: jax.random.normal(key(k), (200,)), KEY),
    "random uniform": (lambda k: jax.random.uniform(key(k), (9,), minval=-2.0, maxval=3.0), KEY),
    "random_split": (
        lambda k: jax.vmap(lambda k: jax.random.normal(k, (3,)))(jax.random.split(key(k), 5)), KEY,
    ),
    "random keys moved": (
        lambda k, i: jax.random.bits(jax.random.split(key(k), 5)[::-1][i], (2,)), KEY, np.int32(3),
    ),
    "fold_in": (lambda k, i: jax.random.key_data(jax.random.fold_in(key(k), i)), KEY, np.int32(-4)),
    "choice": (lambda k: jax.random.choice(key(k), 9, (4,)), KEY),
    "scan": (rows, X, Y),
    "scan backwards": (lambda x, y: rows(x, y, True), X, Y),
    "scan nothing": (lambda x: lax.fori_loop(0, 3, lambda i, c: c * 1.5 + x[i], x[0]), X),
    "while": (newton, np.float32(7)),
    "cond": (lambda i, x: lax.cond(i > 0, lambda x: x + 1.0, lambda x: x * 2.0, x), np.int32(0), X),
    "cond of three": (
        lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, lambda x: x], x), np.int32(5), X,
    ),
    "gelu and its slope": (jax.grad(lambda x: jnp.sum(jax.nn.gelu(x))), X),
    "exact gelu": (lambda x: jax.nn.gelu(x, approximate=False), 3 * X),
    "softmax": (jax.nn.softmax, X),
    "logsumexp": (jax.scipy.special.logsumexp, X),
    "layer norm's slope": (jax.grad(lambda x: jnp.sum(jax.nn.standardize(x) ** 3)), X),
    "literals": (lambda x: jnp.where(x > 0, -jnp.inf, jnp.nan), X),
    "a constant array": (lambda x: x @ jnp.asarray(TALL), SQUARE),
    "a constant in a loop": (
        lambda x: lax.scan(lambda c, row: (c + row @ jnp.asarray(SQUARE), c), x[0], x)[0], SQUARE,
    ),
}  # fmt: skip


def traced(function, *arguments):
    """The program of ``function``, its constants, and its names."""
    inputs = {f"x{i}": x for i, x in enumerate(arguments)}

    results = jax.eval_shape(lambda *given: jax.tree.leaves(function(*given)), *arguments)
    names = [f"y{i}" for i in range(len(results))]

    def call(weights, *given):
        return jax.tree.leaves(function(*given))

    data, constants = program(call, {}, inputs, names)
    return json.loads(json.dumps(data, allow_nan=False)), constants


def names_in(body):
    """Names of all steps, those of bodies within included."""
    for name, _, _, params in body["steps"]:
        yield name
        for value in params.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    yield from names_in(inner)


@pytest.mark.parametrize("name", CASES)
def test_a_step_gives_what_jax_gives(name):
    """Types and shapes exactly; numbers to a few units of the last place of float32."""
    function, *arguments = CASES[name]
    arguments = [np.asarray(x) for x in arguments]
    data, constants = traced(function, *arguments)
    ours = Program(data, constants)(*arguments)
    wanted = [np.asarray(y) for y in jax.tree.leaves(jax.jit(function)(*arguments))]
    assert len(ours) == len(wanted)
    for mine, theirs in zip(ours, wanted, strict=True):
        assert (np.asarray(mine).dtype, np.shape(mine)) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(mine, theirs, rtol=4e-6, atol=2e-6)


def test_every_step_is_tried():
    """The cases above meet the whole table; traced once more, for they may run elsewhere."""
    met = set()
    for function, *arguments in CASES.values():
        data, _ = traced(function, *[np.asarray(x) for x in arguments])
        met.update(names_in(data["body"]))
    assert set(RULES) | set(LOOPS) == met


def test_the_inverse_error_function_is_float32_s():
    """erf(erf_inv(x)) = x over the open interval and deep into both tails, in float64.

    4e-6 is the formula's own error, where 1 - x^2 cancels; JAX has the same formula and error.
    """
    from math import erfc

    tails = np.float32(1) - np.exp2(-np.arange(1, 25)).astype(np.float32)
    x = np.concatenate([np.linspace(-0.999, 0.999, 2001, dtype=np.float32), tails, -tails])
    y = erf_inv(x).astype(np.float64)
    rest = np.array([erfc(abs(v)) for v in y])
    slope = 2 / np.sqrt(np.pi) * np.exp(-(y**2))
    error = np.abs((1 - np.abs(x.astype(np.float64))) - rest) / slope
    assert (error <= 5e-6 * np.maximum(np.abs(y), 1e-3)).all()
    np.testing.assert_allclose(y, jax.scipy.special.erfinv(x), rtol=1e-6)
    with np.errstate(all="ignore"):
        ends = erf_inv(np.array([-1, 0, 1, 2], np.float32))
    np.testing.assert_array_equal(ends, [-np.inf, 0, np.inf, np.nan])


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: jnp.convolve(x[0], x[1]), "conv_general_dilated"),
        (lambda x: jax.scipy.special.gammaln(x), "lgamma"),
        (lambda x: jnp.linalg.qr(x)[0], "householder|geqrf|qr"),
        (lambda x: lax.round(x), "round with halves"),
        (lambda x: x.astype(jnp.bfloat16) + 1, "bfloat16"),
        (lambda x: jax.random.normal(jax.random.key(0, impl="rbg"), x.shape) + x, "random|key"),
    ],
)
def test_what_numpy_cannot_do_is_named(function, what):
    """When the program is written, and not on the robot."""
    with pytest.raises(InvalidConfig, match=what):
        traced(function, X)
