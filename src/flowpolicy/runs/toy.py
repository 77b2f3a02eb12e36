"""A point mass: seconds, no simulator."""

from flowpolicy.agents import FMQ
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.nets import MLPCritic, MLPFlow
from flowpolicy.refine import BestOfN
from flowpolicy.runs import registry
from flowpolicy.runs.tasks import PointMassTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig


def point_mass() -> RunConfig:
    """FMQ on ``PointMassTask``."""
    agent = FMQ(
        chunk=2,
        discount=0.95,
        eta=0.3,
        terms=fmq_terms(0.0, 0.1),
        act=BestOfN(8),
        bootstrap=BestOfN(4),
        actor=MLPFlow(width=32, depth=2),
        critic=MLPCritic(width=32, depth=2),
    )
    return RunConfig(
        agent=agent,
        task=PointMassTask(),
        phases=(Offline(500), Online(500, start_after=0)),
        batch=64,
        evaluation=Evaluation(every=250, episodes=10, final_episodes=20),
        checkpoint_every=250,
    )


def register() -> None:
    """``toy/fmq``."""
    registry.add("toy/fmq", "FMQ on a point mass, seconds, no simulator", point_mass)
