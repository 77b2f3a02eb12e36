"""QAM's values for every environment, and those of its variants: the table of its released runs.

cube-single is not among them: it has cube-double's inverse temperature, and heads of ours, so that
the variants differ there. pointmaze is not either, and has antmaze-large's row; RoboMimic's tasks
have scene's, another arm's with a reward at the end alone. Where the paper's
weight of a head is 0, the variant is QAM at that inverse temperature. What BAM ran at we could not
read: it has QAM's row. Our BAM's cost is an integral and the released one's a sum, so that theirs
at the same number would be ``steps`` times less greedy.
"""

import dataclasses
from typing import Any

from flowpolicy.agents.qam import QAM, bam, qam_e, qam_f
from flowpolicy.errors import unknown_name
from flowpolicy.runs.ogbench import setting
from flowpolicy.values import mean


@dataclasses.dataclass(frozen=True)
class Row:
    """Inverse temperatures of QAM, QAM-F and QAM-E, and the weights of the two heads."""

    tau: float
    tau_f: float
    alpha: float
    tau_e: float
    scale: float


TABLE: dict[str, Row] = {
    "antmaze": Row(10.0, 3.0, 30.0, 1.0, 0.1),
    "antmaze-giant": Row(3.0, 3.0, 30.0, 10.0, 0.1),
    "humanoidmaze-large": Row(3.0, 0.3, 30.0, 3.0, 0.1),
    "humanoidmaze-medium": Row(3.0, 1.0, 30.0, 3.0, 0.1),
    "pointmaze": Row(10.0, 3.0, 30.0, 1.0, 0.1),
    "cube-single": Row(1.0, 1.0, 300.0, 1.0, 0.1),
    "cube-double": Row(1.0, 1.0, 0.0, 1.0, 0.0),
    "cube-triple": Row(3.0, 10.0, 300.0, 3.0, 0.1),
    "cube-quadruple": Row(1.0, 0.3, 30.0, 3.0, 0.1),
    "puzzle-3x3": Row(3.0, 3.0, 0.0, 1.0, 0.1),
    "puzzle-4x4": Row(30.0, 3.0, 3.0, 0.1, 0.9),
    "scene": Row(1.0, 1.0, 300.0, 1.0, 0.0),
    "robomimic": Row(1.0, 1.0, 300.0, 1.0, 0.0),
}
"""By the beginning of an environment's name; the longest that fits counts."""


def row(env: str) -> Row:
    """The environment's values; ``UnknownName`` where the table has none and none are like it."""
    rows = [name for name in TABLE if env.startswith(name)]
    if not rows:
        raise unknown_name("environment of QAM's table", env, TABLE)
    return TABLE[max(rows, key=len)]


def _for(env: str, agent: QAM, inverse_temperature: float) -> QAM:
    """The environment's chunk and discount, and no pessimism for the humanoid."""
    there = setting("qam", env)
    changes: dict[str, Any] = {
        "inverse_temperature": inverse_temperature,
        "chunk": there.chunk,
        "discount": there.discount,
    }
    if env.startswith("humanoidmaze"):
        changes["aggregate"] = mean
    return dataclasses.replace(agent, **changes)


def tilted(env: str) -> QAM:
    """QAM with the environment's values."""
    return _for(env, QAM(), row(env).tau)


def tilted_f(env: str) -> QAM:
    """QAM-F with the environment's values."""
    it = row(env)
    return _for(env, qam_f(it.alpha) if it.alpha else QAM(), it.tau_f)


def tilted_e(env: str) -> QAM:
    """QAM-E with the environment's values."""
    it = row(env)
    return _for(env, qam_e(it.scale) if it.scale else QAM(), it.tau_e)


def control(env: str) -> QAM:
    """BAM with QAM's values."""
    return _for(env, bam(), row(env).tau)
