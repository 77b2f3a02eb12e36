"""Streaming flow policies: on the two-mode bandit, on demonstrations of two ways to a goal, and on
Push-T.

On Push-T the demonstrations are those of our scripted finger, their actions positions.
``sfp/pusht`` has the released code's numbers for people's, whose start has no noise; the small runs
have a gain, act with noise, and begin the flow anew after 4 actions, which covers more than after
8. Beside both tasks' runs there is behaviour cloning of chunks with a flow map.
"""

from flowpolicy.agents import BC, SFP
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.agents.sfp import Measured
from flowpolicy.data.replay import OfflineShare
from flowpolicy.flows import Latent, Stabilised, Tube
from flowpolicy.nets import Adam, Fourier, MLPFlow, MLPVelocity, Plain
from flowpolicy.runs import registry
from flowpolicy.runs.pusht import PushT
from flowpolicy.runs.tasks import TwoModesTask, TwoWaysTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig

WAYS_TUBES: dict[str, Tube] = {"sfp": Stabilised(0.05, 2.5), "sfp-latent": Latent(0.05, 0.05, 2.5)}
BANDIT_TUBES: dict[str, Tube] = {"sfp": Stabilised(0.2, 1.0), "sfp-latent": Latent(0.2, 0.1, 1.0)}
PUSHT_TUBES: dict[str, tuple[Tube, Tube]] = {
    "sfp": (Stabilised(0.1, 0.0), Stabilised(0.1, 1.0)),
    "sfp-latent": (Latent(0.1, 0.1, 0.0), Latent(0.1, 0.1, 1.0)),
}
"""Of the released code, and of the small runs."""
PUSHT_UPDATES = 20_000
PUSHT_RATE = Adam(rate=1e-3, hold=10_000, anneal=10_000, floor=1e-5)
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


def on_pusht(agent: AgentConfig, updates: int, batch: int) -> RunConfig:
    """So many updates on 50 000 rows of demonstrations, nothing online."""
    return RunConfig(
        agent=agent,
        task=PushT(rows=50_000, positions=True),
        phases=(Offline(updates),),
        batch=batch,
        evaluation=Evaluation(every=updates // 4, episodes=20, final_episodes=50, side_by_side=10),
        checkpoint_every=updates // 4,
    )


def released(tube: Tube) -> SFP:
    """The released code's numbers; with a latent it begins at the start itself, too."""
    return SFP(tube=tube, start=Measured((0, 1)), spread=0.0, substeps=6)


def small(tube: Tube) -> SFP:
    """What two cores train in minutes."""
    return SFP(
        execute=4,
        tube=tube,
        start=Measured((0, 1)),
        optimiser=PUSHT_RATE,
        actor=MLPVelocity(width=256, depth=3, embed=Fourier()),
    )


def small_chunks() -> BC:
    """Chunks of 4 actions with as large a net."""
    net = MLPFlow(width=256, depth=3, embed=Plain())
    return BC(chunk=4, terms=fmq_terms(0.0, 0.1), optimiser=PUSHT_RATE, actor=net)


def register() -> None:
    """``toy/sfp/<task>`` and ``toy/sfp-latent/<task>``, ``toy/bc/two-ways``; ``sfp/pusht`` and
    ``sfp-latent/pusht`` with small ones under ``mini/``, and ``mini/bc/pusht``."""
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
    for name, what in WHAT.items():
        proper, little = PUSHT_TUBES[name]
        registry.add(
            f"{name}/pusht", f"{what}, on Push-T",
            lambda tube=proper: on_pusht(released(tube), 50_000, 1024),
        )  # fmt: skip
        registry.add(
            f"mini/{name}/pusht", f"small: {what}, on Push-T",
            lambda tube=little: on_pusht(small(tube), PUSHT_UPDATES, 256),
        )  # fmt: skip
    registry.add(
        "mini/bc/pusht", "small: chunks cloned by a flow map, on Push-T",
        lambda: on_pusht(small_chunks(), PUSHT_UPDATES, 256),
    )  # fmt: skip
