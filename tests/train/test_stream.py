"""Actions one after another: when an observation is asked for, and what comes of it."""

import itertools

import jax
import numpy as np
import pytest

from flowpolicy.agents import BC, SFP
from flowpolicy.deploy.units import ActionUnits
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.nets import MLPFlow, MLPVelocity, Plain
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.policy import Policy
from flowpolicy.types import Spec

SPEC = Spec((3,), 2)
STREAMS = SFP(horizon=4, execute=3, actor=MLPVelocity(width=8, depth=1))
CHUNKS = BC(chunk=5, actor=MLPFlow(width=8, depth=1, embed=Plain()))
DEGREES = ActionUnits((10.0, -20.0), (90.0, 45.0))


def _actor(config):
    agent = config.init(jax.random.key(1), SPEC)
    return JaxActor(agent, Normaliser(None, None), SPEC, config.view.chunk, seed=3)


@pytest.fixture(scope="module")
def actor():
    """Of a policy that streams."""
    return _actor(STREAMS)


class Robot:
    """Counts how often it is observed."""

    asked = 0

    def observe(self):
        self.asked += 1
        return np.full(3, 0.1 * self.asked, np.float32)


def test_an_observation_is_asked_for_before_every_action(actor):
    """And not earlier; the actions are those of ``Policy.act`` in order."""
    robot, other, policy = Robot(), Robot(), Policy(actor)
    wanted = [policy.act(other.observe())[0] for _ in range(7)]
    actions = Policy(actor).stream(robot.observe)
    assert robot.asked == 0
    for n, action in enumerate(itertools.islice(actions, 7)):
        assert robot.asked == n + 1
        np.testing.assert_array_equal(action, wanted[n])
    assert len(np.unique(wanted, axis=0)) == 7


def test_actions_are_in_the_robot_s_units_unless_in_the_box(actor):
    """As those of ``Policy.act``."""
    policy = Policy(actor, DEGREES)
    boxed = list(itertools.islice(policy.in_box().stream(Robot().observe), 4))
    moved = list(itertools.islice(policy.stream(Robot().observe), 4))
    np.testing.assert_allclose(moved, np.array([10.0, -20.0]) + boxed * np.array([90.0, 45.0]))
    assert np.abs(boxed).max() <= 1 < np.abs(moved).max()


def test_an_iterator_is_an_episode(actor):
    """What the policy remembered before is forgotten: the flow begins at the action 0 again."""
    policy = Policy(actor)
    counts = []
    for _ in range(2):
        list(itertools.islice(policy.stream(Robot().observe), 5))
        counts.append(int(policy._memory.count))
    assert counts == [5, 5]


def test_a_bad_observation_is_refused_where_it_is_seen(actor):
    """Not before: the actions until then have been given."""
    seen = iter([np.zeros(3), np.full(3, np.nan)])
    actions = Policy(actor).stream(lambda: next(seen))
    assert next(actions).shape == (2,)
    with pytest.raises(InvalidData, match="finite"):
        next(actions)


def test_a_policy_of_chunks_is_told_that_it_does_not_stream():
    """At once, before anything is observed."""
    with pytest.raises(InvalidConfig, match=r"chunks of 5 actions.*policy\.session\(\)"):
        Policy(_actor(CHUNKS)).stream(Robot().observe)
