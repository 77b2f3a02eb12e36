"""The vocabulary that every floor shares: array aliases, ``Transition``, ``Spec``, ``Metrics``."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jaxtyping
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register

ArrayLike = Array | np.ndarray
Key = PRNGKeyArray
Keys = jaxtyping.Key[Array, "_"]  # one key per seed, sample or environment
Scalar = Float[Array, ""]
Vector = Float[Array, "d"]
Observation = Any  # a pytree of arrays; an MLP sees its leaves concatenated
Metrics = dict[str, Array]


class Rows(eqx.Module):
    """Environment steps as they happened, raw, in time order; one row is (s, a, r, s').

    obs:         observation before the step (pytree)
    action:      the executed action, in [-1, 1]
    reward:      its reward
    terminated:  the value stops here: nothing is bootstrapped past this row
    ended:       the trajectory stops here, by termination or by time-out; the next row, if any,
                 belongs to another trajectory
    next_obs:    observation after the step (pytree)
    """

    obs: Observation
    action: Float[ArrayLike, "*batch a"]
    reward: Float[ArrayLike, "*batch"]
    terminated: Bool[ArrayLike, "*batch"]
    ended: Bool[ArrayLike, "*batch"]
    next_obs: Observation


class Transition(eqx.Module):
    """One h-step transition, or a batch of them. No agent knows h or gamma: they are in here.

    obs:       observation at the chunk's first step (pytree)
    action:    the chunk, flattened, in [-1, 1], D = h * action size
    reward:    sum of gamma^i r_i inside the chunk
    discount:  gamma^h, or 0 where the value must not be bootstrapped
    next_obs:  observation after the chunk's last real step (pytree)
    mask:      1 where an entry of the action is real, 0 past an episode's end; for cloning losses
    weight:    1 where the sample may teach the critic, else 0
    """

    obs: Observation
    action: Float[Array, "*batch d"]
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_obs: Observation
    mask: Float[Array, "*batch d"]
    weight: Float[Array, "*batch"]


@register("spec")
@dataclasses.dataclass(frozen=True)
class Spec:
    """What an agent must know of its problem before it sees data."""

    obs: Any
    """Shape of one observation, or a mapping from field to shape."""
    action: int
    """Size of one environment action; every entry lies in [-1, 1]."""
    offline_updates: int = 0
    """Updates planned before ``begin_online``; laws that anneal take fractions of it."""
    frames: tuple[str, ...] = ()
    """Fields that hold frames of bytes, which the replay keeps as such; an observation that is no
    mapping has the name ''."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        named = self.obs if isinstance(self.obs, dict) else {"": self.obs}
        if not named or not all(isinstance(k, str) and _is_shape(v) for k, v in named.items()):
            raise InvalidConfig(
                "spec.obs must be a shape, as in (29,), or a mapping from field to shape, "
                f"got {self.obs!r}"
            )
        if self.action < 1 or self.offline_updates < 0:
            raise InvalidConfig(
                "spec needs action >= 1 and offline_updates >= 0, got "
                f"{self.action} and {self.offline_updates}"
            )

    @property
    def obs_size(self) -> int:
        """Number of scalars in one observation."""
        shapes = self.obs.values() if isinstance(self.obs, dict) else [self.obs]
        return sum(math.prod(shape) for shape in shapes)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(n) is int and 0 < n < 2**31 for n in value)


def byte_fields(obs: Observation) -> tuple[str, ...]:
    """``Spec.frames`` of an observation, or of a batch of them."""
    named = obs if isinstance(obs, Mapping) else {"": obs}
    return tuple(name for name, leaf in named.items() if leaf.dtype == np.uint8)


def flatten_obs(obs: Observation) -> Vector:
    """One observation as one vector: its leaves, raveled, in the order of the tree."""
    leaves = jax.tree.leaves(obs)
    if len(leaves) == 1:
        return leaves[0].reshape(-1)
    return jax.numpy.concatenate([leaf.reshape(-1) for leaf in leaves])
