"""Agents that look at frames."""

import jax
import pytest

from flowpolicy import parts
from flowpolicy.agents import FMQ, GFP, IFQL, RLPD, Distilled, qam_e, qam_f
from flowpolicy.agents.fql import FQL
from flowpolicy.agents.reconstructed import DecisionFlow
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets.encoder import Impala
from flowpolicy.nets.frames import ImpalaCritic, ImpalaFlow, ImpalaOneStep
from flowpolicy.runs.visual import seeing
from flowpolicy.types import Spec

SMALL = Impala(channels=(2,), width=4)
SPEC = Spec(obs=(8, 8, 9), action=2)


@pytest.mark.parametrize("agent", [FMQ(), FQL(), GFP(), IFQL(), qam_f()])
def test_every_net_looks_at_frames(agent):
    """It is built for them, written as text and read again, and is the same but for its nets."""
    visual = seeing(agent, SMALL)
    built = jax.eval_shape(lambda: visual.init(jax.random.key(0), SPEC))
    assert any(leaf.shape == (3, 3, 9, 2) for leaf in jax.tree.leaves(built))
    assert parts.parse(parts.describe(visual)) == visual
    assert visual.view == agent.view
    assert isinstance(visual.critic, ImpalaCritic)


def test_nets_are_inside():
    """FQL has a flow, a one-step actor and critics."""
    visual = seeing(FQL(), SMALL)
    kinds = {
        type(getattr(visual, name)) for name in ("flow", "actor", "critic") if name in vars(visual)
    }
    assert kinds <= {ImpalaFlow, ImpalaOneStep, ImpalaCritic}
    assert len(kinds) >= 2


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        (RLPD(), "RLPD.actor: there is no Gaussian policy"),
        (qam_e(), "QAM.head: there is no edit"),
        (DecisionFlow(), "DecisionFlow.value: there is no value on the way"),
        (Distilled(qam_e(), FMQ()), "QAM.head: there is no edit"),
    ],
)
def test_nets_that_would_flatten_frames_are_refused(agent, text):
    """Also inside a head and inside another agent; the nets that have a form are named."""
    with pytest.raises(InvalidConfig, match=f"{text}.*frames.*MLPFlow, MLPVelocity"):
        seeing(agent, SMALL)
