"""Actions one after another: when an observation is asked for, and what comes of it."""

import itertools

import jax
import numpy as np
import pytest

from flowpolicy.agents import BC, SFP
from flowpolicy.errors import InvalidData
from flowpolicy.nets import MLPFlow, MLPVelocity, Plain
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.policy import Policy
from flowpolicy.train.stream import stream
from flowpolicy.types import Spec

SPEC = Spec((3,), 2)
AGENTS = {
    1: SFP(horizon=4, execute=3, actor=MLPVelocity(width=8, depth=1)),
    5: BC(chunk=5, actor=MLPFlow(width=8, depth=1, embed=Plain())),
}


def _policy(config):
    agent = config.init(jax.random.key(1), SPEC)
    return Policy(JaxActor(agent, Normaliser(None, None), SPEC, config.view.chunk, seed=3))


class Robot:
    """Counts how often it is observed."""

    asked = 0

    def observe(self):
        self.asked += 1
        return np.full(3, 0.1 * self.asked, np.float32)


@pytest.mark.parametrize("every", AGENTS)
def test_an_observation_is_asked_for_when_a_call_is_due(every):
    """Before every action of a policy that streams, before every chunk of another; the actions are
    those of ``Policy.act`` in order."""
    robot, other = Robot(), Robot()
    policy = _policy(AGENTS[every])
    wanted = np.concatenate([policy.act(other.observe()) for _ in range(10 // every + 1)])
    for n, action in enumerate(itertools.islice(stream(_policy(AGENTS[every]), robot.observe), 10)):
        assert robot.asked == n // every + 1
        np.testing.assert_array_equal(action, wanted[n])


def test_a_bad_observation_is_refused_where_it_is_seen():
    """Not before: the actions until then have been given."""
    seen = iter([np.zeros(3), np.full(3, np.nan)])
    actions = stream(_policy(AGENTS[1]), lambda: next(seen))
    assert next(actions).shape == (2,)
    with pytest.raises(InvalidData, match="finite"):
        next(actions)
