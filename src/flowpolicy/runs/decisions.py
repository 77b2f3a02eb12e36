"""Our reconstruction of Decision Flow on the two-mode bandit; in no comparison of papers."""

from flowpolicy.agents.reconstructed.decision_flow import (
    DecisionFlow,
    Reward,
    direction_reward,
    divergence_reward,
)
from flowpolicy.data.replay import OfflineShare
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.refine import OneStep
from flowpolicy.runs import registry
from flowpolicy.runs.tasks import TwoModesTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig

REWARDS: dict[str, Reward] = {
    "decision-flow-direction": direction_reward,
    "decision-flow-divergence": divergence_reward,
}


def bandit(reward: Reward, low: float) -> RunConfig:
    """At the size of the other methods' bandit."""
    velocity = MLPVelocity(width=24, depth=2)
    agent = DecisionFlow(
        chunk=1,
        reward=reward,
        steps=5,
        act=OneStep(),
        optimiser=Adam(rate=3e-3),
        behaviour=velocity,
        actor=velocity,
        critic=MLPCritic(width=32, depth=2),
        value=MLPInnerValue(width=32, depth=2),
    )
    return RunConfig(
        agent=agent,
        task=TwoModesTask(low),
        phases=(Offline(1_000), Online(500, start_after=0)),
        batch=64,
        draw=OfflineShare(0.5),
        evaluation=Evaluation(every=250, episodes=50, final_episodes=50, side_by_side=50),
    )


def register() -> None:
    """``toy/decision-flow-<variant>/<task>``."""
    for name, reward in REWARDS.items():
        for low in (1.0, 0.6):
            task = TwoModesTask(low).name
            registry.add(
                f"toy/{name}/{task}", f"reconstruction of Decision Flow, bandit, {task}",
                lambda reward=reward, low=low: bandit(reward, low),
            )  # fmt: skip
