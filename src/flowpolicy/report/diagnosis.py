"""What ``flowpolicy diagnose`` measures on one agent: the closed form, the map, the critic.

Computed here, drawn in ``diagnosis_html``. States and actions are drawn from a run's offline rows;
``value(s, a)`` is ``agent.value``, the aggregated critic that the refiners climb.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy import parts
from flowpolicy.data.chunk import View
from flowpolicy.errors import InvalidData
from flowpolicy.flows import Flow, FlowMap
from flowpolicy.refine import Refiner
from flowpolicy.report.closed_form import BOX, at_radius, ends
from flowpolicy.report.distance import energy_distance, noise_of
from flowpolicy.report.findings import (
    Acting,
    Agreement,
    EndPoints,
    Pushed,
    Radius,
    estimate,
)
from flowpolicy.report.recording import Episode, chunk_returns
from flowpolicy.types import Key, Observation, Rows, Scalar, Transition, Vector

Value = Callable[[Observation, Vector], Scalar]
PUSHED_FROM = (0.0, 0.25, 0.5, 0.75)
NOISES = 8  # jumps beside integrations, at each state


def draw_chunks(key: Key, rows: Rows, view: View, normaliser: Any, count: int) -> Transition:
    """``count`` transitions of different rows that no episode's end cuts, normalised.

    Fewer where the rows have fewer. ``InvalidData`` where there is none.
    """
    size = rows.reward.shape[0]
    order = np.asarray(jax.random.permutation(key, size))[: 2 * count + 100]
    windows = jax.tree.map(
        lambda x: np.asarray(x)[np.minimum(order[:, None] + np.arange(view.horizon), size - 1)],
        rows,
    )
    exists = order[:, None] + np.arange(view.horizon) < size
    found = jax.jit(jax.vmap(view))(windows, jnp.asarray(exists))
    whole = np.flatnonzero(np.asarray(found.mask).all(axis=1))[:count]
    if not len(whole):
        raise InvalidData(f"no chunk of {view.horizon} rows lies within an episode")
    found = jax.tree.map(lambda x: jnp.asarray(x)[whole], found)
    return dataclasses.replace(
        found, obs=normaliser(found.obs), next_obs=normaliser(found.next_obs)
    )


def radii(
    key: Key, flow: Flow, value: Value, states: Transition, etas: Sequence[float]
) -> tuple[Radius, ...]:
    """The closed form at each eta; the centre is one sample of the flow at each state, clipped."""
    count = states.reward.shape[0]
    key_noise, key_climb = jax.random.split(key)

    def one(key: Key, a0: jax.Array, s: Any, eta: jax.Array) -> Any:
        a = flow.flow(jnp.zeros(()), jnp.ones(()), a0, s)
        return at_radius(key, lambda x: value(s, x), jnp.clip(a, -BOX, BOX), eta)

    noise = jax.random.normal(key_noise, states.action.shape)
    keys = jax.random.split(key_climb, count)
    measure = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None)))
    rows = []
    for eta in etas:
        found = measure(keys, noise, states.obs, jnp.float32(eta))
        plain = ("predicted", "theorem", "clipped", "box_predicted", "box")
        rows.append(
            Radius(
                eta=float(eta),
                **{name: estimate(getattr(found, name)) for name in plain},
                ball=estimate(found.ball.gain),
                ball_gap=estimate(found.ball.gap),
                ball_agree=estimate(found.ball.agree),
                ball_in_box=estimate(found.ball_in_box.gain),
                box_gap=estimate(found.ball_in_box.gap),
                box_agree=estimate(found.ball_in_box.agree),
            )
        )
    return tuple(rows)


def end_points(key: Key, flow: FlowMap, value: Value, states: Transition) -> EndPoints:
    """Jumps and integrations from ``NOISES`` noises at each state."""

    def one(key: Key, s: Any) -> Any:
        noise = jax.random.normal(key, (NOISES, flow.action))
        return jax.vmap(lambda a0: ends(lambda a: value(s, a), flow, a0, s))(noise)

    found = jax.jit(jax.vmap(one))(jax.random.split(key, states.reward.shape[0]), states.obs)
    points = np.asarray(found.integrated, np.float64)
    # The mean over all ordered pairs of different samples of a state.
    apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1).sum(axis=(1, 2))
    return EndPoints(
        apart=estimate(found.apart),
        error=estimate(found.error),
        spread=estimate(apart / (NOISES * (NOISES - 1))),
        q=estimate(found.q),
    )


def agreement(key: Key, flow: Flow, data: Transition) -> Agreement:
    """Laws of (s, X_{r,1}(a_r | s)), a_r = (1 - r) a_0 + r a_data, on disjoint parts of ``data``.

    State and action are each divided by their root mean square spread over the data, so that both
    count. ``InvalidData`` for fewer than 10 chunks.
    """
    size = data.reward.shape[0] // (len(PUSHED_FROM) + 1)
    if size < 2:
        raise InvalidData(f"need 10 chunks, got {data.reward.shape[0]}")
    noise = jax.random.normal(key, data.action.shape)

    def push(r: jax.Array, a0: jax.Array, a: jax.Array, s: Any) -> jax.Array:
        return flow.flow(r, jnp.ones_like(r), (1.0 - r) * a0 + r * a, s)

    pushed = jax.jit(jax.vmap(push, in_axes=(None, 0, 0, 0)))
    pairs = _Pairs(data)
    sets = []
    for i, r in enumerate(PUSHED_FROM):
        own = slice(i * size, (i + 1) * size)
        part = jax.tree.map(lambda x, own=own: x[own], (noise, data.action, data.obs))
        sets.append(pairs(part[2], pushed(jnp.float32(r), *part)))
    last = jax.tree.map(lambda x: x[len(sets) * size : (len(sets) + 1) * size], data)
    target = pairs(last.obs, last.action)
    found = tuple(
        Pushed(r, energy_distance(points, target), energy_distance(points, sets[0]) if i else 0.0)
        for i, (r, points) in enumerate(zip(PUSHED_FROM, sets, strict=True))
    )
    everything = pairs(data.obs, data.action)
    return Agreement(size, noise_of(everything, size, np.random.default_rng(0)), found)


class _Pairs:
    """States and actions as points of one space."""

    def __init__(self, data: Transition) -> None:
        self._state, self._action = _spread(_flat(data.obs)), _spread(_flat(data.action))

    def __call__(self, obs: Any, action: Any) -> np.ndarray:
        return np.concatenate([_flat(obs) / self._state, _flat(action) / self._action], axis=1)


def _flat(tree: Any) -> np.ndarray:
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)


def _spread(points: np.ndarray) -> float:
    return float(np.sqrt(points.var(axis=0).sum())) or 1.0


def q_at_states(
    key: Key, flow: Flow, value: Value, refiner: Refiner, states: Transition
) -> np.ndarray:
    """Q of the refiner's action at each state; the same keys for every refiner."""

    def one(sample: tuple[Key, Any]) -> jax.Array:
        key, s = sample
        return value(s, refiner(key, flow, lambda a: value(s, a), s))

    keys = jax.random.split(key, states.reward.shape[0])
    found = jax.jit(lambda k, s: jax.lax.map(one, (k, s), batch_size=16))(keys, states.obs)
    return np.asarray(found)


def excess(
    value: Value,
    size: int,
    normaliser: Any,
    episodes: Sequence[Episode],
    discount: float,
    rewards: tuple[float, float],
) -> dict[str, Any]:
    """Q less the discounted return over the whole chunks of played episodes, for ``Acting``.

    size:    of the flattened chunk
    rewards: the least and the greatest reward there is

    Empty where no return is known.
    """
    obs, actions, bounds, owner = [], [], [], []
    for number, episode in enumerate(episodes):
        chunk = size // episode.actions[0].size
        both = np.stack(chunk_returns(episode, chunk, discount, *rewards), axis=1)
        known = np.flatnonzero(np.isfinite(both).all(axis=1))
        obs += [episode.obs[i] for i in known * chunk]
        actions += [np.concatenate(episode.actions[i : i + chunk]) for i in known * chunk]
        bounds.append(both[known])
        owner += [number] * len(known)
    if not obs:
        return {}
    stacked = normaliser(jax.tree.map(lambda *x: jnp.stack(x), *obs))
    q = np.asarray(jax.jit(jax.vmap(value))(stacked, jnp.stack(actions)), np.float64)
    low, high = np.concatenate(bounds).T
    return {
        "chunks": len(q),
        "played_q": float(q.mean()),
        "excess_low": float((q - high).mean()),
        "excess_high": float((q - low).mean()),
        "excess_error": _clustered(q - (low + high) / 2, np.asarray(owner)),
    }


def _clustered(values: np.ndarray, owner: np.ndarray) -> float:
    """The standard error of the mean of ``values`` whose owners are independent, not they."""
    sums = np.bincount(owner, values - values.mean())
    return float(np.sqrt(np.square(sums).sum()) / len(values))


def compare(
    key: Key, flow: Flow, value: Value, states: Transition, refiners: Sequence[Refiner]
) -> tuple[Acting, ...]:
    """Each refiner's Q at the states, beside the first's."""
    values = [q_at_states(key, flow, value, refiner, states) for refiner in refiners]
    return tuple(
        Acting(parts.describe(refiner), estimate(q), estimate(q - values[0]))
        for refiner, q in zip(refiners, values, strict=True)
    )
