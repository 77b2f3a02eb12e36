"""Temporal-difference learning on h-step transitions, and expectiles of values."""

import jax.numpy as jnp

from flowpolicy.types import Scalar, Transition, Vector
from flowpolicy.values.critic import Aggregate, Critic


def td_target(
    target: Critic, aggregate: Aggregate, transition: Transition, next_action: Vector
) -> Scalar:
    """reward + discount * aggregate(Q(next_obs, next_action)) for one transition.

    The discount is data: gamma^h, or 0 past a termination (``Transition``), never a setting.
    """
    q = aggregate(target(transition.next_obs, next_action))
    return transition.reward + transition.discount * q


def td_loss(critic: Critic, transition: Transition, y: Scalar) -> Scalar:
    """weight * mean over members of (Q_k(obs, action) - y)^2 for one transition."""
    q = critic(transition.obs, transition.action)
    return transition.weight * jnp.mean(jnp.square(q - y))


def expectile_loss(q: Scalar, v: Scalar, expectile: float) -> Scalar:
    """|expectile - 1[q < v]| (q - v)^2 (IQL, Kostrikov et al. 2022, Eq. 5).

    Its minimum over v is the ``expectile`` (in (0, 1)) of the values q: 0.5 gives their mean, and
    towards 1 their largest.
    """
    weight = jnp.where(q < v, 1.0 - expectile, expectile)
    return weight * jnp.square(q - v)
