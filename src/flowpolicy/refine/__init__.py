"""Refiners: actions drawn from a flow and improved with a critic.

A refiner is called as ``refiner(key, flow, q, s)`` and returns one action in the box. It sees the
critic only as ``q``, a function of the action alone, so that a quadratic with a known optimum
tests it; the state enters through the flow. ``nfe`` counts its evaluations of the flow.

    one_step                       a single jump from noise: FMQ's Algorithm 1
    best_of_n                      the best of N jumps: QC, MVP, and FMQ's headline numbers
    trust_region                   a jump, then Theorem 3.2's displacement
    qgbs                           FMQ's Algorithm 2
    qgbs_keep_best                 a deviation of ours that never falls below its start
"""

from flowpolicy.refine.best_of_n import BestOfN, OneStep
from flowpolicy.refine.core import (
    Refiner,
    displace,
    from_noise,
    normalise,
    normalised_gradient,
)
from flowpolicy.refine.qgbs import QGBS, QGBSKeepBest
from flowpolicy.refine.trust_region import TrustRegion

__all__ = [
    "QGBS",
    "BestOfN",
    "OneStep",
    "QGBSKeepBest",
    "Refiner",
    "TrustRegion",
    "displace",
    "from_noise",
    "normalise",
    "normalised_gradient",
]
