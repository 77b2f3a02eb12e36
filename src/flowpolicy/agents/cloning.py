"""The flow map's own loss over a batch, which every agent with a flow map trains by.

A loss is a tuple of terms: flow matching on the diagonal and one equation of flow maps off it. The
functions here are those of the papers, so that a configuration says ``terms=esd_terms()``.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowpolicy.flows import (
    Curriculum,
    Dyadic,
    FlowMap,
    LogitNormal,
    Midpoint,
    OnDiagonal,
    Teacher,
    Term,
    TimeLaw,
    Triangle,
    diagonal,
    eulerian,
    flow_loss,
    lagrangian,
    mean_flow,
    semigroup,
    shortcut,
)
from flowpolicy.nets import Trainable
from flowpolicy.types import Key, Metrics, Scalar, Transition


def fmq_terms(start: float = 0.005, end: float = 0.05) -> tuple[Term, ...]:
    """FMQ's offline loss: L_Diag + L_ESD, the latter from ``start`` on, its curriculum to ``end``.

    L_ESD is the Eulerian equation with the sampled velocity, that is MeanFlow's. ``start`` and
    ``end`` are fractions of the offline phase (released code: 5 000 and 50 000 of a million).
    """
    return (
        Term(residual=diagonal, times=OnDiagonal()),
        Term(residual=mean_flow, times=Curriculum(start, end), start=start),
    )


def flow_matching_terms() -> tuple[Term, ...]:
    """Flow matching alone, t ~ U[0, 1): the behaviour flow of QC, FQL and IFQL."""
    return (Term(residual=diagonal, times=OnDiagonal()),)


def mean_flow_terms(law: TimeLaw = LogitNormal()) -> tuple[Term, ...]:
    """MeanFlow (Geng et al. 2025): the Eulerian equation with the sampled velocity, and its law.

    There three quarters of a batch lie on the diagonal, where the equation is flow matching; here,
    as in MVP (Eqs. 9 and 15), the diagonal is a term of its own and every sample serves both.
    """
    return _with_diagonal(Term(mean_flow, law))


def esd_terms(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """Eulerian self-distillation (Boffi et al. 2025), the flow's own velocity in the equation.

    As in MeanFlow only u_{r,t} is trained, not its derivatives; Boffi et al. stop less.
    """
    return _with_diagonal(Term(eulerian, law))


def lsd_terms(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """Lagrangian self-distillation (Boffi et al. 2025), their recommendation."""
    return _with_diagonal(Term(lagrangian, law))


def psd_terms(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """Progressive self-distillation (Boffi et al. 2025): the semigroup, w uniform in [r, t]."""
    return _with_diagonal(Term(semigroup, law))


def psd_midpoint_terms(law: TimeLaw = Triangle()) -> tuple[Term, ...]:
    """The semigroup with w in the middle of r and t (PSD-M of Boffi et al. 2025)."""
    return _with_diagonal(Term(semigroup, Midpoint(law)))


def shortcut_terms(levels: int = 7) -> tuple[Term, ...]:
    """Shortcut models (Frans et al. 2024): jumps of 2^-k on their grid, two halves make a whole.

    They give an eighth of a batch to it, average the teacher and clip; here every sample serves
    both terms, the teacher is the flow itself, and nothing is clipped.
    """
    return _with_diagonal(Term(shortcut, Dyadic(levels)))


def _with_diagonal(term: Term) -> tuple[Term, ...]:
    return Term(diagonal, OnDiagonal()), term


def weighted(batch: Transition, weights: Float[Array, "batch"]) -> Transition:
    """``batch`` with every sample's cloning loss multiplied by its weight, a number.

    The mask is a factor of the squared residual, so the weight goes there.
    """
    mask = jax.lax.stop_gradient(weights)[:, None] * batch.mask
    return dataclasses.replace(batch, mask=mask)


@dataclasses.dataclass(frozen=True)
class Cloning:
    """Terms of the loss and the length of the phase their schedules are fractions of."""

    terms: tuple[Term, ...]
    updates: int

    def __call__(
        self, key: Key, flow: FlowMap, batch: Transition, count: Int[Array, ""]
    ) -> tuple[Scalar, Metrics]:
        """The batch mean of the loss, self-distilled, and of each term."""
        return self.taught(key, flow, flow, batch, count)

    def taught(
        self, key: Key, flow: FlowMap, teacher: Teacher, batch: Transition, count: Int[Array, ""]
    ) -> tuple[Scalar, Metrics]:
        """The same with a teacher of one's own."""
        progress = jnp.minimum(count.astype(jnp.float32) / max(self.updates, 1), 1.0)

        def one(key: Key, sample: Transition) -> tuple[Scalar, Metrics]:
            return flow_loss(
                key,
                self.terms,
                flow,
                teacher,
                sample.action,
                sample.obs,
                mask=sample.mask,
                progress=progress,
            )

        keys = jax.random.split(key, batch.reward.shape[0])
        total, metrics = jax.vmap(one)(keys, batch)
        return jnp.mean(total), jax.tree.map(jnp.mean, metrics)

    def step(
        self, key: Key, actor: Trainable[FlowMap], batch: Transition, count: Int[Array, ""]
    ) -> tuple[Trainable[FlowMap], Metrics]:
        """One gradient step on the loss."""
        (_, metrics), gradient = jax.value_and_grad(
            lambda flow: self(key, flow, batch, count), has_aux=True
        )(actor.model)
        return actor.step(gradient), metrics
