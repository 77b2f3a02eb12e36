"""Action trajectories as flow trajectories: the tube around a demonstrated one, and its velocity.

A demonstration xi takes an action to each time in [0, 1]; here the time of the flow is that of
execution, and the end of the trajectory is t = 1. A tube is the law of points around xi whose
velocity a net learns, so that integrating the net gives one action after another (Jiang et al.
2025, Streaming Flow Policy). With a gain k, what is off xi comes back to it as exp(-k t).

    stabilised   a(t) = xi + (a(0) - xi(0)) exp(-k t),      v = xi' - k (a - xi)
    latent       a(t) = the same + sigma_r t z_0,           v_a = v + sigma_r (1 + k t) z_0
                 z(t) = (1 - (1 - sigma_1) t) z_0 + t xi,   v_z = xi + t xi' - (1 - sigma_1) z_0

with z_0 ~ N(0, I), which in v_z and v_a is read off z. In the learned flow the law at every time is
that of the data; the joint law over times need not be: two trajectories that cross come out as two
that do not, and with the latent partly as those that do.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows.flow_map import FlowMap
from flowpolicy.flows.losses import masked_mean_square
from flowpolicy.flows.sample import integrate
from flowpolicy.parts import register
from flowpolicy.types import Key, Observation, Scalar, Vector

Trajectory = Callable[[Scalar], Vector]
"""xi: a time in [0, 1] to an action."""
State = Float[Array, "x"]
"""An action, and whatever flows with it."""


def along(points: Float[Array, "points d"], t: Scalar) -> Vector:
    """The piecewise linear trajectory through ``points``, which are equally far apart in time."""
    segments = points.shape[0] - 1
    i = jnp.clip(jnp.floor(t * segments).astype(jnp.int32), 0, segments - 1)
    return points[i] + (t * segments - i.astype(t.dtype)) * (points[i + 1] - points[i])


def moving(xi: Trajectory, t: Scalar) -> tuple[Vector, Vector]:
    """xi(t) and xi'(t), the derivative of xi itself."""
    return jax.jvp(xi, (t,), (jnp.ones_like(t),))


@runtime_checkable
class Tube(Protocol):
    """The conditional flow around a trajectory. A state begins with the action's d entries."""

    @property
    def copies(self) -> int:
        """Size of a state over that of an action."""
        ...

    @property
    def gain(self) -> float:
        """k, per duration of the trajectory."""
        ...

    def start(self, key: Key, a: Vector, spread: float = 1.0) -> State:
        """x(0) of a trajectory from ``a``; ``spread`` is a factor of the action's noise."""
        ...

    def point(self, t: Scalar, x0: State, xi: Trajectory) -> State:
        """x(t) of the path from x(0) = ``x0``."""
        ...

    def velocity(self, t: Scalar, x: State, xi: Trajectory) -> State:
        """dx/dt at x(t) = ``x``."""
        ...


@register("stabilised")
@dataclasses.dataclass(frozen=True)
class Stabilised:
    """The deterministic variant: a state is an action, N(xi(t), sigma^2 exp(-2 k t)) at t."""

    sigma: float = 0.05
    """sigma_0, standard deviation at the start, at least 0. The released code has 0.1 on Push-T,
    and 0.001 with the gain, 0.05 without, on its toys. With 0 nothing off xi is learned."""
    gain: float = 2.5
    """k, at least 0. The released code has 2.5 on its toys, and 0 on Push-T: nothing comes back."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not (0 <= self.sigma < math.inf and 0 <= self.gain < math.inf):
            raise InvalidConfig(
                "stabilised needs sigma >= 0 (released runs: 0.001 to 0.1) and gain >= 0 (0 to "
                f"2.5), both finite, got {self.sigma} and {self.gain}"
            )

    @property
    def copies(self) -> int:
        """1."""
        return 1

    def start(self, key: Key, a: Vector, spread: float = 1.0) -> State:
        """a + spread sigma eps."""
        return a + spread * self.sigma * jax.random.normal(key, a.shape, a.dtype)

    def point(self, t: Scalar, x0: State, xi: Trajectory) -> State:
        """xi(t) + (x0 - xi(0)) exp(-k t)."""
        return xi(t) + (x0 - xi(jnp.zeros_like(t))) * jnp.exp(-self.gain * t)

    def velocity(self, t: Scalar, x: State, xi: Trajectory) -> State:
        """xi'(t) - k (x - xi(t))."""
        here, slope = moving(xi, t)
        return slope - self.gain * (x - here)


@register("latent")
@dataclasses.dataclass(frozen=True)
class Latent:
    """The stochastic variant: a state is (a, z), and z lets trajectories that meet change sides.

    a has the variance sigma_0^2 exp(-2 k t) + sigma_r^2 t^2 around xi(t), sigma_1^2 at the end.
    """

    sigma_start: float = 0.05
    """sigma_0, of the action at t = 0, at most sigma_1 exp(k). The released code has 0.001 on its
    toys, 0.1 on Push-T."""
    sigma_end: float = 0.05
    """sigma_1, of the action and of the latent at t = 1, in (0, 1]. The released code has 0.05 on
    its toys; on Push-T 0.1, which with k = 0 leaves the action no noise of the latent."""
    gain: float = 2.5
    """k, at least 0. The released code has 2.5 on its toys, 0 on Push-T."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        positive = 0 <= self.gain < math.inf and 0 <= self.sigma_start < math.inf
        if not (positive and 0 < self.sigma_end <= 1):
            raise InvalidConfig(
                "latent needs gain >= 0 (released runs: 0 to 2.5) and sigma_start >= 0 (0.001 to "
                "0.1), both finite, and sigma_end in (0, 1] (0.05 to 0.1), got "
                f"{self.gain}, {self.sigma_start} and {self.sigma_end}"
            )
        if self.sigma_start * math.exp(-self.gain) > self.sigma_end:
            raise InvalidConfig(
                f"latent.sigma_start must be at most sigma_end * exp(gain) = "
                f"{self.sigma_end * math.exp(self.gain):.4g}, got {self.sigma_start}: the latent "
                "adds the variance sigma_end^2 - sigma_start^2 exp(-2 gain), which must not be "
                "negative. Released runs: 0.001 with sigma_end 0.05 and gain 2.5 (toys), 0.1 with "
                "0.1 and 0 (Push-T)"
            )

    @property
    def copies(self) -> int:
        """2."""
        return 2

    @property
    def sigma_r(self) -> float:
        """What the latent adds to the action at t = 1: sqrt(sigma_1^2 - sigma_0^2 exp(-2 k))."""
        return math.sqrt(self.sigma_end**2 - (self.sigma_start * math.exp(-self.gain)) ** 2)

    def start(self, key: Key, a: Vector, spread: float = 1.0) -> State:
        """(a + spread sigma_0 eps, z_0)."""
        noise, z0 = jax.random.normal(key, (2, *a.shape), a.dtype)
        return jnp.concatenate([a + spread * self.sigma_start * noise, z0])

    def point(self, t: Scalar, x0: State, xi: Trajectory) -> State:
        """(a(t), z(t)); see the top of the page."""
        a0, z0 = jnp.split(x0, 2)
        here = xi(t)
        back = (a0 - xi(jnp.zeros_like(t))) * jnp.exp(-self.gain * t)
        a = here + back + self.sigma_r * t * z0
        return jnp.concatenate([a, self._keeps(t) * z0 + t * here])

    def velocity(self, t: Scalar, x: State, xi: Trajectory) -> State:
        """(v_a, v_z), z_0 being read off z."""
        a, z = jnp.split(x, 2)
        here, slope = moving(xi, t)
        z0 = (z - t * here) / self._keeps(t)
        va = slope - self.gain * (a - here) + self.sigma_r * (1.0 + self.gain * t) * z0
        return jnp.concatenate([va, here + t * slope - (1.0 - self.sigma_end) * z0])

    def _keeps(self, t: Scalar) -> Scalar:
        return 1.0 - (1.0 - self.sigma_end) * t


def streaming_loss(
    key: Key,
    tube: Tube,
    flow: FlowMap,
    points: Float[Array, "points d"],
    mask: Float[Array, "segments d"],
    s: Observation,
) -> Scalar:
    """mask |v_theta(x, t | s) - v(x, t)|^2 at t ~ U[0, 1) and x of the tube around ``points``.

    A mean over the state's entries. ``mask`` is that of the segment t lies in. Nothing of the
    target depends on the net, so that there is no gradient to stop.
    """
    key_time, key_start = jax.random.split(key)
    t = jax.random.uniform(key_time, dtype=points.dtype)

    def xi(t: Scalar) -> Vector:
        return along(points, t)

    x = tube.point(t, tube.start(key_start, points[0]), xi)
    residual = flow.velocity(t, x, s) - tube.velocity(t, x, xi)
    segment = jnp.floor(t * mask.shape[0]).astype(jnp.int32)
    return masked_mean_square(residual, jnp.tile(mask[segment], tube.copies))


def streamed(
    flow: FlowMap, segments: int, substeps: int, x: State, s: Observation
) -> Float[Array, "segments x"]:
    """The states at t = 1 / segments, ..., 1 from ``x`` at 0, ``substeps`` Euler steps each."""

    def step(x: State, i: Scalar) -> tuple[State, State]:
        x = integrate(flow, substeps, x, s, start=i / segments, end=(i + 1.0) / segments)
        return x, x

    return jax.lax.scan(step, x, jnp.arange(segments, dtype=x.dtype))[1]
