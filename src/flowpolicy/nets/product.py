"""Matrix products at the precision that is asked for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def product(x: Float[Array, "in"], weight: Float[Array, "in out"]) -> Float[Array, "out"]:
    """x @ weight, in the precision of ``jax.default_matmul_precision``.

    XLA does not look at that on a CPU. There "bfloat16" rounds both factors, forwards and
    backwards, and adds up in float32; any other precision is float32.
    """
    if jax.default_backend() != "cpu" or _asked() != "bfloat16":
        return x @ weight
    return jnp.dot(
        x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )


def _asked() -> str | None:
    return jax.config.values["jax_default_matmul_precision"]
