"""RLPD on Gymnasium's environments, purely online: no data, so every row is the agent's own.

At the proper size a million environment steps with an update each, 5 000 of them random at first,
as in the papers' protocol; the small ones are what two cores train in minutes. These environments
tell no success: the return is what counts.
"""

import dataclasses

from flowpolicy.agents import RLPD
from flowpolicy.nets import Adam, MLPCritic, MLPGaussian
from flowpolicy.runs import registry
from flowpolicy.runs.farama import Gymnasium
from flowpolicy.train.phases import Evaluation, Online, RunConfig
from flowpolicy.values import minimum

ENVIRONMENTS = ("Pendulum-v1", "InvertedPendulum-v5", "HalfCheetah-v5")
STEPS = {"Pendulum-v1": 5_000, "InvertedPendulum-v5": 10_000, "HalfCheetah-v5": 20_000}
"""Environment steps of the small runs."""

AGENT = RLPD(ensemble=2, entropy=-1.0, aggregate=minimum)
"""Two critics, their minimum in the TD target, and a target entropy of minus the action's size, as
in soft actor-critic; but no entropy in the TD target, as in QC's RLPD. RLPD's ten critics are for
many updates a step."""


def proper(environment: str) -> RunConfig:
    """The papers' nets and a million steps."""
    return RunConfig(
        agent=AGENT,
        task=Gymnasium(environment),
        phases=(Online(random_steps=5_000),),
        evaluation=Evaluation(episodes=10, final_episodes=50),
    )


def small(environment: str) -> RunConfig:
    """Small nets and few steps."""
    steps = STEPS[environment]
    agent = dataclasses.replace(
        AGENT,
        actor=MLPGaussian(width=128, depth=2),
        critic=MLPCritic(width=128, depth=2),
        optimiser=Adam(rate=1e-3),
    )
    return RunConfig(
        agent=agent,
        task=Gymnasium(environment),
        phases=(Online(steps, start_after=500, random_steps=500),),
        batch=128,
        evaluation=Evaluation(every=steps // 5, episodes=5, final_episodes=10, side_by_side=5),
        checkpoint_every=steps,
    )


def register() -> None:
    """``rlpd/<environment>`` and ``mini/rlpd/<environment>``."""
    for name in ENVIRONMENTS:
        what = f"RLPD on {name}, purely online"
        registry.add(f"rlpd/{name}", what, lambda name=name: proper(name))
        registry.add(f"mini/rlpd/{name}", f"small: {what}", lambda name=name: small(name))
