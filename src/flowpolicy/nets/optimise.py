"""Optimisation: a model with the state of its optimiser, stepped by gradients."""

import dataclasses
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import optax

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register

M = TypeVar("M")


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
        if not self.rate > 0 or min(self.clip, self.hold, self.anneal, self.floor) < 0:
            raise InvalidConfig(
                "adam needs rate > 0 and clip, hold, anneal, floor >= 0, got "
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
    """A model and its optimiser's state. ``step`` returns the next one."""

    model: M
    opt_state: Any
    optimiser: Adam = eqx.field(static=True)

    @classmethod
    def create(cls, model: M, optimiser: Adam) -> "Trainable[M]":
        """Starts the optimiser at ``model``."""
        return cls(model, optimiser.transform().init(model), optimiser)  # pyright: ignore[reportArgumentType]

    def step(self, gradient: M) -> "Trainable[M]":
        """One step down ``gradient``, a pytree like the model."""
        # optax multiplies float32 moments with Python and integer scalars: not strict-promotable.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, opt_state = self.optimiser.transform().update(
                gradient,  # pyright: ignore[reportArgumentType]
                self.opt_state,
                self.model,  # pyright: ignore[reportArgumentType]
            )
            model = optax.apply_updates(self.model, updates)  # pyright: ignore[reportArgumentType]
        return type(self)(model, opt_state, self.optimiser)  # pyright: ignore[reportArgumentType]
