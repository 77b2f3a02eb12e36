"""Methods that look at frames: the same agents with an encoder before each of their nets."""

import dataclasses
from typing import Any

from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.heads import OneStepHead
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, MLPGaussian, MLPOneStep, MLPValue, MLPVelocity
from flowpolicy.nets.encoder import Impala
from flowpolicy.nets.frames import ImpalaCritic, ImpalaFlow, ImpalaOneStep, ImpalaValue

SEEING = {
    MLPFlow: ImpalaFlow,
    MLPVelocity: ImpalaFlow,
    MLPOneStep: ImpalaOneStep,
    MLPCritic: ImpalaCritic,
    MLPValue: ImpalaValue,
}
"""By the net for vectors, the one for frames that has it inside."""


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
        elif isinstance(value, MLPGaussian):
            raise InvalidConfig(f"{field.name}: there is no Gaussian policy that looks at frames")
        elif type(value) in SEEING:
            changes[field.name] = SEEING[type(value)](encoder, value)
    return dataclasses.replace(agent, **changes)  # pyright: ignore[reportArgumentType]
