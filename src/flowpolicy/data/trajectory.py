"""The trajectory view: observations so far, and the actions from the last one on."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from flowpolicy.data.chunk import ChunkView
from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Rows, Transition


@register("trajectory_view")
@dataclasses.dataclass(frozen=True)
class TrajectoryView:
    """One step of the environment, with the trajectory of actions that begins there.

    obs:     the last ``history`` observations, oldest first, on a first axis; none where it is 1
    action:  ``length`` + 1 points: the action before the step, then the step's and those after it

    Reward, discount, next observation (with the same history) and weight are those of the one step.
    An episode's first observation stands for those before it, and 0 for the action before its
    first. Points past an end are 0 and masked, as in ``ChunkView``.
    """

    length: int = 15
    """Actions from the step on."""
    history: int = 1
    """Observations."""
    discount: float = 0.99
    """gamma, of one environment step."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.length < 1 or self.history < 1 or not 0 <= self.discount < 1:
            raise InvalidConfig(
                "trajectory_view needs length >= 1, history >= 1 and discount in [0, 1), got "
                f"{self.length}, {self.history} and {self.discount}"
            )

    @property
    def before(self) -> int:
        """Rows of a window before the step."""
        return max(self.history - 1, 1)

    @property
    def horizon(self) -> int:
        """Rows of a window."""
        return self.before + self.length

    @property
    def chunk(self) -> int:
        """1: actions are executed one by one."""
        return 1

    def __call__(self, window: Rows, exists: Bool[Array, "h"]) -> Transition:
        """The transition of one window."""
        now = self.before
        after = jax.tree.map(lambda x: x[now:], window)
        trajectory = ChunkView(self.length, self.discount)(after, exists[now:])
        first = jax.tree.map(lambda x: x[:1], after)
        step = ChunkView(1, self.discount)(first, exists[now : now + 1])

        # Rows before the step that no end parts from it, the newest ones.
        ends = jnp.cumsum(jnp.asarray(window.ended)[:now][::-1])
        known = jnp.sum(ends == 0)
        last = jnp.where(known > 0, jnp.asarray(window.action)[now - 1], 0.0)
        rows = jnp.maximum(jnp.arange(now + 1 - self.history, now + 1), now - known)
        obs = jax.tree.map(lambda x: jnp.asarray(x)[rows], window.obs)
        next_obs = jax.tree.map(
            lambda x, new: jnp.concatenate([x[1:], new[None]]), obs, step.next_obs
        )
        if self.history == 1:
            obs, next_obs = jax.tree.map(lambda x: x[0], (obs, next_obs))
        mask = jnp.broadcast_to((known > 0).astype(last.dtype), last.shape)
        return Transition(
            obs=obs,
            action=jnp.concatenate([last, trajectory.action]),
            reward=step.reward,
            discount=step.discount,
            next_obs=next_obs,
            mask=jnp.concatenate([mask, trajectory.mask]),
            weight=step.weight,
        )
