"""The critic that agents share: an ensemble, its target, its optimiser, one TD step."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import Flow
from flowpolicy.nets import Adam, Trainable
from flowpolicy.refine import Refiner
from flowpolicy.types import Key, Metrics, Observation, Scalar, Transition, Vector
from flowpolicy.values import Aggregate, Critic, member, polyak, td_loss, td_target

CANDIDATES = 1024
"""Candidates that are ranked at a time on a CPU, where the activations of more leave its cache."""


def states_at_once(refiner: Refiner, states: int) -> int:
    """How many of ``states`` are refined at a time: all, or on a CPU as many as stay in cache.

    What a flow integrates comes step after step and needs the room of one, whatever its ``nfe``.
    """
    if jax.default_backend() != "cpu":
        return states
    return min(states, max(CANDIDATES // refiner.nfe, 1))


def check_critic(name: str, tau: float, ensemble: int, *aggregates: Aggregate) -> None:
    """Raises ``InvalidConfig`` where tau is not in (0, 1], there is no critic, or one of the
    ``aggregates`` takes a member that there is not."""
    if not 0 < tau <= 1 or ensemble < 1:
        raise InvalidConfig(
            f"{name} needs tau in (0, 1] (the papers have 0.005) and ensemble >= 1 (2 to 10), got "
            f"{tau} and {ensemble}"
        )
    for aggregate in aggregates:
        if isinstance(aggregate, member) and not 0 <= aggregate.index < ensemble:
            raise InvalidConfig(
                f"{name}: member.index must be in [0, {ensemble}), one of its ensemble of "
                f"{ensemble}, got {aggregate.index}"
            )


def stood_still(before: Critic, after: Critic, online: Critic) -> Scalar:
    """1 where a target stayed to the bit while the online critic is visibly away from it, else 0.

    Seen at the smallest leaf, the last bias: a thousandth of what a pass over all would cost.
    Visibly: by more than a hundredth of the leaf's values, of which any tau above 1e-5 adds a part
    that float32 can tell.
    """
    leaves = [jax.tree.leaves(critic) for critic in (before, after, online)]
    old, new, goal = min(zip(*leaves, strict=True), key=lambda same: same[0].size)
    away = jnp.abs(goal - old) > 0.01 * jnp.abs(old) + 1e-6
    return (away.any() & (new == old).all()).astype(jnp.float32)


class TDCritic(eqx.Module):
    """An ensemble under training and its Polyak-averaged target."""

    online: Trainable[Critic]
    target: Critic
    tau: float = eqx.field(static=True)

    @classmethod
    def create(cls, critic: Critic, optimiser: Adam, tau: float) -> "TDCritic":
        """Starts the optimiser, and the target as a copy of ``critic``."""
        target = jax.tree.map(jnp.copy, critic)
        return cls(Trainable.create(critic, optimiser), target, tau)

    def value(self, aggregate: Aggregate, obs: Observation, action: Vector) -> Scalar:
        """The online ensemble's aggregated value of one action."""
        return aggregate(self.online.model(obs, action))

    def learn(
        self, key: Key, refiner: Refiner, aggregate: Aggregate, flow: Flow, batch: Transition
    ) -> tuple["TDCritic", Metrics]:
        """``update`` with ``next_action``: both rank by ``aggregate``."""
        return self.update(aggregate, batch, self.next_action(key, refiner, aggregate, flow, batch))

    def update(
        self, aggregate: Aggregate, batch: Transition, next_action: Float[Array, "batch d"]
    ) -> tuple["TDCritic", Metrics]:
        """One TD step towards the target's aggregated value of ``next_action`` (a batch)."""
        y = jax.vmap(lambda tr, a: td_target(self.target, aggregate, tr, a))(batch, next_action)
        return self.regress(batch, y)

    def regress(self, batch: Transition, y: Float[Array, "batch"]) -> tuple["TDCritic", Metrics]:
        """One step of every member towards ``y``, which carries no gradient.

        The target network moves towards the *new* online parameters.
        """

        def loss(critic: Critic) -> Scalar:
            return jnp.mean(jax.vmap(lambda tr, y: td_loss(critic, tr, y))(batch, y))

        value, gradient = jax.value_and_grad(loss)(self.online.model)
        online = self.online.step(gradient)
        target = polyak(self.target, online.model, self.tau)
        metrics = {
            "critic/loss": value,
            "critic/target_mean": jnp.mean(y),
            "critic/target_max": jnp.max(y),
            "critic/target_still": stood_still(self.target, target, online.model),
            "critic/weight": jnp.mean(batch.weight),
        }
        return type(self)(online, target, self.tau), metrics

    def next_action(
        self, key: Key, refiner: Refiner, aggregate: Aggregate, flow: Flow, batch: Transition
    ) -> Float[Array, "batch d"]:
        """What ``refiner`` draws at each next observation, ranked by the online ensemble."""

        def one(sample: tuple[Key, Observation]) -> Vector:
            key, obs = sample
            return refiner(key, flow, lambda a: self.value(aggregate, obs, a), obs)

        size = batch.reward.shape[0]
        samples = jax.random.split(key, size), batch.next_obs
        return jax.lax.map(one, samples, batch_size=states_at_once(refiner, size))
