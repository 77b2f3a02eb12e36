"""The memoryless SDE of a flow, its lean adjoint, and the loss that matches the two.

A velocity v that carries noise to actions on the linear path has, with t = 0 noise,

    da = (2 v_t(a) - a / t) dt + sigma_t dB,    sigma_t^2 = 2 (1 - t) / t,

the SDE whose law is the flow's at every time and whose end does not remember its start. Changing
its drift is a control problem: the law of a_1 becomes the behaviour's, tilted by exp(tau Q), where

    v = v_beta - sigma_t^2 / 2 g_t,    dg / dt = -(d/da (2 v_beta - a / t))^T g,
    g_1 = -tau grad Q(a_1)

holds on its own paths in the mean over those through a point. g is the lean adjoint: it keeps, of
the adjoint of back-propagation, what does not vanish at the optimum (Domingo-Enrich et al. 2025,
Adjoint Matching; Li and Levine 2026, QAM, Eqs. 15 to 26).

In ``steps`` equal steps h, t_i = i h, the discretisation is that of QAM's released code: t_i + h
stands where t_i would be divided by, sigma_i^2 = 2 (1 - t_i + h) / (t_i + h), the adjoint takes the
drift at time t_i + h and point a_i, and the last step of a path is one of an ODE, without noise.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.flows.flow_map import FlowMap
from flowpolicy.types import Key, Observation, Scalar, Vector

sg = jax.lax.stop_gradient


def grid(steps: int) -> Float[Array, "steps"]:
    """t_i = i / steps, where steps begin."""
    return jnp.arange(steps, dtype=float) / steps


def memoryless_noise(steps: int) -> Float[Array, "steps"]:
    """sigma_i = sqrt(2 (1 - t_i + h) / (t_i + h)); never 0, and never infinite."""
    t, h = grid(steps), 1.0 / steps
    return jnp.sqrt(2.0 * (1.0 - t + h) / (t + h))


def memoryless_path(
    key: Key, flow: FlowMap, last: FlowMap, steps: int, s: Observation
) -> Float[Array, "points d"]:
    """One path of the SDE of ``flow``, its steps + 1 points, from a_0 ~ N(0, I) on.

    The last step is an Euler step of ``last``, QAM's behaviour flow.
    """
    h, t = 1.0 / steps, grid(steps)
    key_start, key_noise = jax.random.split(key)
    a0 = jax.random.normal(key_start, (flow.action,))
    noise = jax.random.normal(key_noise, (steps - 1, flow.action))
    jolts = jnp.sqrt(h) * memoryless_noise(steps)[:-1, None] * noise

    def step(a: Vector, now: tuple[Scalar, Vector]) -> tuple[Vector, Vector]:
        t, jolt = now
        return a + h * (2.0 * flow.velocity(t, a, s) - a / (t + h)) + jolt, a

    a, path = jax.lax.scan(step, a0, (t[:-1], jolts))
    end = a + h * last.velocity(t[-1], a, s)
    return jnp.concatenate([path, a[None], end[None]])


def lean_adjoint(
    base: FlowMap, path: Float[Array, "points d"], g1: Vector, s: Observation
) -> Float[Array, "steps d"]:
    """g_i at the path's points but the last, from ``g1`` there back, along the drift of ``base``.

    One vector-Jacobian product by the action a step; nothing is clipped.
    """
    steps = path.shape[0] - 1
    h = 1.0 / steps

    def step(g: Vector, now: tuple[Scalar, Vector]) -> tuple[Vector, Vector]:
        t, a = now
        _, pull = jax.vjp(lambda a: 2.0 * base.velocity(t, a, s) - a / t, a)
        (back,) = pull(g)
        g = g + h * back
        return g, g

    return jax.lax.scan(step, g1, (grid(steps) + h, path[:-1]), reverse=True)[1]


def adjoint_matching(
    flow: FlowMap,
    base: FlowMap,
    path: Float[Array, "points d"],
    adjoint: Float[Array, "steps d"],
    s: Observation,
) -> Scalar:
    """sum_i |(2 / sigma_i) (v(a_i) - sg[v_beta(a_i)]) + sigma_i sg[g_i]|^2 at sg[a_i], t_i.

    Summed over steps and entries. Its minimum is v = v_beta - sigma_i^2 / 2 E[g_i | a_i].
    """
    steps = adjoint.shape[0]

    def residual(t: Scalar, sigma: Scalar, a: Vector, g: Vector) -> Vector:
        away = flow.velocity(t, a, s) - sg(base.velocity(t, a, s))
        return (2.0 / sigma) * away + sigma * g

    points = grid(steps), memoryless_noise(steps), sg(path[:-1]), sg(adjoint)
    return jnp.sum(jnp.square(jax.vmap(residual)(*points)))


def control_cost(
    flow: FlowMap, base: FlowMap, path: Float[Array, "points d"], s: Observation
) -> Scalar:
    """h sum_i 2 |v(a_i) - v_beta(a_i)|^2 / sigma_i^2: what a changed drift costs on its path.

    In the mean over paths it is the divergence between the two laws of paths. Nothing is stopped:
    its gradient goes through the path too.
    """
    steps = path.shape[0] - 1

    def cost(t: Scalar, sigma: Scalar, a: Vector) -> Scalar:
        away = flow.velocity(t, a, s) - base.velocity(t, a, s)
        return 2.0 * jnp.sum(jnp.square(away / sigma))

    points = grid(steps), memoryless_noise(steps), path[:-1]
    return jnp.sum(jax.vmap(cost)(*points)) / steps
