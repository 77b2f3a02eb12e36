"""Interpolants I(t, x0, x1): the path between noise x0 (t = 0) and an action x1 (t = 1)."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from flowpolicy.parts import register
from flowpolicy.types import Scalar, Vector


@runtime_checkable
class Interpolant(Protocol):
    """A path with I(0, x0, x1) = x0 and I(1, x0, x1) = x1, differentiable in t."""

    def __call__(self, t: Scalar, x0: Vector, x1: Vector) -> Vector:
        """The point at time ``t``."""
        ...


@register("linear")
def linear(t: Scalar, x0: Vector, x1: Vector) -> Vector:
    """(1 - t) x0 + t x1: rectified flow, and the path of FMQ, MVP and QC."""
    return (1.0 - t) * x0 + t * x1


def trigonometric(t: Scalar, x0: Vector, x1: Vector) -> Vector:
    """cos(pi t / 2) x0 + sin(pi t / 2) x1: keeps the variance of two unit Gaussians.

    For ``flow_loss`` given by hand alone: agents, and all that takes a straight line from noise to
    an action, have the linear path, so that this is no part to be named in a configuration.
    """
    angle = 0.5 * jnp.pi * t
    return jnp.cos(angle) * x0 + jnp.sin(angle) * x1


def velocity(interpolant: Interpolant, t: Scalar, x0: Vector, x1: Vector) -> Vector:
    """dI/dt, the derivative of the interpolant itself, so that the two cannot disagree."""
    return jax.jvp(lambda time: interpolant(time, x0, x1), (t,), (jnp.ones_like(t),))[1]
