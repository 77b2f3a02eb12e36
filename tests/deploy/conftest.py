"""These tests compile much and compute little; many of them look at one small package."""

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.data.dataset import Dataset
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.train.normalise import Standardise
from flowpolicy.train.phases import Evaluation


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run on rows of two fields, standardised, with two seeds."""
    draws, n = np.random.default_rng(0), 60
    obs = {"arm": draws.normal(3, 2, (n, 3)), "cup": draws.normal(-1, 0.1, (n, 2, 2))}
    obs = {k: v.astype(np.float32) for k, v in obs.items()}
    rows = Dataset.from_arrays(
        obs=obs,
        action=draws.uniform(-1, 1, (n, 2)).astype(np.float32),
        reward=np.zeros(n, np.float32),
        terminated=np.zeros(n, bool),
        truncated=np.arange(n) % 20 == 19,
        next_obs=jax.tree.map(lambda x: np.roll(x, -1, 0), obs),
    )
    agent = fp.FMQ(
        chunk=2,
        actor=MLPFlow(width=8, depth=1, embed=Plain()),
        critic=MLPCritic(width=8, depth=1),
        act=BestOfN(4),
        bootstrap=OneStep(),
    )
    return fp.train(
        agent,
        rows,
        out=tmp_path_factory.mktemp("trained") / "r",
        seeds=[0, 3],
        phases=(fp.Offline(5),),
        batch=8,
        block=5,
        normaliser=Standardise(),
        evaluation=Evaluation(every=0, final_episodes=0),
    )


@pytest.fixture(scope="session")
def packaged(trained, tmp_path_factory):
    """Its second seed as a package."""
    out = tmp_path_factory.mktemp("packaged") / "p"
    return fp.package(trained, out, seed_index=1, licence="apache-2.0")


@pytest.fixture(scope="session")
def seen():
    """Some observations of the run's fields."""
    draws = np.random.default_rng(1)
    return [
        {
            "arm": draws.normal(3, 2, 3).astype(np.float32),
            "cup": draws.normal(-1, 0.1, (2, 2)).astype(np.float32),
        }
        for _ in range(6)
    ]
