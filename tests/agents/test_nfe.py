"""NFE of every agent and refiner is the number of evaluations that their nets have seen."""

import collections
import dataclasses
from typing import Any

import agents_setup as setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.agents import AGENTS
from flowpolicy.agents.base import REFINABLE
from flowpolicy.refine import (
    QGBS,
    BestOfN,
    OneStep,
    QGBSKeepBest,
    TrustRegion,
    TrustRegionBox,
)

SEEN = collections.Counter()
NOW = [""]  # under which name evaluations are counted that are traced at the moment
REFINERS = [
    OneStep(),
    BestOfN(2),
    TrustRegion(),
    TrustRegionBox(start=BestOfN(2)),
    QGBS(beam=1, branches=2),
    QGBSKeepBest(beam=2, branches=1),
]
NETS = ("actor", "behaviour")


class CountedNet(eqx.Module):
    """A net that counts its evaluations, one for each sample."""

    net: Any

    def __call__(self, *inputs):
        out, name = self.net(*inputs), NOW[0]

        def count(x):
            SEEN[name] += 1
            return np.asarray(x)

        def seen(x):
            shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
            return jax.pure_callback(count, shape, x, vmap_method="sequential")

        first, *rest = jax.tree.leaves(out)
        return jax.tree.unflatten(jax.tree.structure(out), [seen(first), *rest])


@parts.register("counted_net")
@dataclasses.dataclass(frozen=True)
class Counted:
    """The configuration of ``CountedNet`` around another's."""

    inner: Any

    def init(self, key, spec, size):
        return CountedNet(self.inner.init(key, spec, size))


def _config(name):
    """The agent called ``name`` with counted nets, also those of an agent inside it."""
    if name == "distilled":
        return AGENTS[name](source=_config("qc"), target=_config("fmq"))
    config = setup.config(name)
    if "head" in {f.name for f in dataclasses.fields(config)}:
        config = dataclasses.replace(config, head=_counted(config.head, {"actor", "net"}))
    return _counted(config, set(NETS))


def _counted(part, nets):
    """``part`` with those of ``nets`` that it has counted."""
    fields = {f.name for f in dataclasses.fields(part)} & nets
    return dataclasses.replace(part, **{f: Counted(getattr(part, f)) for f in fields})


def _ways(agent, obs):
    """The agent's own way of acting, and every refiner where it has a flow and a critic."""

    def by(refiner):
        return lambda key: refiner(key, agent.flow(), lambda a: agent.value(obs, a), obs)

    ways = {"own": lambda key: agent.act(key, obs, agent.memory())[0]}
    return ways | {str(refiner): by(refiner) for refiner in REFINERS}


OFTEN = ("distilled", "fmq", "fql", "qam_e", "qc", "sfp", "swfp")
CASES = [
    pytest.param(name, False, marks=[] if name in OFTEN else pytest.mark.slow) for name in setup.ALL
] + [("distilled", True), ("fmq", True), ("swfp", True)]
"""All agents offline, and online those that are others then."""


@pytest.mark.parametrize(("name", "online"), CASES)
def test_every_agent_and_refiner(name, online):
    """An action of SFP is 2 Euler steps. A jump of QC, IFQL and QAM is 3, and QAM-E edits it by 1
    more; one of FQL's and of QAM-F's is 1 from noise and 3 from later."""
    config = _config(name)
    agent = config.init(jax.random.key(1), setup.SPEC)
    agent = agent.begin_online(jax.random.key(2)) if online else agent
    kind, _ = setup.VARIANTS.get(name, (name, {}))
    refiners = {str(r): r for r in REFINERS} if kind in REFINABLE else {}
    wanted = {"own": config.act, **refiners}
    ways = _ways(agent, jnp.ones(setup.OBS))

    @jax.jit
    def act(key):
        actions = []
        for NOW[0] in wanted:
            actions.append(ways[NOW[0]](key))
        return actions

    SEEN.clear()
    jax.block_until_ready(act(jax.random.key(0)))
    assert SEEN == {way: agent.cost(refiner).policy for way, refiner in wanted.items()}
