"""Tiny agents of every kind and a batch to train them on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.agents import AGENTS
from flowpolicy.agents.cloning import flow_matching_terms, fmq_terms
from flowpolicy.agents.distilled import lagrangian_distillation
from flowpolicy.agents.heads import EditHead, OneStepHead
from flowpolicy.agents.qam import back_propagate
from flowpolicy.agents.reconstructed.decision_flow import direction_reward
from flowpolicy.agents.reconstructed.swfp import end_to_end
from flowpolicy.flows import Latent, LogitNormal, Stabilised, Term, Triangle, mean_flow
from flowpolicy.nets import (
    Adam,
    MLPCritic,
    MLPFlow,
    MLPGaussian,
    MLPOneStep,
    MLPValue,
    MLPVelocity,
    Plain,
)
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.refine import BestOfN
from flowpolicy.types import Spec, Transition

CHUNK, ACTION, OBS, BATCH = 2, 2, 3, 8
SPEC = Spec(obs=(OBS,), action=ACTION, offline_updates=10)
TINY = {
    "chunk": CHUNK,
    "terms": fmq_terms(0.0, 0.1),
    "optimiser": Adam(rate=1e-2),
    "actor": MLPFlow(width=8, depth=1, embed=Plain()),
    "critic": MLPCritic(width=8, depth=1),
    "act": BestOfN(4),
    "bootstrap": BestOfN(2),
    "steps": 3,
}
VELOCITY = MLPVelocity(width=8, depth=1)
OWN = {
    "decision_flow": {
        "actor": VELOCITY,
        "behaviour": VELOCITY,
        "value": MLPInnerValue(width=8, depth=1),
    },
    "fpmd": {
        "actor": VELOCITY,
        "terms": flow_matching_terms(),
        "critic_optimiser": Adam(rate=1e-2),
        "noise_every": 1,
    },
    "fql": {"actor": MLPOneStep(width=8, depth=1), "behaviour": VELOCITY, "alpha": 1.0},
    "gfp": {"actor": MLPOneStep(width=8, depth=1), "behaviour": VELOCITY, "eta": 0.1},
    "ifql": {"actor": VELOCITY, "value": MLPValue(width=8, depth=1)},
    "mvp": {"terms": (Term(mean_flow, LogitNormal()),)},
    "qam": {"actor": VELOCITY, "ensemble": 2},
    "qc": {"actor": VELOCITY},
    "rlpd": {"actor": MLPGaussian(width=8, depth=1), "ensemble": 2},
    "sfp": {
        "chunk": 1,
        "horizon": 1,  # a trajectory of two points is as large as the others' chunk
        "execute": 1,
        "history": 1,
        "substeps": 2,
        "tube": Stabilised(0.3, 0.5),
        "actor": VELOCITY,
    },
    "swfp": {
        "blocks": 3,
        "inner": 2,
        "actor": VELOCITY,
        "block_optimiser": Adam(rate=1e-2),
    },
}
"""Fields of single agents, in the place of ``TINY``'s."""
VARIANTS = {
    "bam": ("qam", {"improve": back_propagate}),
    "decision_flow_direction": ("decision_flow", {"reward": direction_reward}),
    "fpmd_m": (
        "fpmd",
        {
            "terms": (Term(mean_flow, Triangle()),),
            "steps": 1,
            "actor": MLPFlow(width=8, depth=1, embed=Plain()),
        },
    ),
    "qam_e": ("qam", {"head": EditHead(net=MLPGaussian(width=8, depth=1))}),
    "qam_f": ("qam", {"head": OneStepHead(1.0, MLPOneStep(width=8, depth=1))}),
    "sfp_latent": ("sfp", {"tube": Latent(0.3, 0.3, 0.5)}),
    "swfp_end_to_end": ("swfp", {"improve": end_to_end}),
}
"""Agents made of another's configuration: whose, and with which fields."""
ALL = sorted([*AGENTS, *VARIANTS])


def plain(name):
    """The agent called ``name`` as it stands; what has no default is named."""
    needed = {"distilled": {"source": AGENTS["qc"](), "target": AGENTS["fmq"]()}}
    return AGENTS[name](**needed.get(name, {}))


def config(name, **changes):
    """The agent called ``name`` at a size for tests; fields it does not have are left out."""
    known, own = VARIANTS.get(name, (name, {}))
    kind = AGENTS[known]
    fields = {f.name for f in dataclasses.fields(kind)}
    given = {**TINY, **OWN.get(known, {}), **own, **changes}
    return kind(**{k: v for k, v in given.items() if k in fields})


OWN["distilled"] = {
    "source": config("qc"),
    "target": config("fmq"),
    "terms": lagrangian_distillation(),
}


def make(name, online, **changes):
    """An initialised agent of the offline or the online phase."""
    return build(config(name, **changes), online)


@functools.partial(jax.jit, static_argnums=(0, 1))
def build(config, online):
    """Compiled, because the many small operations of an initialisation take long one by one."""
    agent = config.init(jax.random.key(1), SPEC)
    return agent.begin_online(jax.random.key(2)) if online else agent


def batch(size=BATCH, seed=0):
    """Random transitions; the last is cut by an end, one terminates, one teaches no critic."""
    random = np.random.default_rng(seed)
    d = CHUNK * ACTION

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    mask = jnp.ones((size, d)).at[-1, ACTION:].set(0.0)
    return Transition(
        obs=normal(size, OBS),
        action=jnp.clip(normal(size, d), -1, 1) * mask,
        reward=normal(size),
        discount=jnp.full(size, 0.9).at[0].set(0.0),
        next_obs=normal(size, OBS),
        mask=mask,
        weight=jnp.ones(size).at[-1].set(0.0),
    )


update = jax.jit(lambda agent, key, data: agent.update(key, data))


def train(agent, key, data, count):
    """``count`` updates on the same batch, by the one program that every test shares."""
    for i in range(count):
        agent, _ = update(agent, jax.random.fold_in(key, i), data)
    return agent
