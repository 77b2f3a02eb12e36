"""Agents: one paper, one file, composed from flows, values, nets and refiners."""

from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.agents.bc import BC
from flowpolicy.agents.controls import DirectGradient
from flowpolicy.agents.fmq import FMQ
from flowpolicy.agents.rlpd import RLPD

AGENTS: dict[str, type] = {"bc": BC, "fmq": FMQ, "rlpd": RLPD}
"""Every agent of the library by name; the invariant tests run over all of them."""

__all__ = ["AGENTS", "BC", "FMQ", "RLPD", "Agent", "AgentConfig", "DirectGradient"]
