"""flowpolicy: flow policies for reinforcement learning, trained, compared and deployed.

This page is the whole public interface; what is not listed in ``__all__`` may change. Tutorials
are in ``docs/``; ``notation.md`` says what every symbol means.
"""

from flowpolicy.agents import BC, FMQ, FQL, IFQL, MVP, QC, RLPD, Agent
from flowpolicy.api import Result, Run, compare, debug, evaluate, report, train
from flowpolicy.data.collect import collect
from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import FlowPolicyError
from flowpolicy.existing import distil
from flowpolicy.parts import register
from flowpolicy.refine import QGBS as qgbs
from flowpolicy.refine import BestOfN as best_of_n
from flowpolicy.refine import OneStep as one_step
from flowpolicy.refine import TrustRegion as trust_region
from flowpolicy.refine import TrustRegionBox as trust_region_box
from flowpolicy.runs import OGBench
from flowpolicy.studies import diagnose, sweep_refiner
from flowpolicy.train.phases import Offline, Online, RunConfig
from flowpolicy.train.policy import Policy
from flowpolicy.types import Spec, Transition

__version__ = "0.1.0"

__all__ = [
    "BC",
    "FMQ",
    "FQL",
    "IFQL",
    "MVP",
    "QC",
    "RLPD",
    "Agent",
    "Dataset",
    "FlowPolicyError",
    "OGBench",
    "Offline",
    "Online",
    "Policy",
    "Result",
    "Run",
    "RunConfig",
    "Spec",
    "Transition",
    "best_of_n",
    "collect",
    "compare",
    "debug",
    "diagnose",
    "distil",
    "evaluate",
    "one_step",
    "qgbs",
    "register",
    "report",
    "sweep_refiner",
    "train",
    "trust_region",
    "trust_region_box",
]
