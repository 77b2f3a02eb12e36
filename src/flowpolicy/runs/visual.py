"""Methods that look at frames: the same agents with an encoder before each of their nets.

The named runs are FQL's on its five visual tasks: 500 000 updates and no online phase, three frames
at a time, half of the samples shifted at random, and an encoder for every net. GFP's are the same
with the weights of its own table; what else its visual runs have we did not read.
"""

import dataclasses
from typing import Any

from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.fql import FQL
from flowpolicy.agents.heads import EditHead, OneStepHead
from flowpolicy.data.augment import RandomCrop
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, MLPGaussian, MLPOneStep, MLPValue, MLPVelocity
from flowpolicy.nets.encoder import Impala
from flowpolicy.nets.frames import ImpalaCritic, ImpalaFlow, ImpalaOneStep, ImpalaValue
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.runs import registry
from flowpolicy.runs.guided import gfp
from flowpolicy.runs.tasks import OGBench
from flowpolicy.train.phases import Offline, RunConfig

WEIGHTS = {
    "visual-cube-single-task1": 300.0,
    "visual-cube-double-task1": 100.0,
    "visual-scene-task1": 100.0,
    "visual-puzzle-3x3-task1": 300.0,
    "visual-puzzle-4x4-task1": 300.0,
}
"""alpha of FQL on the visual tasks of its paper."""

SEEING = {
    MLPFlow: ImpalaFlow,
    MLPVelocity: ImpalaFlow,
    MLPOneStep: ImpalaOneStep,
    MLPCritic: ImpalaCritic,
    MLPValue: ImpalaValue,
}
"""By the net for vectors, the one for frames that has it inside."""

BLIND = {
    EditHead: "edit of actions",
    MLPGaussian: "Gaussian policy",
    MLPInnerValue: "value on the way to an action",
}
"""What flattens whatever it sees, and has no form for frames."""


def seeing(agent: AgentConfig, encoder: Impala = Impala()) -> AgentConfig:
    """``agent``, and one inside it, whose nets look at frames, each with an ``encoder`` of its own.

    ``InvalidConfig`` where a net has none for frames.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(agent):  # pyright: ignore[reportArgumentType]
        value = getattr(agent, field.name)
        if isinstance(value, AgentConfig):
            changes[field.name] = seeing(value, encoder)
        elif isinstance(value, OneStepHead):
            actor = ImpalaOneStep(encoder, value.actor)
            changes[field.name] = dataclasses.replace(value, actor=actor)
        elif type(value) in BLIND:
            kind = type(agent).__name__
            raise InvalidConfig(
                f"{kind}.{field.name}: there is no {BLIND[type(value)]} that looks at frames; "
                f"nets that have a form for them: {', '.join(net.__name__ for net in SEEING)}"
            )
        elif type(value) in SEEING:
            changes[field.name] = SEEING[type(value)](encoder, value)
    return dataclasses.replace(agent, **changes)  # pyright: ignore[reportArgumentType]


def visual_run(agent: AgentConfig, task: str) -> RunConfig:
    """``agent`` on the frames of ``task``, which holds the data and the environment."""
    return RunConfig(
        agent=seeing(agent),
        task=OGBench(task, timing="mixed"),
        phases=(Offline(500_000),),
        augment=RandomCrop(),
    )


def register() -> None:
    """``fql/visual-...`` and ``gfp/visual-...``, a run for each task."""
    for task, alpha in WEIGHTS.items():
        agents = {"fql": FQL(alpha=alpha), "gfp": gfp(task)}
        for name, agent in agents.items():
            registry.add(
                f"{name}/{task}", f"{name.upper()} on frames",
                lambda agent=agent, task=task: visual_run(agent, task),
            )  # fmt: skip
