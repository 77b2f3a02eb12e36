"""What ``flowpolicy diagnose`` finds, as data."""

import dataclasses
from typing import Any

import numpy as np

from flowpolicy.report.distance import Noise


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its standard error."""

    mean: float
    error: float


@dataclasses.dataclass(frozen=True)
class Radius:
    """``closed_form.AtRadius`` at one eta, over the states.

    ball_gap, box_gap: the optima's first-order gap; ball_agree, box_agree: shares of restarts
    """

    eta: float
    predicted: Estimate
    theorem: Estimate
    clipped: Estimate
    box_predicted: Estimate
    box: Estimate
    ball: Estimate
    ball_gap: Estimate
    ball_agree: Estimate
    ball_in_box: Estimate
    box_gap: Estimate
    box_agree: Estimate


@dataclasses.dataclass(frozen=True)
class EndPoints:
    """One jump against the integrated flow, in action units (L2 over the chunk) and in Q.

    apart:  their distance; error: what the integration itself is uncertain of
    spread: distance of two integrated samples at one state, for scale
    q:      Q of the jump less Q of the integrated end
    """

    apart: Estimate
    error: Estimate
    spread: Estimate
    q: Estimate


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The law of (s, X_{r,1}(a_r | s)): its energy distance to the data's, and to that of r = 0."""

    r: float
    to_data: float
    to_first: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All of ``PUSHED_FROM``, ``samples`` pairs each, no row used twice, and the noise."""

    samples: int
    noise: Noise
    pushed: tuple[Pushed, ...]


@dataclasses.dataclass(frozen=True)
class Acting:
    """A refiner's Q at the states of the data; and over played episodes, where there are any.

    q:             Q of its actions at the states
    q_over_first:  the same less the first refiner's, state by state
    success, low, high: share of solved episodes and its 95 % interval
    chunks:        played chunks; played_q: mean Q of their actions
    excess_low, excess_high: mean Q less the discounted return, bounds where time ran out
    excess_error:   standard error of their middle over episodes
    """

    refiner: str
    q: Estimate
    q_over_first: Estimate
    success: float | None = None
    low: float | None = None
    high: float | None = None
    chunks: int = 0
    played_q: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    excess_error: float | None = None


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found, and in ``absent`` why a part is missing."""

    what: dict[str, Any]
    radii: tuple[Radius, ...]
    end_points: EndPoints | None
    agreement: Agreement | None
    acting: tuple[Acting, ...]
    absent: dict[str, str]


def estimate(values: Any) -> Estimate:
    """Mean and standard error over the first axis, the states; other axes are averaged first."""
    x = np.asarray(values, np.float64)
    x = x.reshape(len(x), -1).mean(axis=1)
    error = float(x.std(ddof=1) / len(x) ** 0.5) if len(x) > 1 else 0.0
    return Estimate(float(x.mean()), error)
