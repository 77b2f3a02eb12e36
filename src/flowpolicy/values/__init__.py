"""Critics: the ensemble, how its members are put together, TD learning, target averaging."""

from flowpolicy.values.critic import (
    Aggregate,
    Critic,
    mean,
    member,
    minimum,
    pessimistic,
    spread,
)
from flowpolicy.values.polyak import polyak
from flowpolicy.values.td import expectile_loss, td_loss, td_target

__all__ = [
    "Aggregate",
    "Critic",
    "expectile_loss",
    "mean",
    "member",
    "minimum",
    "pessimistic",
    "polyak",
    "spread",
    "td_loss",
    "td_target",
]
