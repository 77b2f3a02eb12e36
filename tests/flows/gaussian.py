"""The truth that flows are tested against: flow maps between Gaussians, in closed form.

Noise x0 ~ N(0, I) and actions x1 ~ N(m, sigma1^2), joined by alpha(t) x0 + beta(t) x1, are at time
t a Gaussian of mean beta m and variance sigma^2 = alpha^2 + beta^2 sigma1^2, and a path of the
flow keeps its standardised value:

    X_{r,t}(x) = beta(t) m + sigma(t) / sigma(r) (x - beta(r) m).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from flowpolicy.flows import FlowMap, Interpolant, Path, linear, trigonometric


class Schedule(NamedTuple):
    """beta and sigma^2 of an interpolant, with their divided differences (f(t) - f(r)) / (t - r).

    The differences are written out, so that the diagonal r = t is not 0 / 0.
    """

    interpolant: Interpolant
    beta: Callable
    beta_slope: Callable
    variance: Callable
    variance_slope: Callable


LINEAR = Schedule(
    linear,
    beta=lambda t: t,
    beta_slope=lambda r, t: jnp.ones_like(t),
    variance=lambda t, sigma: (1 - t) ** 2 + (t * sigma) ** 2,
    variance_slope=lambda r, t, sigma: (1 + sigma**2) * (t + r) - 2,
)

# With cos^2 + sigma1^2 sin^2 = (1 + sigma1^2) / 2 + (1 - sigma1^2) / 2 cos(pi t) and
# sin a - sin b = 2 cos((a + b) / 2) sin((a - b) / 2); jnp.sinc(x) is sin(pi x) / (pi x).
TRIGONOMETRIC = Schedule(
    trigonometric,
    beta=lambda t: jnp.sin(jnp.pi * t / 2),
    beta_slope=lambda r, t: jnp.pi / 2 * jnp.cos(jnp.pi * (t + r) / 4) * jnp.sinc((t - r) / 4),
    variance=lambda t, sigma: (1 + sigma**2) / 2 + (1 - sigma**2) / 2 * jnp.cos(jnp.pi * t),
    variance_slope=lambda r, t, sigma: (
        -jnp.pi / 2 * (1 - sigma**2) * jnp.sin(jnp.pi * (t + r) / 2) * jnp.sinc((t - r) / 2)
    ),
)

SCHEDULES = {"linear": LINEAR, "trigonometric": TRIGONOMETRIC}


class Gaussian(eqx.Module):
    """``scale`` times u_{r,t} for actions N(mean + s, sigma^2); ``scale`` = 1 is the truth."""

    mean: jax.Array
    sigma: jax.Array
    scale: jax.Array
    schedule: Schedule = eqx.field(static=True)

    def __call__(self, r, t, a, s):
        m = self.mean + s
        now, then = (jnp.sqrt(self.schedule.variance(x, self.sigma)) for x in (r, t))
        stretch = self.schedule.variance_slope(r, t, self.sigma) / ((now + then) * now)
        drift = self.schedule.beta_slope(r, t) * m
        return self.scale * (drift + stretch * (a - self.schedule.beta(r) * m))


def truth(schedule: Schedule, *, scale: float = 1.0, sigma_factor: float = 1.0) -> FlowMap:
    """The flow map of a 2-D Gaussian, one axis narrower than the noise and one wider."""
    sigma = jnp.array([0.4, 1.7]) * sigma_factor
    return FlowMap(Gaussian(jnp.array([0.7, -0.3]), sigma, jnp.array(scale), schedule), 2)


def jump_exactly(schedule: Schedule, flow: FlowMap, r, t, x, s):
    """X_{r,t}(x) from the closed form, without the average velocity."""
    m, sigma = flow.net.mean + s, flow.net.sigma
    ratio = jnp.sqrt(schedule.variance(t, sigma) / schedule.variance(r, sigma))
    return schedule.beta(t) * m + ratio * (x - schedule.beta(r) * m)


def draw_path(key: jax.Array, schedule: Schedule) -> Path:
    """A sample of noise and, independently of it, of an action of ``truth``, in a random state."""
    key_noise, key_action, key_state = jax.random.split(key, 3)
    net = truth(schedule).net
    s = jax.random.normal(key_state, (2,))
    x1 = net.mean + s + net.sigma * jax.random.normal(key_action, (2,))
    return Path(jax.random.normal(key_noise, (2,)), x1, s, schedule.interpolant)


def sum_of_squares(residual, flow, teacher, times, path) -> jax.Array:
    """|residual|^2 of one sample, what a loss takes the mean of."""
    return jnp.sum(jnp.square(residual(flow, teacher, times, path)))
