"""flowpolicy: flow policies for reinforcement learning, trained, compared and deployed.

This page is the whole public interface; what is not listed in ``__all__`` may change. Tutorials
are in ``docs/``; ``notation.md`` says what every symbol means.

Names are imported when they are first asked for: a computer that only acts, by ``Policy.load(...,
backend="numpy")``, needs no JAX.
"""

import importlib
import sys
import typing
from types import ModuleType as _ModuleType

if typing.TYPE_CHECKING:
    from flowpolicy.agents import BC, FMQ, FPMD, FQL, GFP, IFQL, MVP, QAM, QC, RLPD, SFP, Agent
    from flowpolicy.api import Run, compare, debug, report, resume, train
    from flowpolicy.data.actions import ActionMeanStd as action_mean_std
    from flowpolicy.data.actions import ActionMinMax as action_min_max
    from flowpolicy.data.collect import collect
    from flowpolicy.data.dataset import Dataset
    from flowpolicy.data.own import load_data
    from flowpolicy.deploy.units import action_units
    from flowpolicy.errors import FlowPolicyError
    from flowpolicy.evaluation import Result, evaluate
    from flowpolicy.existing import distil
    from flowpolicy.packaging.write import package
    from flowpolicy.parts import register
    from flowpolicy.refine import QGBS as qgbs
    from flowpolicy.refine import BestOfN as best_of_n
    from flowpolicy.refine import OneStep as one_step
    from flowpolicy.refine import TrustRegion as trust_region
    from flowpolicy.refine import TrustRegionBox as trust_region_box
    from flowpolicy.runs import Gymnasium, Minari, OGBench, OwnData, PushT, RoboMimic
    from flowpolicy.studies import diagnose, sweep_refiner
    from flowpolicy.train.hardware import Hardware
    from flowpolicy.train.normalise import MinMax as min_max
    from flowpolicy.train.normalise import Standardise as standardise
    from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig
    from flowpolicy.train.policy import Policy
    from flowpolicy.types import Spec, Transition

__version__ = "0.1.0"

__all__ = [
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
    "Agent",
    "Dataset",
    "Evaluation",
    "FlowPolicyError",
    "Gymnasium",
    "Hardware",
    "Minari",
    "OGBench",
    "Offline",
    "Online",
    "OwnData",
    "Policy",
    "PushT",
    "Result",
    "RoboMimic",
    "Run",
    "RunConfig",
    "Spec",
    "Transition",
    "action_mean_std",
    "action_min_max",
    "action_units",
    "best_of_n",
    "collect",
    "compare",
    "debug",
    "diagnose",
    "distil",
    "evaluate",
    "load_data",
    "min_max",
    "one_step",
    "package",
    "qgbs",
    "register",
    "report",
    "resume",
    "standardise",
    "sweep_refiner",
    "train",
    "trust_region",
    "trust_region_box",
]

_HOMES = {
    "BC": ("flowpolicy.agents", "BC"),
    "FMQ": ("flowpolicy.agents", "FMQ"),
    "FPMD": ("flowpolicy.agents", "FPMD"),
    "FQL": ("flowpolicy.agents", "FQL"),
    "GFP": ("flowpolicy.agents", "GFP"),
    "IFQL": ("flowpolicy.agents", "IFQL"),
    "MVP": ("flowpolicy.agents", "MVP"),
    "QAM": ("flowpolicy.agents", "QAM"),
    "QC": ("flowpolicy.agents", "QC"),
    "RLPD": ("flowpolicy.agents", "RLPD"),
    "SFP": ("flowpolicy.agents", "SFP"),
    "Agent": ("flowpolicy.agents", "Agent"),
    "Dataset": ("flowpolicy.data.dataset", "Dataset"),
    "Evaluation": ("flowpolicy.train.phases", "Evaluation"),
    "FlowPolicyError": ("flowpolicy.errors", "FlowPolicyError"),
    "Gymnasium": ("flowpolicy.runs", "Gymnasium"),
    "Hardware": ("flowpolicy.train.hardware", "Hardware"),
    "Minari": ("flowpolicy.runs", "Minari"),
    "OGBench": ("flowpolicy.runs", "OGBench"),
    "Offline": ("flowpolicy.train.phases", "Offline"),
    "Online": ("flowpolicy.train.phases", "Online"),
    "OwnData": ("flowpolicy.runs", "OwnData"),
    "Policy": ("flowpolicy.train.policy", "Policy"),
    "PushT": ("flowpolicy.runs", "PushT"),
    "Result": ("flowpolicy.evaluation", "Result"),
    "RoboMimic": ("flowpolicy.runs", "RoboMimic"),
    "Run": ("flowpolicy.api", "Run"),
    "RunConfig": ("flowpolicy.train.phases", "RunConfig"),
    "Spec": ("flowpolicy.types", "Spec"),
    "Transition": ("flowpolicy.types", "Transition"),
    "action_mean_std": ("flowpolicy.data.actions", "ActionMeanStd"),
    "action_min_max": ("flowpolicy.data.actions", "ActionMinMax"),
    "action_units": ("flowpolicy.deploy.units", "action_units"),
    "best_of_n": ("flowpolicy.refine", "BestOfN"),
    "collect": ("flowpolicy.data.collect", "collect"),
    "compare": ("flowpolicy.api", "compare"),
    "debug": ("flowpolicy.api", "debug"),
    "diagnose": ("flowpolicy.studies", "diagnose"),
    "distil": ("flowpolicy.existing", "distil"),
    "evaluate": ("flowpolicy.evaluation", "evaluate"),
    "load_data": ("flowpolicy.data.own", "load_data"),
    "min_max": ("flowpolicy.train.normalise", "MinMax"),
    "one_step": ("flowpolicy.refine", "OneStep"),
    "package": ("flowpolicy.packaging.write", "package"),
    "qgbs": ("flowpolicy.refine", "QGBS"),
    "register": ("flowpolicy.parts", "register"),
    "report": ("flowpolicy.api", "report"),
    "resume": ("flowpolicy.api", "resume"),
    "standardise": ("flowpolicy.train.normalise", "Standardise"),
    "sweep_refiner": ("flowpolicy.studies", "sweep_refiner"),
    "train": ("flowpolicy.api", "train"),
    "trust_region": ("flowpolicy.refine", "TrustRegion"),
    "trust_region_box": ("flowpolicy.refine", "TrustRegionBox"),
}
"""Where each public name is, and what it is called there."""


def __getattr__(name: str) -> typing.Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _HOMES[name]
    value = globals()[name] = getattr(importlib.import_module(module), there)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(_ModuleType):
    """This module: where a function and a folder share a name (train, report), it is the function.

    When a folder has been imported, Python binds it to its name in here; those are left out.
    """

    def __setattr__(self, name: str, value: typing.Any) -> None:
        if not (name in _HOMES and isinstance(value, _ModuleType)):
            _ModuleType.__setattr__(self, name, value)


sys.modules[__name__].__class__ = _Package
