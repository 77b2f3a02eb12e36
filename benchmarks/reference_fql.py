"""FQL's update as its released code is built, written anew, for ``benchmarks.ports``.

The same equations as ``flowpolicy.agents.fql``, put together as there: one loss, the sum of all,
for one Adam over all networks (the target critics among them, which get no gradient); critics whose
parameters are stacked and mapped over; inputs concatenated, at every Euler step too; the target
critic blended with the parameters from before the step; one more sample of the actor, whose
distance to the data is only logged.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flowpolicy.types import Transition

WIDTH, DEPTH, CRITICS = 512, 4, 2
TAU, ALPHA, EULER = 0.005, 300.0, 10
EPSILON = 1e-5
"""Added to LayerNorm's variance; our nets' value, so that both can be compared."""

Layers = list[dict[str, Array]]
sg = jax.lax.stop_gradient


class State(NamedTuple):
    """Networks by name and the optimiser's state."""

    nets: dict[str, Layers]
    opt: Any


class Draws(NamedTuple):
    """Random numbers of one update: noise of every sample, and the flow's times."""

    next_noise: Float[Array, "b d"]
    start: Float[Array, "b d"]
    time: Float[Array, "b 1"]
    noise: Float[Array, "b d"]
    logged: Float[Array, "b d"]


def draw(key: Array, batch: int, size: int) -> Draws:
    """Fresh ones."""
    keys = jax.random.split(key, 5)
    shapes = [(batch, size)] * 2 + [(batch, 1)] + [(batch, size)] * 2
    kinds = [jax.random.normal] * 2 + [jax.random.uniform] + [jax.random.normal] * 2
    return Draws(*(kind(k, shape) for k, shape, kind in zip(keys, shapes, kinds, strict=True)))


def init(key: Array, obs: int, action: int) -> State:
    """Nets of 4 x 512, as in the paper."""
    key_flow, key_actor, key_critic = jax.random.split(key, 3)
    critics = jax.vmap(lambda k: _net(k, obs + action, 1, norm=True))(
        jax.random.split(key_critic, CRITICS)
    )
    nets = {
        "flow": _net(key_flow, obs + action + 1, action, norm=False),
        "actor": _net(key_actor, obs + action, action, norm=False),
        "critic": critics,
        "target": jax.tree.map(jnp.copy, critics),
    }
    return State(nets, optax.adam(3e-4).init(nets))


def update(state: State, draws: Draws, batch: Transition) -> tuple[State, dict[str, Array]]:
    """One step of all networks."""
    (_, info), gradient = jax.value_and_grad(loss, has_aux=True)(
        state.nets, state.nets, draws, batch
    )
    changes, opt = optax.adam(3e-4).update(gradient, state.opt)
    nets: Any = optax.apply_updates(state.nets, changes)
    old, target = state.nets["critic"], state.nets["target"]
    nets["target"] = jax.tree.map(lambda p, t: TAU * p + (1.0 - TAU) * t, old, target)
    return State(nets, opt), info


def loss(
    nets: dict[str, Layers], kept: dict[str, Layers], draws: Draws, batch: Transition
) -> tuple[Array, dict[str, Array]]:
    """Critic, cloning, distillation and the critic's pull, added up.

    ``nets`` are differentiated; ``kept``, the same, are not.
    """
    target = sg(batch.reward + batch.discount * _next_value(kept, draws, batch))
    q = _critics(nets["critic"], batch.obs, batch.action)
    critic = jnp.mean((q - target) ** 2)

    t, x0, x1 = draws.time, draws.start, batch.action
    velocity = _apply(nets["flow"], batch.obs, (1.0 - t) * x0 + t * x1, t)
    cloning = jnp.mean((velocity - (x1 - x0)) ** 2)

    teacher = sg(_euler(kept["flow"], batch.obs, draws.noise))
    student = _apply(nets["actor"], batch.obs, draws.noise)
    distance = jnp.mean((student - teacher) ** 2)
    pull = -jnp.mean(_critics(kept["critic"], batch.obs, jnp.clip(student, -1.0, 1.0)).mean(0))

    logged = jnp.clip(_apply(kept["actor"], batch.obs, draws.logged), -1.0, 1.0)
    info = {
        "critic": critic,
        "cloning": cloning,
        "distillation": distance,
        "pull": pull,
        "q_mean": jnp.mean(q),
        "q_max": jnp.max(q),
        "q_min": jnp.min(q),
        "mse": jnp.mean((logged - batch.action) ** 2),
    }
    return critic + cloning + ALPHA * distance + pull, info


def _next_value(nets: dict[str, Layers], draws: Draws, batch: Transition) -> Float[Array, "b"]:
    action = jnp.clip(_apply(nets["actor"], batch.next_obs, draws.next_noise), -1.0, 1.0)
    return _critics(nets["target"], batch.next_obs, action).mean(0)


def _euler(net: Layers, obs: Any, x: Array) -> Array:
    for i in range(EULER):
        t = jnp.full((x.shape[0], 1), i / EULER)
        x = x + _apply(net, obs, x, t) / EULER
    return jnp.clip(x, -1.0, 1.0)


def _critics(nets: Layers, obs: Any, action: Array) -> Float[Array, "k b"]:
    return jax.vmap(lambda net: _apply(net, obs, action)[:, 0])(nets)


def _apply(net: Layers, *inputs: Any) -> Array:
    x = jnp.concatenate(inputs, -1)
    for layer in net[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
        if "scale" in layer:
            centred = x - x.mean(-1, keepdims=True)
            variance = (centred**2).mean(-1, keepdims=True)
            x = centred * jax.lax.rsqrt(variance + EPSILON) * layer["scale"] + layer["shift"]
    return x @ net[-1]["w"] + net[-1]["b"]


def _net(key: Array, size: int, out: int, *, norm: bool) -> Layers:
    sizes: Sequence[int] = (size, *[WIDTH] * DEPTH, out)
    return [
        _layer(k, a, b, norm=norm and i < DEPTH)
        for i, (k, a, b) in enumerate(
            zip(jax.random.split(key, DEPTH + 1), sizes[:-1], sizes[1:], strict=True)
        )
    ]


def _layer(key: Array, size: int, out: int, *, norm: bool) -> dict[str, Array]:
    bound = (6.0 / (size + out)) ** 0.5
    layer = {"w": jax.random.uniform(key, (size, out), minval=-bound, maxval=bound)}
    layer["b"] = jnp.zeros(out)
    return layer | ({"scale": jnp.ones(out), "shift": jnp.zeros(out)} if norm else {})
