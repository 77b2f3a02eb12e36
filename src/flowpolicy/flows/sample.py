"""Sampling: jumps of a flow map, integration of its velocity, and the way back to noise."""

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows.flow_map import Flow, FlowMap
from flowpolicy.types import Key, Observation, Scalar, Vector

Field = Callable[[Scalar, Vector], Vector]
Method = Callable[[Field, Scalar, Scalar, Vector], Vector]


def jump(flow: Flow, times: Sequence[float], a: Vector, s: Observation) -> Vector:
    """X applied along ``times``, from ``a`` at times[0] to times[-1]; [0, 1] is one-step policy."""
    if len(times) < 2:
        raise InvalidConfig(f"times must hold at least a start and an end, got {list(times)}")
    points = [jnp.asarray(t, a.dtype) for t in times]
    for r, t in itertools.pairwise(points):
        a = flow.flow(r, t, a, s)
    return a


def euler(field: Field, t: Scalar, dt: Scalar, a: Vector) -> Vector:
    """One Euler step, order 1, one evaluation."""
    return a + dt * field(t, a)


def heun(field: Field, t: Scalar, dt: Scalar, a: Vector) -> Vector:
    """One Heun step, order 2, two evaluations."""
    k1 = field(t, a)
    k2 = field(t + dt, a + dt * k1)
    return a + 0.5 * dt * (k1 + k2)


def integrate(
    flow: FlowMap,
    steps: int,
    a: Vector,
    s: Observation,
    *,
    method: Method = euler,
    start: float | Scalar = 0.0,
    end: float | Scalar = 1.0,
) -> Vector:
    """Solves da/dt = v_t(a | s) from ``start`` to ``end`` in equal steps: the ODE way."""
    if steps < 1:
        raise InvalidConfig(f"steps must be at least 1, got {steps}")
    first = jnp.asarray(start, a.dtype)
    dt = (jnp.asarray(end, a.dtype) - first) / steps

    def step(a: Vector, i: Scalar) -> tuple[Vector, None]:
        return method(lambda t, x: flow.velocity(t, x, s), first + i * dt, dt, a), None

    return jax.lax.scan(step, a, jnp.arange(steps, dtype=a.dtype))[0]


class Integrated(eqx.Module):
    """A flow map used as a plain flow: its jumps are made by ``steps`` Euler steps of its diagonal.

    A refiner takes it wherever it takes a flow map; one jump then costs ``steps`` evaluations.
    """

    map: FlowMap
    steps: int = eqx.field(static=True)

    @property
    def action(self) -> int:
        """Size of the action."""
        return self.map.action

    def nfe(self, r: float) -> int:
        """One evaluation a step, however short the rest of the way is."""
        del r
        return self.steps

    def flow(self, r: Scalar, t: Scalar, a: Vector, s: Observation) -> Vector:
        """The point at time ``t`` of the path that is at ``a`` at time ``r``."""
        return integrate(self.map, self.steps, a, s, start=r, end=t)


def renoise_time(rho: float) -> float:
    """t' = rho / (1 + rho), the time at which signal to noise is ``rho`` (FMQ Algorithm 2)."""
    return rho / (1.0 + rho)


def renoise(key: Key, rho: float, a: Vector) -> Vector:
    """The action ``a`` taken back to t' = rho / (1 + rho): t' a + (1 - t') eps, eps ~ N(0, I)."""
    t = renoise_time(rho)
    return t * a + (1.0 - t) * jax.random.normal(key, a.shape, a.dtype)
