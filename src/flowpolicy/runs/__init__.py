"""Named runs and the tasks they are made of."""

from flowpolicy.runs import mini, mirror, online, paper, reconstructed, streaming, toy, visual
from flowpolicy.runs.farama import Gymnasium, Minari
from flowpolicy.runs.own import OwnData
from flowpolicy.runs.pusht import PushT
from flowpolicy.runs.registry import (
    Family,
    NamedRun,
    add,
    add_family,
    families,
    get,
    names,
    summary,
)
from flowpolicy.runs.robomimic import RoboMimic
from flowpolicy.runs.tasks import OGBench, PointMassTask, TwoModesTask, TwoWaysTask
from flowpolicy.runs.visual import seeing

__all__ = [
    "Family",
    "Gymnasium",
    "Minari",
    "NamedRun",
    "OGBench",
    "OwnData",
    "PointMassTask",
    "PushT",
    "RoboMimic",
    "TwoModesTask",
    "TwoWaysTask",
    "add",
    "add_family",
    "families",
    "get",
    "names",
    "seeing",
    "summary",
]

paper.register()
mini.register()
toy.register()
online.register()
mirror.register()
streaming.register()
reconstructed.register()
visual.register()
