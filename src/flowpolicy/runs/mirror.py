"""FPMD on Gymnasium's MuJoCo environments, purely online, with one step or one jump to act.

At the proper size the released runs' numbers: a million environment steps, the first 30 000 of them
random, and one update for every five steps. The code's steps are those of five environments side by
side; here there is one. Weights are standardised as they were meant to be; ``-released`` has the
code's own formula, which is not.

The small runs are what two cores train in minutes: small nets, 10 Euler steps, the best of 8, an
update after every step, and a noise that falls as much sooner. Their target critics follow four
times as fast, as otherwise values hardly grow in so few updates, and their rates fall towards the
end, as returns swing at constant ones. These environments tell no success: the return is what
counts.
"""

import dataclasses

from flowpolicy.agents.fpmd import FPMD, fpmd_m, fpmd_r
from flowpolicy.flows import released_weights
from flowpolicy.nets import Adam, MLPCritic
from flowpolicy.refine import BestOfN
from flowpolicy.runs import registry
from flowpolicy.runs.farama import Gymnasium
from flowpolicy.train.phases import Evaluation, Online, RunConfig

ENVIRONMENTS = ("InvertedPendulum-v5", "Hopper-v5", "HalfCheetah-v5", "Ant-v5", "Swimmer-v5")
SMALL = {"InvertedPendulum-v5": 10_000, "Hopper-v5": 60_000, "HalfCheetah-v5": 30_000}
"""Environment steps of the small runs."""
AGENTS = {
    "fpmd-r": ("FPMD-R, rectified flow and one step to act", fpmd_r()),
    "fpmd-m": ("FPMD-M, MeanFlow", fpmd_m()),
}


def proper(agent: FPMD, environment: str) -> RunConfig:
    """The released sizes and a million steps."""
    return RunConfig(
        agent=agent,
        task=Gymnasium(environment),
        phases=(Online(start_after=30_000, random_steps=30_000, updates_per_step=0.2),),
        evaluation=Evaluation(episodes=10, final_episodes=50),
    )


def small(agent: FPMD, environment: str) -> RunConfig:
    """Small nets and few steps."""
    steps = SMALL[environment]
    agent = dataclasses.replace(
        agent,
        steps=min(agent.steps, 10),
        bootstrap=BestOfN(8),
        noise_every=10,
        memory=0.01,
        tau=0.01,
        # A policy's steps are every second update.
        optimiser=Adam(rate=1e-3, hold=steps // 4, anneal=steps // 4, floor=1e-5),
        critic_optimiser=Adam(rate=1e-3, hold=steps // 2, anneal=steps // 2, floor=1e-5),
        actor=dataclasses.replace(agent.actor, width=128, depth=2),
        critic=MLPCritic(width=128, depth=2),
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
    """``fpmd-r/<environment>``, ``fpmd-m/<environment>``, both as released, and small ones under
    ``mini/``."""
    for name, (what, agent) in AGENTS.items():
        as_released = dataclasses.replace(agent, weigh=released_weights)
        for env in ENVIRONMENTS:
            registry.add(
                f"{name}/{env}", f"{what}, on {env}",
                lambda agent=agent, env=env: proper(agent, env),
            )  # fmt: skip
            registry.add(
                f"{name}-released/{env}", f"{what}, the released code's weights, on {env}",
                lambda agent=as_released, env=env: proper(agent, env),
            )  # fmt: skip
        for env in SMALL:
            registry.add(
                f"mini/{name}/{env}", f"small: {what}, on {env}",
                lambda agent=agent, env=env: small(agent, env),
            )  # fmt: skip
