"""Matrix products at the precision that is asked for."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

P = ParamSpec("P")
T = TypeVar("T")


def product(x: Float[Array, "in"], weight: Float[Array, "in out"]) -> Float[Array, "out"]:
    """x @ weight, in the precision of ``jax.default_matmul_precision``.

    "bfloat16" rounds both factors, forwards and backwards, and adds up in float32, on every kind of
    device: XLA takes that word for TF32 on some and for nothing on a CPU. There "tensorfloat32" is
    float32.
    """
    if _asked() != "bfloat16":
        return x @ weight
    return jnp.dot(
        x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )


def exactly(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, traced with products of float32, whatever is the device's own default."""

    @functools.wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return exact


def _asked() -> str | None:
    return jax.config.values["jax_default_matmul_precision"]
