"""At which precision acting and updates multiply, whatever is the device's own default."""

import re

import jax
import jax.numpy as jnp
import numpy as np

import flowpolicy as fp
from flowpolicy.nets import MLPCritic, MLPOneStep, MLPVelocity
from flowpolicy.nets.product import product
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.online import Explorer
from flowpolicy.train.updates import acting
from flowpolicy.types import Spec

NONE = Normaliser(None, None)
HIGHEST = {(("HIGHEST", "HIGHEST"),)}


def _precisions(program, *arguments):
    """Those of a program's matrix products, as it is handed to XLA."""
    text = jax.jit(program).lower(*arguments).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    return {tuple(re.findall(r"precision = \[(\w+), (\w+)\]", line)) for line in products}


def test_acting_multiplies_in_float32_on_every_device():
    """Where a device's own default is another, as on a GPU that has TensorFloat-32."""
    agent = fp.FQL(actor=MLPOneStep(8, 1), behaviour=MLPVelocity(8, 1), critic=MLPCritic(8, 1))
    state = agent.init(jax.random.key(0), Spec((3,), 2, offline_updates=10))
    many = jax.tree.map(lambda x: x[None], state)
    obs, key = jnp.zeros((1, 1, 3)), jax.random.key(0)
    acts = acting(lambda a: a.act, NONE, 1)
    assert _precisions(acts, many, key[None, None], obs, ()) == HIGHEST
    actor = JaxActor(state, NONE, Spec((3,), 2), 1)
    leaves = list(actor.weights.values())
    assert _precisions(actor.short, leaves, *actor.inputs()) == HIGHEST
    explorer = Explorer((0,), NONE, ())
    told = _precisions(explorer._call, many, jnp.zeros(1, jnp.int32), obs[0], ())
    assert told == HIGHEST
    with jax.default_matmul_precision("bfloat16"):
        assert _precisions(acts, many, key[None, None], obs, ()) == HIGHEST
    assert _precisions(lambda x: x @ x, jnp.zeros((2, 2))) == {(("DEFAULT", "DEFAULT"),)}


def test_bfloat16_rounds_both_factors_on_every_device(monkeypatch):
    """A GPU would take XLA's word of that name for TF32."""
    x, w = (jax.random.normal(jax.random.key(i), (4, 4)) for i in range(2))
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (x, w)]
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda name=backend: name)
        with jax.default_matmul_precision("bfloat16"):
            found = jax.vmap(product, (0, None))(x, w)
        np.testing.assert_allclose(found, rounded[0] @ rounded[1], rtol=1e-6, atol=1e-6)
