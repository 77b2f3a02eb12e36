"""Q-guided beam search (FMQ Algorithm 2): renoise, complete, keep the best, step uphill."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, renoise, renoise_time
from flowpolicy.parts import register
from flowpolicy.refine.core import (
    MAX_CANDIDATES,
    Cost,
    Q,
    check_bound,
    displace,
    from_noise,
    ranking,
)
from flowpolicy.types import Key, Observation, Vector

Beams = Float[Array, "beam d"]
MAX_STEPS = 256
"""Rounds are traced one by one."""


def nfe(steps: int, beam: int, branches: int) -> int:
    """M (1 + K B) evaluations of the flow; the critic's values and gradients are not counted."""
    return beam * (1 + steps * branches)


def top(q: Q, candidates: Float[Array, "n d"], beam: int) -> Beams:
    """The ``beam`` candidates of highest Q, best first."""
    _, best = jax.lax.top_k(ranking(q, candidates), beam)
    return candidates[best]


def branch(
    key: Key, flow: Flow, s: Observation, beams: Beams, branches: int, snr: float
) -> Float[Array, "n d"]:
    """Each beam taken back to t' and completed by u_{t',1}, ``branches`` times.

    The released code completes with the diagonal u_{t',t'} instead; the page's X_{t',1} is what
    the online phase trains, so it is what we take.
    """
    t = jnp.asarray(renoise_time(snr), beams.dtype)

    def complete(key: Key, a: Vector) -> Vector:
        return flow.flow(t, jnp.ones_like(t), renoise(key, snr, a), s)

    parents = jnp.repeat(beams, branches, axis=0)
    return jax.vmap(complete)(jax.random.split(key, parents.shape[0]), parents)


def _start(
    key: Key, flow: Flow, s: Observation, steps: int, beam: int, bound: float
) -> tuple[Beams, list[Key]]:
    """The first beams, clipped, and a key for each round."""
    key_start, *keys = jax.random.split(key, 1 + steps)
    beams = jax.vmap(lambda k: from_noise(k, flow, s))(jax.random.split(key_start, beam))
    return jnp.clip(beams, -bound, bound), keys


def _uphill(q: Q, beams: Beams, eta: float, bound: float) -> Beams:
    """Theorem 3.2's step of each beam, clipped."""
    return jnp.clip(jax.vmap(lambda a: displace(q, a, eta))(beams), -bound, bound)


def _check(
    name: str, steps: int, beam: int, branches: int, *, snr: float, eta: float, bound: float
) -> None:
    finite = math.isfinite(snr) and math.isfinite(eta)
    if steps < 0 or beam < 1 or branches < 1 or not (finite and snr > 0 and eta >= 0):
        raise InvalidConfig(
            f"{name} needs steps >= 0, beam >= 1, branches >= 1, snr > 0, eta >= 0, snr and eta "
            "finite (the released code has 1, 4, 4, 1.5 and 0.3), got "
            f"steps={steps}, beam={beam}, branches={branches}, snr={snr}, eta={eta}"
        )
    if steps > MAX_STEPS or beam * branches > MAX_CANDIDATES:
        raise InvalidConfig(
            f"{name} needs steps <= {MAX_STEPS} and beam * branches <= {MAX_CANDIDATES}, got "
            f"steps={steps}, beam={beam}, branches={branches}"
        )
    check_bound(name, bound)


@register("qgbs")
@dataclasses.dataclass(frozen=True)
class QGBS:
    """FMQ Algorithm 2 as it stands.

    The beams are dropped after branching, so where completions are poor an action can end far
    below its start. The uphill step is taken whether or not Q rises: it loses at most
    lambda_max eta^2 / 2 against the beam it starts from, for a critic whose curvature is at most
    lambda_max. With steps = 0 it is best-of-``beam``. Every candidate is clipped to the box, as in
    the released code.
    """

    steps: int = 1
    """K, rounds of renoising; the page's best is 1."""
    beam: int = 4
    """M, beams kept."""
    branches: int = 4
    """B, completions of each beam a round."""
    snr: float = 1.5
    """rho, signal to noise after renoising; t' = rho / (1 + rho)."""
    eta: float = 0.3
    """Length of the uphill step, L2 over the whole chunk."""
    bound: float = 1.0
    """Actions lie in [-bound, bound]."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check(
            "qgbs", self.steps, self.beam, self.branches,
            snr=self.snr, eta=self.eta, bound=self.bound,
        )  # fmt: skip

    @property
    def nfe(self) -> int:
        """M (1 + K B)."""
        return nfe(self.steps, self.beam, self.branches)

    def cost(self, flow: Flow) -> Cost:
        """A round: M B jumps, ranked, the kept ones moved; a ranking of the final beams."""
        k, m, b = self.steps, self.beam, self.branches
        first, again = flow.nfe(0.0), flow.nfe(renoise_time(self.snr))
        return Cost(
            policy=m * (first + k * b * again),
            critic=k * m * b + m,
            gradients=k * m,
            depth=first + k * (again + 2) + 1,
        )

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best of the final beams."""
        beams, keys = _start(key, flow, s, self.steps, self.beam, self.bound)
        for key_round in keys:
            candidates = branch(key_round, flow, s, beams, self.branches, self.snr)
            beams = top(q, jnp.clip(candidates, -self.bound, self.bound), self.beam)
            beams = _uphill(q, beams, self.eta, self.bound)
        return top(q, beams, 1)[0]


@register("qgbs_keep_best")
@dataclasses.dataclass(frozen=True)
class QGBSKeepBest:
    """QGBS that keeps its beams: a deviation of ours, never worse than best-of-``beam``.

    Candidates compete with the beams they came from and with their own uphill steps, so the best
    Q never falls from round to round. It costs three more values of the critic per beam and round.
    """

    steps: int = 1
    """K, rounds of renoising."""
    beam: int = 4
    """M, beams kept."""
    branches: int = 4
    """B, completions of each beam a round."""
    snr: float = 1.5
    """rho, signal to noise after renoising."""
    eta: float = 0.3
    """Length of the uphill step, L2 over the whole chunk."""
    bound: float = 1.0
    """Actions lie in [-bound, bound]."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check(
            "qgbs_keep_best", self.steps, self.beam, self.branches,
            snr=self.snr, eta=self.eta, bound=self.bound,
        )  # fmt: skip

    @property
    def nfe(self) -> int:
        """M (1 + K B)."""
        return nfe(self.steps, self.beam, self.branches)

    def cost(self, flow: Flow) -> Cost:
        """As QGBS, with the beams and their steps ranked too."""
        k, m, b = self.steps, self.beam, self.branches
        first, again = flow.nfe(0.0), flow.nfe(renoise_time(self.snr))
        return Cost(
            policy=m * (first + k * b * again),
            critic=k * m * (b + 3) + m,
            gradients=k * m,
            depth=first + k * (again + 3) + 1,
        )

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best action seen."""
        beams, keys = _start(key, flow, s, self.steps, self.beam, self.bound)
        for key_round in keys:
            fresh = branch(key_round, flow, s, beams, self.branches, self.snr)
            fresh = jnp.clip(fresh, -self.bound, self.bound)
            beams = top(q, jnp.concatenate([beams, fresh]), self.beam)
            moved = _uphill(q, beams, self.eta, self.bound)
            beams = top(q, jnp.concatenate([beams, moved]), self.beam)
        return top(q, beams, 1)[0]
