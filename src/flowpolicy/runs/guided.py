"""GFP's values for every environment: the table of its released runs.

Mazes without a row have that of antmaze-large-navigate, other environments the defaults of the
configuration. What the code calls ``q_agg``, ``target_agg`` and ``guidance_agg`` are ``aggregate``,
``target`` and ``reference``.
"""

import dataclasses
from typing import Any

from flowpolicy.agents.gfp import GFP
from flowpolicy.values import mean, member, minimum

LARGE_BATCH = ("antmaze-giant", "humanoidmaze-large", "cube-triple")


def _maze(alpha: float, eta: float, **fields: Any) -> GFP:
    return GFP(alpha=alpha, eta=eta, reference=minimum, **{"discount": 0.995, **fields})


def _cube(alpha: float, eta: float) -> GFP:
    return GFP(alpha=alpha, eta=eta, target=mean)


TABLE: dict[str, GFP] = {
    "antmaze-giant": _maze(0.1, 0.1, aggregate=minimum),
    "antmaze-large": _maze(0.3, 1e-4, aggregate=minimum),
    "antsoccer": _maze(0.1, 0.01),
    "humanoidmaze-large": _maze(0.3, 1e-4, discount=0.999, steps=30),
    "humanoidmaze-medium": _maze(0.3, 1e-3, target=mean),
    "pointmaze": _maze(0.3, 1e-4, aggregate=minimum),
    "cube-single": _cube(10.0, 0.1),
    "cube-single-noisy": _cube(10.0, 1e-3),
    "cube-double": _cube(1.0, 0.01),
    "cube-double-noisy": _cube(0.1, 1e-4),
    "cube-triple": _cube(1.0, 1e-5),
    "cube-triple-noisy": _cube(0.1, 1e-5),
    "puzzle-3x3": GFP(alpha=3.0, eta=1e-3),
    "puzzle-4x4": GFP(alpha=3.0, eta=1e-5),
    "puzzle-4x4-noisy": GFP(alpha=3.0, eta=1e-3),
    "scene": GFP(alpha=10.0, eta=1e-3),
    "scene-noisy": GFP(alpha=1.0, eta=1e-4),
}
"""By the beginning of an environment's name; the longest that fits counts."""


def gfp(env: str) -> GFP:
    """GFP with the environment's values; VaBC's next action at s', as the page has it."""
    rows = [name for name in TABLE if env.startswith(name)]
    return TABLE[max(rows, key=len)] if rows else GFP()


def gfp_released(env: str) -> GFP:
    """The same with VaBC's next action drawn at s, as in the released runs; another agent only
    where the target asks for it."""
    agent = gfp(env)
    return agent if agent.target == member(0) else dataclasses.replace(agent, target_use_next=False)


def gfp_batch(env: str) -> int:
    """1024 on the largest tasks, else 256."""
    return 1024 if env.startswith(LARGE_BATCH) else 256
