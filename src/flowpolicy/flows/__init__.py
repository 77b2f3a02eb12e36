"""The mathematics of flow maps: interpolants, the map, its losses, laws of times, sampling.

Every function sees one sample; the caller vmaps. Time 0 is noise, time 1 is the action.
``losses`` says which terms make which paper, ``sde`` what a critic's gradient makes of a velocity.
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
from flowpolicy.flows.sde import (
    adjoint_matching,
    control_cost,
    lean_adjoint,
    memoryless_noise,
    memoryless_path,
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
from flowpolicy.flows.weights import (
    Moments,
    ScaledWeights,
    StandardisedWeights,
    Weighting,
    check_temperature,
    effective_share,
    equal_weights,
    released_weights,
    weight_metrics,
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
    "Moments",
    "OnDiagonal",
    "Path",
    "ScaledWeights",
    "StandardisedWeights",
    "Teacher",
    "Term",
    "TimeLaw",
    "Times",
    "Triangle",
    "Weighting",
    "adjoint_matching",
    "check_temperature",
    "control_cost",
    "diagonal",
    "effective_share",
    "equal_weights",
    "euler",
    "eulerian",
    "flow_loss",
    "heun",
    "integrate",
    "jump",
    "lagrangian",
    "lean_adjoint",
    "linear",
    "masked_mean_square",
    "mean_flow",
    "memoryless_noise",
    "memoryless_path",
    "released_weights",
    "renoise",
    "renoise_time",
    "semigroup",
    "shortcut",
    "trigonometric",
    "velocity",
    "weight_metrics",
]
