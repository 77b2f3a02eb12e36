"""The small protocol: the same methods and the same code at a size that two cores train in minutes.

100 000 rows collected on the spot, 5 000 offline updates, 10 000 environment steps with an update
each, batches of 128 of which half are offline rows, 3 x 256 nets, best-of-8 in the TD target. The
budget is so short that two things decide it, the same for every method:

- the net that clones learns at 0.002, falling to a twentieth of it by the end of the offline phase:
  at the papers' 0.0003 it cannot grasp a cube after so few updates;
- the critics' rate falls to 0 over the last 4 000 of their updates, because success oscillates at a
  constant one.

FMQ's curriculum ends after a tenth of the offline phase, and its radius is smaller than the page's,
as the policy at its centre has hardly been trained.
"""

import dataclasses
from typing import Any

from flowpolicy.agents import BC, FMQ, MVP, QAM, RLPD, Distilled
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.agents.heads import EditHead, OneStepHead
from flowpolicy.data.replay import OfflineShare
from flowpolicy.envs.scripted import JOBS
from flowpolicy.nets import (
    Adam,
    MLPCritic,
    MLPFlow,
    MLPGaussian,
    MLPOneStep,
    MLPValue,
    MLPVelocity,
)
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.refine import BestOfN
from flowpolicy.runs import registry
from flowpolicy.runs.methods import NOISY, Method, compared, controls, from_flows, objectives
from flowpolicy.runs.paper import ROBOMIMIC, TASKS, environment
from flowpolicy.runs.robomimic import RoboMimic
from flowpolicy.runs.tasks import OGBench
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig
from flowpolicy.train.task import Task

OFFLINE, ONLINE = 5_000, 10_000
ACTOR = Adam(rate=2e-3, hold=2_500, anneal=2_500, floor=1e-4)
CRITIC = Adam(hold=11_000, anneal=4_000)
ALONE = Adam(hold=ONLINE - 4_000, anneal=4_000)
"""Of a method whose only updates are the online ones."""
NETS = (MLPFlow, MLPVelocity, MLPOneStep, MLPCritic, MLPValue, MLPInnerValue, MLPGaussian)

MINI = FMQ(eta=0.15, beta=0.0, terms=fmq_terms(0.0, 0.1))


def small(agent: AgentConfig) -> AgentConfig:
    """``agent``, and one inside it, with the protocol's nets, candidates and optimisers."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(agent):  # pyright: ignore[reportArgumentType]
        value = getattr(agent, field.name)
        if isinstance(value, AgentConfig):
            changes[field.name] = small(value)
        elif isinstance(value, OneStepHead):
            changes[field.name] = dataclasses.replace(value, actor=small_net(value.actor))
        elif isinstance(value, EditHead):
            changes[field.name] = dataclasses.replace(value, net=small_net(value.net))
        elif isinstance(value, NETS):
            changes[field.name] = small_net(value)
        elif field.name == "bootstrap" and isinstance(value, BestOfN):
            changes[field.name] = dataclasses.replace(value, n=min(value.n, 8))
    return dataclasses.replace(agent, **changes, **optimisers(agent))  # pyright: ignore


def small_net(net: Any) -> Any:
    """``net`` at the protocol's size."""
    return dataclasses.replace(net, width=256, depth=3)


def optimisers(agent: AgentConfig) -> dict[str, Adam]:
    """RLPD clones nothing, so its one optimiser is that of the critics. QAM clips its gradients."""
    if isinstance(agent, QAM):
        actor, critic = (dataclasses.replace(x, clip=agent.optimiser.clip) for x in (ACTOR, CRITIC))
        return {"optimiser": actor, "critic_optimiser": critic}
    if isinstance(agent, RLPD):
        return {"optimiser": ALONE}
    if isinstance(agent, BC):
        return {"optimiser": ACTOR}
    return {} if isinstance(agent, Distilled) else {"optimiser": ACTOR, "critic_optimiser": CRITIC}


def small_task(task: str) -> Task:
    """With rows collected on the spot: OGBench's, or RoboMimic's by our scripted hand, which has no
    script for Square; there people's demonstrations are needed."""
    if task not in ROBOMIMIC:
        return OGBench(task, rows=100_000)
    name = task.removeprefix("robomimic-")
    return RoboMimic(name, "scripted", rows=20_000) if name in JOBS else RoboMimic(name)


def mini_run(method: Method, task: str) -> RunConfig:
    """``method`` on ``task`` with the small budget; a method without an offline phase has none."""
    online = Online(ONLINE, start_after=0)
    offline = any(isinstance(phase, Offline) for phase in method.phases)
    return RunConfig(
        agent=small(method.agent(environment(task))),
        task=small_task(task),
        phases=(Offline(OFFLINE), online) if offline else (online,),
        batch=128,
        draw=OfflineShare(0.5),
        evaluation=Evaluation(
            every=2_500, episodes=20, final_episodes=50, side_by_side=10, refiners=method.refiners
        ),
        checkpoint_every=2_500,
    )


def register() -> None:
    """Every method on every task, under ``mini/``."""
    methods = (*compared(MINI), *controls(MINI), *objectives(MINI, MVP()), *from_flows(MINI))
    for method in methods:
        registry.add_family(
            f"mini/{method.name}", f"small: {method.summary}", TASKS,
            lambda task, method=method: mini_run(method, task),
        )  # fmt: skip
    for method in (method for method in methods if method.name in NOISY):
        for i in range(1, 6):
            task = f"cube-single-noisy-task{i}"
            registry.add(
                f"mini/{method.name}/{task}", f"small: {method.name.upper()} on noisy data",
                lambda task=task, method=method: mini_run(method, task),
            )  # fmt: skip
