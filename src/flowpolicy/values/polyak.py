"""Polyak averaging of target networks."""

from typing import TypeVar

import jax

T = TypeVar("T")


def polyak(target: T, online: T, tau: float) -> T:
    """(1 - tau) target + tau online, leaf by leaf; tau in [0, 1].

    ``online`` are the *new* parameters. The codes of FQL, QC and FMQ mix in those from before
    the update, a lag of one step that is in no paper and not copied here.
    """
    return jax.tree.map(lambda old, new: (1.0 - tau) * old + tau * new, target, online)
