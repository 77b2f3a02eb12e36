"""Every agent, with every refiner that it takes, acts with numpy as it does with JAX."""

import json

import agents_setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import refine
from flowpolicy.agents import Agent
from flowpolicy.agents.base import REFINABLE
from flowpolicy.deploy.program import Program
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.packaging.write import actor_program
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Normaliser
from flowpolicy.types import Spec

REFINERS = (
    refine.OneStep(),
    refine.BestOfN(5),
    refine.QGBS(steps=1, beam=2, branches=3),
    refine.TrustRegion(),
)
MORE = (refine.TrustRegionBox(), refine.QGBSKeepBest(steps=2, beam=2, branches=2))
OFTEN = ("fmq", "fql", "qam")
CASES = [
    *((name, None) for name in agents_setup.ALL),
    *(
        pytest.param(name, refiner, marks=[] if name in OFTEN else pytest.mark.slow)
        for name in REFINABLE
        for refiner in REFINERS
    ),
    *(("fmq", refiner) for refiner in MORE),
]
NORMALISER = Normaliser(jnp.array([0.5, -1.0, 2.0]), jnp.array([2.0, 0.1, 30.0]))


def written(actor):
    """The actor's program, as it is read back from its file."""
    data, constants = actor_program(actor)
    tensors = {k: np.asarray(v) for k, v in actor.weights.items()} | constants
    return Program(json.loads(json.dumps(data, allow_nan=False)), tensors)


@pytest.mark.parametrize(("name", "refiner"), CASES)
def test_numpy_acts_as_jax_does(name, refiner):
    """Call by call, online, normalised, at observations from small to far outside the data."""
    agent, chunk = agents_setup.make(name, True), agents_setup.config(name).view.chunk
    actor = JaxActor(agent, NORMALISER, agents_setup.SPEC, chunk, refiner=refiner, seed=11)
    run, key = written(actor), jax.random.key_data(actor.inputs()[0])
    memory = actor.memory()
    kept = [np.asarray(x) for x in jax.tree.leaves(memory)]
    draws, closest = np.random.default_rng(0), []
    for number, scale in enumerate((0.0, 0.1, 1.0, 1.0, 1.0, 10.0, 1000.0)):
        obs = (scale * draws.standard_normal(3)).astype(np.float32)
        wanted, memory = actor(number, obs, memory)
        acted, *kept = run(np.asarray(key), np.int32(number), obs, *kept)
        assert (acted.shape, acted.dtype) == (wanted.shape, np.float32)
        closest.append(np.abs(acted - wanted).max())
    assert max(closest) <= 1e-5
    assert np.abs(wanted).max() <= 1


class Streams(Agent):
    """An agent that remembers: its action is the mean of its last two observations, and noise."""

    weight: jax.Array = eqx.field(default_factory=lambda: jnp.float32(0.5))

    def memory(self):
        """The last observation, and how many there were."""
        return {"last": jnp.zeros(3), "count": jnp.zeros((), jnp.int32)}

    def act(self, key, obs, memory):
        """Two entries."""
        mean = self.weight * (obs + memory["last"])
        action = jnp.tanh(mean[:2] + 0.1 * jax.random.normal(key, (2,)))
        action = action + memory["count"].astype(jnp.float32)
        return action, {"last": obs, "count": memory["count"] + 1}

    def update(self, key, batch):
        """Nothing is learned."""
        raise NotImplementedError

    def flow(self):
        """There is none."""
        raise NotImplementedError

    def value(self, obs, action):
        """There is none."""
        raise NotImplementedError


def test_memory_goes_in_and_comes_out():
    """Leaf by leaf, in the order of the tree."""
    actor = JaxActor(Streams(), Normaliser(None, None), Spec((3,), 2), 1)
    run, key = written(actor), np.asarray(jax.random.key_data(actor.inputs()[0]))
    assert list(run.inputs()) == ["key", "call", "obs", "memory/0", "memory/1"]
    assert list(run.outputs()) == ["chunk", "memory/0", "memory/1"]
    theirs, mine = actor.memory(), [np.int32(0), np.zeros(3, np.float32)]
    for number in range(4):
        obs = np.full(3, 0.3 * number, np.float32)
        wanted, theirs = actor(number, obs, theirs)
        acted, *mine = run(key, np.int32(number), obs, *mine)
        np.testing.assert_allclose(acted, wanted, atol=1e-6)
    assert mine[0] == 4


class HalfBlind(Streams):
    """The critic's value is not a number in half of the box."""

    refiner: refine.Refiner = eqx.field(static=True, default=refine.OneStep())

    def memory(self):
        """None."""
        return ()

    def act(self, key, obs, memory):
        """What the refiner finds."""
        return self.refiner(key, self.flow(), lambda a: self.value(obs, a), obs), memory

    def flow(self):
        """Noise about half the observation."""
        return FlowMap(lambda r, t, a, s: self.weight * s[:2] - a / 2, 2)

    def value(self, obs, action):
        """Less the farther from 0, where anything is known."""
        return jnp.where(action[0] > 0, jnp.nan, -jnp.sum(action**2))


@pytest.mark.parametrize("refiner", [refine.BestOfN(40), refine.QGBS(beam=8, eta=0.01)])
def test_a_value_that_is_not_a_number_ranks_last_in_a_package_too(refiner):
    """As with JAX, call by call."""
    actor = JaxActor(HalfBlind(refiner=refiner), Normaliser(None, None), Spec((3,), 2), 1)
    run, key = written(actor), np.asarray(jax.random.key_data(actor.inputs()[0]))
    for number in range(8):
        obs = np.full(3, -0.1, np.float32)
        wanted, _ = actor(number, obs, ())
        (acted,) = run(key, np.int32(number), obs)
        np.testing.assert_allclose(acted, wanted, atol=1e-6)
        assert acted.reshape(2)[0] <= 0


class Unheard(Streams):
    """What numpy has no step for."""

    def act(self, key, obs, memory):
        """A special function."""
        return jax.scipy.special.gammaln(obs[:2] ** 2 + 1.0), memory


def test_a_primitive_without_a_step_is_named():
    """When the program is written."""
    actor = JaxActor(Unheard(), Normaliser(None, None), Spec((3,), 2), 1)
    with pytest.raises(InvalidConfig, match=r"no step for jax\.lax\.lgamma.*--no-numpy"):
        actor_program(actor)
