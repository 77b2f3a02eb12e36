"""Streaming flow policies: on the two-mode bandit, and on demonstrations of two ways to a goal.

Beside them, on the second, behaviour cloning of chunks with a flow map.
"""

from flowpolicy.agents import BC, SFP
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.agents.sfp import Measured
from flowpolicy.data.replay import OfflineShare
from flowpolicy.flows import Latent, Stabilised, Tube
from flowpolicy.nets import Adam, MLPFlow, MLPVelocity, Plain
from flowpolicy.runs import registry
from flowpolicy.runs.tasks import TwoModesTask, TwoWaysTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig

WAYS_TUBES: dict[str, Tube] = {"sfp": Stabilised(0.05, 2.5), "sfp-latent": Latent(0.05, 0.05, 2.5)}
BANDIT_TUBES: dict[str, Tube] = {"sfp": Stabilised(0.2, 1.0), "sfp-latent": Latent(0.2, 0.1, 1.0)}
WHAT = {"sfp": "SFP, deterministic", "sfp-latent": "SFP with a latent"}


def streaming(tube: Tube) -> SFP:
    """SFP at the size of ``two_ways``; trajectories start where the point is."""
    return SFP(
        horizon=16,
        execute=8,
        history=1,
        tube=tube,
        start=Measured((0, 1)),
        optimiser=Adam(rate=2e-3, hold=1_500, anneal=1_500),
        actor=MLPVelocity(width=64, depth=3),
    )


def chunked() -> BC:
    """Behaviour cloning of chunks of 8 actions with as large a net."""
    return BC(
        chunk=8,
        terms=fmq_terms(0.0, 0.1),
        optimiser=Adam(rate=2e-3, hold=1_500, anneal=1_500),
        actor=MLPFlow(width=64, depth=3, embed=Plain()),
    )


def on_two_ways(agent: AgentConfig) -> RunConfig:
    """3 000 updates on the demonstrations, nothing online."""
    return RunConfig(
        agent=agent,
        task=TwoWaysTask(),
        phases=(Offline(3_000),),
        batch=128,
        evaluation=Evaluation(every=1_000, episodes=20, final_episodes=50),
        checkpoint_every=3_000,
    )


def on_bandit(tube: Tube, low: float) -> RunConfig:
    """An episode is one action, so that a trajectory is one segment, from 0 to the action."""
    agent = SFP(
        horizon=1,
        execute=1,
        history=1,
        substeps=10,
        tube=tube,
        optimiser=Adam(rate=3e-3),
        actor=MLPVelocity(width=24, depth=2),
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
    """``toy/sfp/<task>`` and ``toy/sfp-latent/<task>``, and ``toy/bc/two-ways``."""
    for name, tube in WAYS_TUBES.items():
        registry.add(
            f"toy/{name}/two-ways", f"{WHAT[name]}, on two ways to a goal",
            lambda tube=tube: on_two_ways(streaming(tube)),
        )  # fmt: skip
    for name, tube in BANDIT_TUBES.items():
        for low in (1.0, 0.6):
            task = TwoModesTask(low).name
            registry.add(
                f"toy/{name}/{task}", f"{WHAT[name]}, on the two-mode bandit, {task}",
                lambda tube=tube, low=low: on_bandit(tube, low),
            )  # fmt: skip
    registry.add(
        "toy/bc/two-ways", "chunks cloned by a flow map, on two ways to a goal",
        lambda: on_two_ways(chunked()),
    )  # fmt: skip
