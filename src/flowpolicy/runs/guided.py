"""GFP's values for every environment: the table of its released runs, as far as we read it.

A row counts for every environment whose name begins with its own, unless a longer one fits: other
data than play or navigate has a row of its own where the table has one, else that of play or
navigate. Mazes that the table lacks have antmaze-large-navigate's row, other environments the
defaults of the configuration. What the code calls ``q_agg``, ``target_agg`` and ``guidance_agg``
are ``aggregate``, ``target`` and ``reference``.

Of frames and of D4RL's sets we know the weights and the rules; batch, discount and whatever else is
not said has the code's defaults. Those runs had 500 000 updates. Of its rows for Minari's sets
(hands and, in batches of 1024, runners) we know no numbers, and they are not here.
"""

import dataclasses
from typing import Any

from flowpolicy.agents.gfp import GFP
from flowpolicy.data.minari_header import D4RL
from flowpolicy.values import mean, member, minimum

LARGE_BATCH = ("antmaze-giant", "antmaze-large-explore", "humanoidmaze-large", "cube-triple")
"""Beginnings of names of environments whose batches are of 1024."""


def _maze(alpha: float, eta: float, **fields: Any) -> GFP:
    return GFP(alpha=alpha, eta=eta, reference=minimum, **{"discount": 0.995, **fields})


def _ant(alpha: float, eta: float) -> GFP:
    return _maze(alpha, eta, aggregate=minimum)


def _cube(alpha: float, eta: float) -> GFP:
    return GFP(alpha=alpha, eta=eta, target=mean)


def _d4rl_ant(alpha: float, eta: float) -> GFP:
    return GFP(alpha=alpha, eta=eta, aggregate=minimum)


TABLE: dict[str, GFP] = {
    "antmaze-giant": _ant(0.1, 0.1),
    "antmaze-large": _ant(0.3, 1e-4),
    "antmaze-large-explore": _ant(0.01, 1e-6),
    "antmaze-large-stitch": _ant(0.3, 1e-6),
    "antsoccer": _maze(0.1, 0.01),
    "humanoidmaze-large": _maze(0.3, 1e-4, discount=0.999, steps=30),
    "humanoidmaze-medium": _maze(0.3, 1e-3, target=mean),
    "humanoidmaze-medium-stitch": _maze(0.3, 1e-3, target=mean, discount=0.999),
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
    "visual-cube-single": _cube(10.0, 0.1),
    "visual-cube-double": _cube(0.3, 0.01),
    "visual-puzzle-3x3": GFP(alpha=3.0, eta=0.01),
    "visual-puzzle-4x4": GFP(alpha=1.0, eta=1e-4),
    "visual-scene": GFP(alpha=10.0, eta=1e-3),
    # Ours: antmaze-medium and -teleport, humanoidmaze-giant, pointmaze.
    **dict.fromkeys(("antmaze", "humanoidmaze", "pointmaze"), _ant(0.3, 1e-4)),
    # D4RL's sets, by its names.
    "antmaze-umaze": _d4rl_ant(0.1, 1e-3),
    **dict.fromkeys(("antmaze-medium-play", "antmaze-medium-diverse"), _d4rl_ant(0.03, 1e-3)),
    **dict.fromkeys(("antmaze-large-play", "antmaze-large-diverse"), _d4rl_ant(0.03, 1e-5)),
    "door-": GFP(alpha=10.0, eta=0.01),
    **dict.fromkeys(("hammer-human", "hammer-cloned"), GFP(alpha=10.0, eta=1e-5)),
    "hammer-expert": GFP(alpha=10.0, eta=0.01),
    "pen-human": GFP(alpha=3.0, eta=1e-4),
    "pen-cloned": GFP(alpha=3.0, eta=1e-5),
    "pen-expert": GFP(alpha=1.0, eta=1e-3),
    "relocate-": GFP(alpha=10.0, eta=1e-4),
}
"""By the beginning of an environment's name; the longest that fits counts."""


HANDS = ("pen-", "hammer-", "door-", "relocate-")
D4RL_NAMES = {theirs: ours for ours, theirs in D4RL.items() if ours.startswith(HANDS)}
"""D4RL's names of Minari's sets that hold its own rows; mazes and runners were collected anew."""


def gfp(env: str) -> GFP:
    """GFP with the environment's values; VaBC's next action at s', as the page has it.

    D4RL's sets of hands may have Minari's name.
    """
    env = D4RL_NAMES.get(env, env)
    rows = [name for name in TABLE if env.startswith(name)]
    return TABLE[max(rows, key=len)] if rows else GFP()


def gfp_released(env: str) -> GFP:
    """The same with VaBC's next action drawn at s, as in the released runs; another agent only
    where the target asks for it."""
    agent = gfp(env)
    return agent if agent.target == member(0) else dataclasses.replace(agent, target_use_next=False)


def gfp_batch(env: str) -> int:
    """1024 where the table has it, else 256."""
    return 1024 if env.startswith(LARGE_BATCH) else 256
