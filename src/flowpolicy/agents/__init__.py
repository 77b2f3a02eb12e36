"""Agents: one paper, one file, composed from flows, values, nets and refiners."""

from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.agents.bc import BC
from flowpolicy.agents.controls import DirectGradient
from flowpolicy.agents.distilled import Distilled
from flowpolicy.agents.fmq import FMQ
from flowpolicy.agents.fpmd import FPMD, fpmd_m, fpmd_r
from flowpolicy.agents.fql import FQL, fql_n, qc_fql
from flowpolicy.agents.gfp import GFP
from flowpolicy.agents.heads import EditHead, FlowHead, OneStepHead
from flowpolicy.agents.ifql import IFQL
from flowpolicy.agents.mvp import MVP
from flowpolicy.agents.qam import QAM, bam, qam_e, qam_f
from flowpolicy.agents.qc import QC, bfn, bfn_n
from flowpolicy.agents.reconstructed import SWFP, DecisionFlow
from flowpolicy.agents.rlpd import RLPD
from flowpolicy.agents.sfp import SFP

AGENTS: dict[str, type] = {
    "bc": BC,
    "decision_flow": DecisionFlow,
    "distilled": Distilled,
    "fmq": FMQ,
    "fpmd": FPMD,
    "fql": FQL,
    "gfp": GFP,
    "ifql": IFQL,
    "mvp": MVP,
    "qam": QAM,
    "qc": QC,
    "rlpd": RLPD,
    "sfp": SFP,
    "swfp": SWFP,
}
"""Every agent of the library by name; the invariant tests run over all of them."""

__all__ = [
    "AGENTS",
    "BC",
    "FMQ",
    "FPMD",
    "FQL",
    "GFP",
    "IFQL",
    "MVP",
    "QAM",
    "QC",
    "RLPD",
    "SFP",
    "SWFP",
    "Agent",
    "AgentConfig",
    "DecisionFlow",
    "DirectGradient",
    "Distilled",
    "EditHead",
    "FlowHead",
    "OneStepHead",
    "bam",
    "bfn",
    "bfn_n",
    "fpmd_m",
    "fpmd_r",
    "fql_n",
    "qam_e",
    "qam_f",
    "qc_fql",
]
