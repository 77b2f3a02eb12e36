"""Runs of the named run toy/fmq, shrunk so that each takes seconds."""

import hashlib

import jax
import numpy as np

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.train.phases import Evaluation

CHUNK = 2
TINY = {
    "task": runs.PointMassTask(rows=300),
    "phases": (fp.Offline(20), fp.Online(60, start_after=0)),
    "batch": 8,
    "block": 10,
    "checkpoint_every": 1000,
    "evaluation": Evaluation(every=0, episodes=2, final_episodes=3, side_by_side=2),
    "chunk": CHUNK,
    "terms": fmq_terms(0.0, 0.1),
    "actor": MLPFlow(width=8, depth=1, embed=Plain()),
    "critic": MLPCritic(width=8, depth=1),
    "act": OneStep(),
    "bootstrap": BestOfN(2),
}
OFFLINE = (fp.Offline(20),)
QUIET = Evaluation(every=0, final_episodes=0)  # no evaluation


def train(out, **changes):
    """A tiny run into the folder ``out``."""
    return fp.train("toy/fmq", out=out, **{**TINY, **changes})


def agents(run):
    """The trained agents of a run, all seeds."""
    return run.load()[0].agents


def fingerprint(run):
    """SHA-256 over every leaf of the newest checkpoint's agents."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(agents(run)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def lines(run, name):
    """The lines of metrics.jsonl that hold the metric ``name``."""
    return [line for line in run.metrics() if name in line]
