"""Networks: modules with array-only leaves, and the frozen dataclasses that build them.

A net configuration has one method, ``init(key, spec, action)``, where ``action`` is the size of the
flattened action chunk. For a flow it returns a module called as ``net(r, t, a, s)``, for a one-step
actor ``net(a0, s)``, for a critic ``net(s, a)``; a value, built by ``init(key, spec)``, is called
as ``net(s)``. All see one sample. Register your own with ``flowpolicy.register``.
"""

from flowpolicy.nets.embed import Fourier, Plain
from flowpolicy.nets.gaussian import GaussianNet, MLPGaussian, TanhGaussian
from flowpolicy.nets.mlp import MLP, Linear, MixLinear, MLPCritic, MLPFlow
from flowpolicy.nets.optimise import LARGEST, Adam, Trainable
from flowpolicy.nets.velocity import MLPOneStep, MLPValue, MLPVelocity

__all__ = [
    "LARGEST",
    "MLP",
    "Adam",
    "Fourier",
    "GaussianNet",
    "Linear",
    "MLPCritic",
    "MLPFlow",
    "MLPGaussian",
    "MLPOneStep",
    "MLPValue",
    "MLPVelocity",
    "MixLinear",
    "Plain",
    "TanhGaussian",
    "Trainable",
]
