"""Agents: one paper, one file, composed from flows, values, nets and refiners."""

from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.agents.bc import BC
from flowpolicy.agents.fmq import FMQ

AGENTS: dict[str, type] = {"bc": BC, "fmq": FMQ}
"""Every agent of the library by name; the invariant tests run over all of them."""

__all__ = ["AGENTS", "BC", "FMQ", "Agent", "AgentConfig"]
