"""The mathematics of flow maps: interpolants, the map, its losses, laws of times, sampling.

Every function sees one sample; the caller vmaps. Time 0 is noise, time 1 is the action.
``losses`` says which terms make which paper.
"""

from flowpolicy.flows.flow_map import Flow, FlowMap, Teacher
from flowpolicy.flows.interpolant import Interpolant, linear, trigonometric, velocity
from flowpolicy.flows.losses import (
    Path,
    Term,
    diagonal,
    eulerian,
    flow_loss,
    lagrangian,
    masked_mean_square,
    mean_flow,
    semigroup,
    shortcut,
)
from flowpolicy.flows.sample import (
    Integrated,
    euler,
    heun,
    integrate,
    jump,
    renoise,
    renoise_time,
)
from flowpolicy.flows.times import (
    Curriculum,
    DiagonalShare,
    Dyadic,
    LogitNormal,
    Midpoint,
    OnDiagonal,
    TimeLaw,
    Times,
    Triangle,
)

__all__ = [
    "Curriculum",
    "DiagonalShare",
    "Dyadic",
    "Flow",
    "FlowMap",
    "Integrated",
    "Interpolant",
    "LogitNormal",
    "Midpoint",
    "OnDiagonal",
    "Path",
    "Teacher",
    "Term",
    "TimeLaw",
    "Times",
    "Triangle",
    "diagonal",
    "euler",
    "eulerian",
    "flow_loss",
    "heun",
    "integrate",
    "jump",
    "lagrangian",
    "linear",
    "masked_mean_square",
    "mean_flow",
    "renoise",
    "renoise_time",
    "semigroup",
    "shortcut",
    "trigonometric",
    "velocity",
]
