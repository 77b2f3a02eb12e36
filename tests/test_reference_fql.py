"""The benchmark's FQL, built as the released code, computes what our agent computes."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import reference_fql as reference

from flowpolicy.agents import FQL
from flowpolicy.agents.fql import FQLAgent, actor_loss
from flowpolicy.flows import Integrated, Path, Times, diagonal
from flowpolicy.nets.mlp import MLP
from flowpolicy.types import Spec, Transition
from flowpolicy.values import td_loss, td_target

OBS, ACTION, BATCH = 4, 2, 8


@pytest.fixture(autouse=True)
def broadcasting() -> Iterator[None]:
    """The benchmark adds biases to batches and floats to counts, as released code does."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def agent() -> FQLAgent:
    found = FQL().init(jax.random.key(0), Spec((OBS,), ACTION, offline_updates=10))

    # Norms that are not 1 and 0, and a target that is not the critic.
    def moved(x: jax.Array) -> jax.Array:
        return x + 0.05 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

    critic = dataclasses.replace(
        found.critic, online=dataclasses.replace(
            found.critic.online, model=jax.tree.map(moved, found.critic.online.model)
        )
    )  # fmt: skip
    return dataclasses.replace(found, critic=critic)


@pytest.fixture(scope="module")
def batch() -> Transition:
    normal = np.random.default_rng(0).standard_normal
    ones, action = jnp.ones(BATCH), jnp.asarray(np.tanh(normal((BATCH, ACTION))), jnp.float32)
    obs, next_obs = (jnp.asarray(normal((BATCH, OBS)), jnp.float32) for _ in range(2))
    return Transition(obs, action, -ones, 0.99 * ones, next_obs, jnp.ones_like(action), ones)


def _layers(mlp: MLP) -> list[dict[str, Any]]:
    first = {"w": jnp.concatenate(mlp.first.weights, -2), "b": mlp.first.bias}
    layers = [first, *({"w": x.weight, "b": x.bias} for x in (*mlp.hidden, mlp.last))]
    for layer, norm in zip(layers, mlp.norms, strict=False):
        layer |= {"scale": norm.weight, "shift": norm.bias}
    return layers


def _nets(agent: FQLAgent) -> dict[str, Any]:
    return {
        "flow": _layers(agent.behaviour.model.net.mlp),
        "actor": _layers(agent.actor.model.mlp),
        "critic": _layers(agent.critic.online.model.members.mlp),
        "target": _layers(agent.critic.target.members.mlp),
    }


def test_the_losses_are_ours(agent: FQLAgent, batch: Transition) -> None:
    nets, draws = _nets(agent), reference.draw(jax.random.key(1), BATCH, ACTION)
    _, found = reference.loss(nets, nets, draws, batch)

    mu, v, critics = agent.actor.model, agent.behaviour.model, agent.critic
    config = agent.config
    following = jnp.clip(jax.vmap(mu)(draws.next_noise, batch.next_obs), -1.0, 1.0)
    y = jax.vmap(lambda tr, a: td_target(critics.target, config.aggregate, tr, a))(batch, following)
    critic = jax.vmap(lambda tr, y: td_loss(critics.online.model, tr, y))(batch, y).mean()
    residual = jax.vmap(lambda t, x0, x1, s: diagonal(v, v, Times(t, t, t), Path(x0, x1, s)))(
        draws.time[:, 0], draws.start, batch.action, batch.obs
    )
    _, ours = actor_loss(
        config, mu, Integrated(v, config.steps), critics.online.model, draws.noise, batch.obs
    )
    expected = {
        "critic": critic,
        "cloning": (residual**2).mean(),
        "distillation": ours["fql/distillation"],
        "pull": -ours["fql/q"],
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-4), name


def test_one_step_moves_all_but_the_target_by_its_gradient(
    agent: FQLAgent, batch: Transition
) -> None:
    nets = _nets(agent)
    state = reference.init(jax.random.key(0), OBS, ACTION)._replace(nets=nets)
    after, _ = reference.update(state, reference.draw(jax.random.key(1), BATCH, ACTION), batch)
    for name in ("flow", "actor", "critic"):
        # Adam's first step is its rate wherever there is a gradient.
        moved = jnp.abs(after.nets[name][1]["w"] - nets[name][1]["w"])
        assert float(jnp.median(moved)) == pytest.approx(3e-4, rel=0.05), name
    blended = 0.005 * nets["critic"][1]["w"] + 0.995 * nets["target"][1]["w"]
    np.testing.assert_allclose(after.nets["target"][1]["w"], blended, rtol=1e-5, atol=1e-7)
