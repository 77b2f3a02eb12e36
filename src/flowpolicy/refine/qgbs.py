"""Q-guided beam search (FMQ Algorithm 2): renoise, complete, keep the best, step uphill."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow, renoise, renoise_time
from flowpolicy.parts import register
from flowpolicy.refine.core import Q, displace, from_noise
from flowpolicy.types import Key, Observation, Vector

Beams = Float[Array, "beam d"]


def nfe(steps: int, beam: int, branches: int) -> int:
    """M (1 + K B) evaluations of the flow; the critic's values and gradients are not counted."""
    return beam * (1 + steps * branches)


def top(q: Q, candidates: Float[Array, "n d"], beam: int) -> Beams:
    """The ``beam`` candidates of highest Q, best first."""
    _, best = jax.lax.top_k(jax.vmap(q)(candidates), beam)
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


def _check(steps: int, beam: int, branches: int, snr: float, eta: float) -> None:
    if steps < 0 or beam < 1 or branches < 1 or not snr > 0 or eta < 0:
        raise InvalidConfig(
            "qgbs needs steps >= 0, beam >= 1, branches >= 1, snr > 0, eta >= 0, got "
            f"steps={steps}, beam={beam}, branches={branches}, snr={snr}, eta={eta}"
        )


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
        _check(self.steps, self.beam, self.branches, self.snr, self.eta)

    @property
    def nfe(self) -> int:
        """M (1 + K B)."""
        return nfe(self.steps, self.beam, self.branches)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best of the final beams."""
        key_start, *keys = jax.random.split(key, 1 + self.steps)
        starts = jax.random.split(key_start, self.beam)
        beams = self._clip(jax.vmap(lambda k: from_noise(k, flow, s))(starts))
        for key_round in keys:
            candidates = self._clip(branch(key_round, flow, s, beams, self.branches, self.snr))
            beams = top(q, candidates, self.beam)
            beams = self._clip(jax.vmap(lambda a: displace(q, a, self.eta))(beams))
        return top(q, beams, 1)[0]

    def _clip(self, a: Array) -> Array:
        return jnp.clip(a, -self.bound, self.bound)


@register("qgbs_keep_best")
@dataclasses.dataclass(frozen=True)
class QGBSKeepBest:
    """QGBS that keeps its beams: a deviation of ours, never worse than best-of-``beam``.

    Candidates compete with the beams they came from and with their own uphill steps, so the best
    Q never falls from round to round. It costs one more value of the critic per beam and round.
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
        _check(self.steps, self.beam, self.branches, self.snr, self.eta)

    @property
    def nfe(self) -> int:
        """M (1 + K B)."""
        return nfe(self.steps, self.beam, self.branches)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best action seen."""
        key_start, *keys = jax.random.split(key, 1 + self.steps)
        starts = jax.random.split(key_start, self.beam)
        beams = self._clip(jax.vmap(lambda k: from_noise(k, flow, s))(starts))
        for key_round in keys:
            fresh = self._clip(branch(key_round, flow, s, beams, self.branches, self.snr))
            beams = top(q, jnp.concatenate([beams, fresh]), self.beam)
            moved = self._clip(jax.vmap(lambda a: displace(q, a, self.eta))(beams))
            beams = top(q, jnp.concatenate([beams, moved]), self.beam)
        return top(q, beams, 1)[0]

    def _clip(self, a: Array) -> Array:
        return jnp.clip(a, -self.bound, self.bound)
