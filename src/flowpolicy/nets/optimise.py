"""Optimisation: a model with the state of its optimiser, stepped by gradients."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Scalar

M = TypeVar("M")
T = TypeVar("T")

LARGEST = float(jnp.finfo(jnp.float32).max)
"""A norm that stands for any that is not finite; a limit that every finite norm is below."""


@register("adam")
@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) with the defaults of the papers: no decay, no clipping."""

    rate: float = 3e-4
    """Learning rate."""
    clip: float = 0.0
    """Global norm at which gradients are clipped; 0 for never."""
    hold: int = 0
    """Steps at the full rate before it is lowered."""
    anneal: int = 0
    """Steps over which the rate then falls linearly to ``floor``; 0 for a constant rate (the
    papers)."""
    floor: float = 0.0
    """Rate after the annealing, at least 0."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        others = (self.clip, self.hold, self.anneal, self.floor)
        if not (0 < self.rate < math.inf and all(0 <= x < math.inf for x in others)):
            raise InvalidConfig(
                "adam needs rate > 0 and clip, hold, anneal, floor >= 0, all finite, got "
                f"{self.rate}, {self.clip}, {self.hold}, {self.anneal}, {self.floor}"
            )

    def transform(self) -> optax.GradientTransformation:
        """The optax transformation."""
        rate = self.rate
        if self.anneal:
            rate = optax.linear_schedule(self.rate, self.floor, self.anneal, self.hold)
        adam = optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(self.clip), adam) if self.clip else adam


class Trainable(eqx.Module, Generic[M]):
    """A model and its optimiser's state. ``step`` returns the next one.

    norm:  global norm of the last gradient, before any clipping; ``LARGEST`` if it was not finite
    limit: the norm from which on a gradient is not followed; ``LARGEST`` follows every finite one
    """

    model: M
    opt_state: Any
    norm: Scalar
    limit: Scalar
    optimiser: Adam = eqx.field(static=True)

    @classmethod
    def create(cls, model: M, optimiser: Adam) -> "Trainable[M]":
        """Starts the optimiser at ``model``."""
        opt_state = optimiser.transform().init(model)  # pyright: ignore[reportArgumentType]
        zero = jnp.zeros(())
        return cls(model, opt_state, zero, jnp.full_like(zero, LARGEST), optimiser)

    def step(self, gradient: M) -> "Trainable[M]":
        """One step down ``gradient``, a pytree like the model.

        Where the gradient's norm is not below ``limit``, model, moments and counters stay.
        """
        norm = gradient_norm(gradient)
        model, opt_state = either(
            norm < self.limit, lambda: self._stepped(gradient), lambda: (self.model, self.opt_state)
        )
        return type(self)(model, opt_state, norm, self.limit, self.optimiser)

    def _stepped(self, gradient: M) -> tuple[M, Any]:
        # optax multiplies float32 moments with Python and integer scalars: not strict-promotable.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, opt_state = self.optimiser.transform().update(
                gradient,  # pyright: ignore[reportArgumentType]
                self.opt_state,
                self.model,  # pyright: ignore[reportArgumentType]
            )
            return optax.apply_updates(self.model, updates), opt_state  # pyright: ignore[reportArgumentType, reportReturnType]


def either(condition: Bool[Array, ""], yes: Callable[[], T], no: Callable[[], T]) -> T:
    """``yes()`` where ``condition`` holds, else ``no()``.

    On a CPU one of them is computed. An accelerator would have to ask the host which; there both
    are, and every entry is chosen. Measured on 2.4 million parameters, 2 cores, milliseconds of
    processor time a step of Adam: 4.9 unguarded, 5.5 so, 10.2 by choosing entries.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.cond(condition, yes, no)
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), yes(), no())


def gradient_norm(gradient: Any) -> Scalar:
    """Euclidean norm over all entries of all leaves; ``LARGEST`` where that is not finite."""
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
    norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    return jnp.where(norm < LARGEST, norm, LARGEST)
