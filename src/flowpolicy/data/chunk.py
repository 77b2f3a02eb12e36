"""From a window of consecutive rows to one h-step transition.

A window is h rows in time order, some of which may belong to a later trajectory or not exist yet
(``exists`` says which do). A view decides what a chunk that meets an end is worth.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import ArrayLike, Rows, Transition


@runtime_checkable
class View(Protocol):
    """How a window of rows becomes a transition."""

    @property
    def horizon(self) -> int:
        """h, rows of a window."""
        ...

    @property
    def chunk(self) -> int:
        """Actions of a transition, executed open loop: h, or 1 for n-step returns."""
        ...

    @property
    def discount(self) -> float:
        """gamma, of one environment step."""
        ...

    def __call__(self, window: Rows, exists: Bool[Array, "h"]) -> Transition:
        """The transition of one window, whose leaves have a leading axis of length horizon."""
        ...


def _check(name: str, horizon: int, discount: float) -> None:
    if horizon < 1 or not 0 <= discount < 1:
        raise InvalidConfig(
            f"{name} needs horizon >= 1 and discount in [0, 1), got {horizon} and {discount}"
        )


def _before(flags: Bool[ArrayLike, "h"]) -> Bool[Array, "h"]:
    """Whether any flag stands strictly before each position."""
    return jnp.concatenate([jnp.zeros(1, bool), jnp.cumsum(flags)[:-1] > 0])


def _assemble(
    window: Rows, exists: Bool[Array, "h"], gamma: float
) -> tuple[Bool[Array, "h"], Array, Array, Bool[Array, ""]]:
    """Which rows are real; the chunk's action, 0 where not; its return; whether it terminates."""
    real = exists & ~_before(window.ended | ~exists)
    counts = real & ~_before(window.terminated)
    powers = gamma ** jnp.arange(real.shape[0], dtype=jnp.float32)
    gain = jnp.sum(jnp.where(counts, powers * window.reward, 0.0))
    action = jnp.where(real[:, None], jnp.asarray(window.action), 0.0)
    return real, action, gain, jnp.any(window.terminated & real)


def _mask(real: Bool[Array, "h"], action: Array) -> Array:
    return jnp.broadcast_to(real[:, None], action.shape).astype(action.dtype).reshape(-1)


@register("chunk_view")
@dataclasses.dataclass(frozen=True)
class ChunkView:
    """QC's view: a chunk teaches the critic only if no trajectory ends before its last row.

    Rows past an end are masked (and their actions set to 0) for cloning. A termination inside a
    trajectory that goes on, as in relabelled play data, stops the return and the bootstrap; QC's
    code stops the bootstrap alone and lets later rewards through. A time-out on the last row
    bootstraps. On episodic tasks this weighting is biased: a chunk that would succeed early is
    never learned from (``ShorterReturnView`` is the unbiased alternative).
    """

    horizon: int = 5
    """h, rows of a chunk."""
    discount: float = 0.99
    """gamma, of one environment step."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check("chunk_view", self.horizon, self.discount)

    @property
    def chunk(self) -> int:
        """h."""
        return self.horizon

    def __call__(self, window: Rows, exists: Bool[Array, "h"]) -> Transition:
        """The transition of one window."""
        real, action, gain, terminated = _assemble(window, exists, self.discount)
        return Transition(
            obs=jax.tree.map(lambda x: x[0], window.obs),
            action=action.reshape(-1),
            reward=gain,
            discount=jnp.where(terminated, 0.0, self.discount**self.horizon),
            next_obs=jax.tree.map(lambda x: x[-1], window.next_obs),
            mask=_mask(real, action),
            weight=real[-1].astype(jnp.float32),
        )


@register("shorter_return_view")
@dataclasses.dataclass(frozen=True)
class ShorterReturnView:
    """A chunk cut by an end keeps its shorter return: gamma^n, n its real rows, weight 1.

    Unbiased for the value of executing the chunk until the end, with entries that were never
    executed set to 0.
    """

    horizon: int = 5
    """h, rows of a chunk."""
    discount: float = 0.99
    """gamma, of one environment step."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check("shorter_return_view", self.horizon, self.discount)

    @property
    def chunk(self) -> int:
        """h."""
        return self.horizon

    def __call__(self, window: Rows, exists: Bool[Array, "h"]) -> Transition:
        """The transition of one window."""
        real, action, gain, terminated = _assemble(window, exists, self.discount)
        length = jnp.sum(real)
        # A chunk cut by the newest row, and by no end, would be another policy's: half a chunk.
        whole = real[-1] | jnp.any(real & window.ended)
        power = self.discount ** length.astype(jnp.float32)
        return Transition(
            obs=jax.tree.map(lambda x: x[0], window.obs),
            action=action.reshape(-1),
            reward=gain,
            discount=jnp.where(terminated, 0.0, power),
            next_obs=jax.tree.map(lambda x: x[jnp.maximum(length - 1, 0)], window.next_obs),
            mask=_mask(real, action),
            weight=whole.astype(jnp.float32),
        )


@register("n_step_view")
@dataclasses.dataclass(frozen=True)
class NStepView:
    """The n-step return of a window's first action alone: BFN-n and FQL-n (Li et al. 2025).

    The return follows the data for h rows and not the policy, uncorrected. A window teaches the
    critic only if no trajectory ends before its last row, as in ``ChunkView``; the action is
    cloned always.
    """

    horizon: int = 5
    """h, rows of a window, n of the return."""
    discount: float = 0.99
    """gamma, of one environment step."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check("n_step_view", self.horizon, self.discount)

    @property
    def chunk(self) -> int:
        """1."""
        return 1

    def __call__(self, window: Rows, exists: Bool[Array, "h"]) -> Transition:
        """The transition of one window."""
        made = ChunkView(self.horizon, self.discount)(window, exists)
        size = window.action.shape[-1]
        return dataclasses.replace(made, action=made.action[:size], mask=made.mask[:size])


Views = Callable[[int, float], View]


@register("whole_chunks")
def whole_chunks(horizon: int, discount: float) -> View:
    """QC's weighting: ``ChunkView``."""
    return ChunkView(horizon, discount)


@register("shorter_returns")
def shorter_returns(horizon: int, discount: float) -> View:
    """Chunks that an end cuts keep their shorter return: ``ShorterReturnView``."""
    return ShorterReturnView(horizon, discount)


@register("n_step_returns")
def n_step_returns(horizon: int, discount: float) -> View:
    """One action a transition, with the return of ``horizon`` rows: ``NStepView``."""
    return NStepView(horizon, discount)
