"""Refiners: actions drawn from a flow and improved with a critic.

A refiner is called as ``refiner(key, flow, q, s)`` and returns one action in the box. It sees the
critic only as ``q``, a function of the action alone, so that a quadratic with a known optimum
tests it; the state enters through the flow. ``nfe`` counts its jumps of the flow, ``cost`` the
critic's calls too and the longest chain of them.

    one_step                       a single jump from noise: FMQ's Algorithm 1
    best_of_n                      the best of N jumps: QC, MVP, and FMQ's headline numbers
    trust_region                   a jump, then Theorem 3.2's displacement
    trust_region_box               a jump, then the optimum with the box in the problem: a control
    qgbs                           FMQ's Algorithm 2
    qgbs_keep_best                 a deviation of ours that never falls below its start
"""

from flowpolicy.refine.best_of_n import BestOfN, OneStep
from flowpolicy.refine.core import (
    Cost,
    Refiner,
    displace,
    from_noise,
    normalise,
    normalised_gradient,
)
from flowpolicy.refine.qgbs import QGBS, QGBSKeepBest
from flowpolicy.refine.trust_region import TrustRegion
from flowpolicy.refine.trust_region_box import TrustRegionBox, box_optimum, nearest

__all__ = [
    "QGBS",
    "BestOfN",
    "Cost",
    "OneStep",
    "QGBSKeepBest",
    "Refiner",
    "TrustRegion",
    "TrustRegionBox",
    "box_optimum",
    "displace",
    "from_noise",
    "nearest",
    "normalise",
    "normalised_gradient",
]
