"""Flows and critics with known answers, for the refiners' tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

BEST = (0.3, -0.4)
CURVATURE = ((2.0, 0.6), (0.6, 1.0))
STEEPEST = float(np.linalg.eigvalsh(CURVATURE).max())


def quadratic(a):
    """-(a - a*)^T A (a - a*) / 2: its best action is ``BEST``, its best value 0."""
    offset = a - jnp.array(BEST, a.dtype)
    return -0.5 * offset @ jnp.array(CURVATURE, a.dtype) @ offset


class Scaled(eqx.Module):
    """X_{r,t}(a | s) = s + (a - s) * spread^(t - r): contracts noise about the state."""

    spread: jax.Array
    action: int = eqx.field(static=True)

    def nfe(self, r):
        return 1

    def flow(self, r, t, a, s):
        return s + (a - s) * self.spread ** (t - r)


def scaled(spread=0.5, action=2):
    """A ``Scaled`` flow; a spread of 1 is the identity."""
    return Scaled(jnp.asarray(spread), action)
