"""IFQL against numpy, and what its value is."""

import dataclasses

import agents_setup as setup
import by_hand
import jax
import numpy as np
import pytest

from flowpolicy.agents import IFQL
from flowpolicy.data.chunk import ChunkView
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import BestOfN

KEY = jax.random.key(3)


def test_an_update_is_the_equations():
    """All losses of one update to 1e-6: V by the target critics' minimum, Q by V."""
    data = setup.batch()
    agent = setup.train(setup.make("ifql", False, expectile=0.8), jax.random.key(1), data, 2)
    with by_hand.double(agent, data) as (agent, data):
        after, metrics = setup.update(agent, KEY, data)
        fields = (data.obs, data.action, data.next_obs, data.weight, data.mask)
        s, action, following, weight, mask = (np.asarray(x) for x in fields)
        q = by_hand.critics(agent.critic.target, s, action).min(0)
        v = by_hand.mlp(agent.implicit.model, s)[:, 0]
        loss = np.mean(weight * np.abs(0.8 - (q < v)) * (q - v) ** 2)
        assert 0 < np.sum(q < v) < setup.BATCH
        assert metrics["value/loss"] == pytest.approx(loss, rel=1e-6)
        next_v = by_hand.mlp(after.implicit.model, following)[:, 0]
        y = np.asarray(data.reward) + np.asarray(data.discount) * next_v
        loss = by_hand.td_loss(agent.critic.online.model, y, data)
        assert metrics["critic/loss"] == pytest.approx(loss, rel=1e-6)
        z, t = by_hand.cloning_draws(KEY, setup.BATCH, action.shape[1])
        cloned = by_hand.flow_matching(agent.actor.model.net, z, t, action, s, mask)
        assert metrics["flow/diagonal"] == pytest.approx(cloned, rel=1e-6)


def test_what_may_not_teach_the_critic_does_not_teach_the_value():
    """Weight 0, a chunk that an end cuts: V keeps its parameters where all samples are such."""
    agent, data = setup.make("ifql", False), setup.batch()
    after, _ = setup.update(agent, KEY, dataclasses.replace(data, weight=0.0 * data.weight))
    pairs = zip(
        jax.tree.leaves(agent.implicit.model), jax.tree.leaves(after.implicit.model), strict=True
    )
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_settings():
    """The expectile 0.9 and best-of-32 of 10 Euler steps, on single actions."""
    ifql = IFQL()
    assert (ifql.expectile, ifql.view, ifql.act) == (0.9, ChunkView(1), BestOfN(32))
    agent = setup.make("ifql", False, steps=10)
    assert agent.flow().nfe(0.0) == 10


@pytest.mark.parametrize(
    "wrong", [{"expectile": 1.0}, {"expectile": 0.0}, {"steps": 0}, {"tau": 0.0}, {"ensemble": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    """With the field and the value."""
    (field,) = wrong
    with pytest.raises(InvalidConfig, match=f"{field}.*{wrong[field]}"):
        IFQL(**wrong)
