"""A single sample of the policy, and the best of several."""

import dataclasses

import jax
import jax.numpy as jnp

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow
from flowpolicy.parts import register
from flowpolicy.refine.core import MAX_CANDIDATES, Cost, Q, check_bound, from_noise, ranking
from flowpolicy.types import Key, Observation, Vector


@register("one_step")
@dataclasses.dataclass(frozen=True)
class OneStep:
    """One jump from noise to the action, clipped to the box."""

    bound: float = 1.0
    """Actions lie in [-bound, bound]."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_bound("one_step", self.bound)

    @property
    def nfe(self) -> int:
        """1."""
        return 1

    def cost(self, flow: Flow) -> Cost:
        """One jump."""
        jump = flow.nfe(0.0)
        return Cost(policy=jump, critic=0, gradients=0, depth=jump)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """One action; the critic is not asked."""
        del q
        return jnp.clip(from_noise(key, flow, s), -self.bound, self.bound)


@register("best_of_n")
@dataclasses.dataclass(frozen=True)
class BestOfN:
    """N independent jumps, clipped, and the one of highest Q (MVP Eqs. 11-12, QC)."""

    n: int = 32
    """Number of candidates."""
    bound: float = 1.0
    """Actions lie in [-bound, bound]."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.n < 1:
            raise InvalidConfig(f"best_of_n.n must be at least 1, got {self.n}")
        if self.n > MAX_CANDIDATES:
            raise InvalidConfig(f"best_of_n.n must be at most {MAX_CANDIDATES}, got {self.n}")
        check_bound("best_of_n", self.bound)

    @property
    def nfe(self) -> int:
        """N."""
        return self.n

    def cost(self, flow: Flow) -> Cost:
        """N jumps side by side, then N values side by side."""
        jump = flow.nfe(0.0)
        return Cost(policy=self.n * jump, critic=self.n, gradients=0, depth=jump + 1)

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best of the candidates."""
        candidates = jax.vmap(lambda k: from_noise(k, flow, s))(jax.random.split(key, self.n))
        candidates = jnp.clip(candidates, -self.bound, self.bound)
        return candidates[jnp.argmax(ranking(q, candidates))]
