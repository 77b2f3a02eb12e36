"""The terms of a flow map's loss: one sample to the residual of one equation.

A flow map of a velocity field is characterised by its diagonal, u_{t,t} = v_t, together with any
one of three equations (Boffi et al. 2025, section 3); each gives a term here, and a paper is a
choice of two:

    diagonal + lagrangian             LSD
    diagonal + eulerian               ESD, consistency training
    diagonal + mean_flow              MeanFlow; FMQ's offline loss; MVP
    diagonal + semigroup              PSD; with ``midpoint`` times PSD-M
    diagonal + shortcut               shortcut models, with ``dyadic`` times

The teacher is an argument: the flow itself (self-distillation), an average of it, a frozen one, or
the flow with the velocity of another (distillation). Whatever the teacher computes carries no
gradient. ``Term`` joins a residual with a law of times and a weight; ``flow_loss`` adds terms up.
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows.flow_map import FlowMap, Teacher
from flowpolicy.flows.interpolant import Interpolant, linear, velocity
from flowpolicy.flows.times import OnDiagonal, TimeLaw, Times
from flowpolicy.parts import register
from flowpolicy.types import Key, Metrics, Observation, Scalar, Vector

sg = jax.lax.stop_gradient


class Path(eqx.Module):
    """One sample: noise x0 and action x1, joined by an interpolant, in state s."""

    x0: Vector
    x1: Vector
    s: Observation
    interpolant: Interpolant = eqx.field(static=True, default=linear)

    def at(self, t: Scalar) -> Vector:
        """The point I_t."""
        return self.interpolant(t, self.x0, self.x1)

    def velocity(self, t: Scalar) -> Vector:
        """The sampled velocity dI/dt."""
        return velocity(self.interpolant, t, self.x0, self.x1)


Residual = Callable[[FlowMap, Teacher, Times, Path], Vector]


@register("diagonal")
def diagonal(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """u_{t,t}(I_t) - dI/dt: flow matching (FMQ's L_Diag; MVP Eq. 15)."""
    del teacher
    return flow.velocity(times.t, path.at(times.t), path.s) - path.velocity(times.t)


def _transported(teacher: Teacher, times: Times, a: Vector, v: Vector, s: Observation) -> Vector:
    """v + (t - r) (d/dr + v . grad) u_{r,t}(a): what u_{r,t}(a) must equal along velocity v."""
    r, t = times.r, times.t
    _, du = jax.jvp(
        lambda r, a: teacher.average_velocity(r, t, a, s), (r, a), (jnp.ones_like(r), v)
    )
    return v + (t - r) * du


@register("mean_flow")
def mean_flow(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """The Eulerian equation with the sampled velocity in the teacher (Geng et al. 2025).

    u_{r,t}(I_r) - sg[v + (t - r) (d/dr + v . grad) u_{r,t}(I_r)], v = dI/dr. MeanFlow writes it
    with noise at time 1; here noise is at 0, hence the plus sign. FMQ's released "ESD" is this.
    """
    a = path.at(times.r)
    target = _transported(teacher, times, a, path.velocity(times.r), path.s)
    return flow.average_velocity(times.r, times.t, a, path.s) - sg(target)


@register("eulerian")
def eulerian(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """The Eulerian equation with the teacher's own velocity u_{r,r} (ESD).

    Minus d/dr X_{r,t}(I_r) along the flow, which the truth makes zero. As in MeanFlow, and
    unlike Boffi et al., d/dr u carries no gradient either: only u_{r,t}(I_r) is trained.
    """
    a = path.at(times.r)
    v = teacher.velocity(times.r, a, path.s)
    target = _transported(teacher, times, a, v, path.s)
    return flow.average_velocity(times.r, times.t, a, path.s) - sg(target)


@register("lagrangian")
def lagrangian(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """d/dt X_{r,t}(I_r) - sg[v_t(X_{r,t}(I_r))] (LSD); trained through the derivative in t.

    FMQ's released "LSD" sends the gradient into v_t alone; we keep Boffi et al.'s.
    """
    a = path.at(times.r)
    point, moving = jax.jvp(
        lambda t: flow.flow(times.r, t, a, path.s), (times.t,), (jnp.ones_like(times.t),)
    )
    return moving - sg(teacher.velocity(times.t, point, path.s))


@register("semigroup")
def semigroup(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """u_{r,t} - sg[the mean velocity of two jumps, r to w and w to t] (PSD). No derivatives."""
    r, w, t = times
    a = path.at(r)
    u1 = teacher.average_velocity(r, w, a, path.s)
    u2 = teacher.average_velocity(w, t, a + (w - r) * u1, path.s)
    # At r = t the share of the first jump is 0 / 0; the two then agree and any share will do.
    share = jnp.where(t > r, (w - r) / jnp.where(t > r, t - r, 1.0), 0.5)
    target = share * u1 + (1.0 - share) * u2
    return flow.average_velocity(r, t, a, path.s) - sg(target)


@register("shortcut")
def shortcut(flow: FlowMap, teacher: Teacher, times: Times, path: Path) -> Vector:
    """``semigroup`` at the midpoint, the self-consistency of shortcut models (Frans et al. 2024).

    They draw ``dyadic`` times, clip to +-4 and take an averaged teacher; the first and the last
    are the caller's choice here, and nothing is clipped.
    """
    middle = 0.5 * (times.r + times.t)
    return semigroup(flow, teacher, Times(times.r, middle, times.t), path)


@register("term")
@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of a flow map's loss: a residual, the law of its times, and its weight."""

    residual: Residual = diagonal
    """Which equation."""
    times: TimeLaw = OnDiagonal()
    """The law of (r, w, t)."""
    weight: float = 1.0
    """Factor in the sum, at least 0."""
    start: float = 0.0
    """Fraction of the offline phase before which the term counts nothing."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not (0 <= self.weight < math.inf and 0 <= self.start <= 1):
            raise InvalidConfig(
                f"term needs weight >= 0 and finite, and start in [0, 1], got {self.weight} and "
                f"{self.start}"
            )


def masked_mean_square(residual: Vector, mask: Vector) -> Scalar:
    """Mean over all entries of mask * residual^2; masked entries count in the denominator (QC)."""
    return jnp.mean(mask * jnp.square(residual))


def flow_loss(
    key: Key,
    terms: tuple[Term, ...],
    flow: FlowMap,
    teacher: Teacher,
    x1: Vector,
    s: Observation,
    *,
    mask: Vector,
    progress: Scalar,
    interpolant: Interpolant = linear,
) -> tuple[Scalar, Metrics]:
    """The weighted sum of ``terms`` for one action, each with noise and times of its own."""
    total = jnp.zeros(())
    metrics: Metrics = {}
    for term, key_term in zip(terms, jax.random.split(key, len(terms)), strict=True):
        key_noise, key_time = jax.random.split(key_term)
        x0 = jax.random.normal(key_noise, x1.shape, x1.dtype)
        path = Path(x0, x1, s, interpolant)
        times = term.times(key_time, progress)
        value = masked_mean_square(term.residual(flow, teacher, times, path), mask)
        total = total + jnp.where(progress >= term.start, term.weight * value, 0.0)
        name = f"flow/{getattr(term.residual, '__name__', 'term')}"
        metrics[name if name not in metrics else f"{name}_{len(metrics)}"] = value
    return total, metrics
