"""What a run achieved: its learning curves, success before and after, and what is missing."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flowpolicy.report.runfiles import PHASES, Evaluation
from flowpolicy.report.statistics import Curve, mean_curve, success_interval

STEP_UNIT = {"offline": "updates", "online": "environment steps"}


@dataclasses.dataclass(frozen=True)
class PhaseCurve:
    """Success against step in one phase, for one refiner.

    steps, curve: the steps that **every** seed has evaluated, with mean and band there
    seeds:        each seed's own steps and success rates, gaps left as they are
    """

    phase: str
    steps: Int[np.ndarray, "steps"]
    curve: Curve
    seeds: Mapping[int, tuple[Int[np.ndarray, "own"], Float[np.ndarray, "own"]]]


class End(NamedTuple):
    """Where training of a kind ends: the steps of all phases of that kind together."""

    phase: str
    step: int


@dataclasses.dataclass(frozen=True)
class Result:
    """Success of one policy, over all seeds: mean rate and its interval, all in [0, 1]."""

    phase: str
    step: int
    rate: float
    low: float
    high: float
    episodes: int
    """Episodes of all seeds together."""
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    """Success rate of each of ``seeds``."""


def thousands(value: float | int) -> str:
    """A step count for people: 4000 is "4,000", 1000000 is "1M"."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value:,.0f}"


def refiners(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """The refiners evaluated, the one with the most evaluations first (then as written)."""
    names = [e.refiner for e in evaluations]
    return tuple(sorted(dict.fromkeys(names), key=lambda name: -names.count(name)))


def phase_curves(
    evaluations: Sequence[Evaluation], refiner: str, rng: np.random.Generator
) -> tuple[PhaseCurve, ...]:
    """The learning curve of ``refiner``, one part a phase that was evaluated, in phase order."""
    chosen = [e for e in evaluations if e.refiner == refiner]
    seeds = sorted({e.seed for e in chosen})
    parts = []
    for phase in PHASES:
        table = {(e.seed, e.step): e for e in chosen if e.phase == phase}
        if not table:
            continue
        own = {seed: sorted(step for s, step in table if s == seed) for seed in seeds}
        common = sorted(set.intersection(*(set(steps) for steps in own.values())))
        rows = [[table[seed, step] for step in common] for seed in seeds]
        shape = (len(seeds), len(common))
        successes = np.reshape(np.array([[e.successes for e in r] for r in rows], int), shape)
        episodes = np.reshape(np.array([[e.episodes for e in r] for r in rows], int), shape)
        lines = {
            seed: (np.array(steps, int), np.array([table[seed, s].success for s in steps], float))
            for seed, steps in own.items()
        }
        curve = mean_curve(successes, episodes, rng)
        parts.append(PhaseCurve(phase, np.array(common, int), curve, lines))
    return tuple(parts)


def before_after(
    evaluations: Sequence[Evaluation], refiner: str, rng: np.random.Generator
) -> tuple[Result | None, Result | None]:
    """Success before and after the online phase (after the offline phase, if it is the only one).

    Before is the last offline evaluation, or the one at online step 0; after is the last one of
    all: the final step that every seed has evaluated, never the best. ``None`` where no such
    evaluation exists.
    """
    chosen = [e for e in evaluations if e.refiner == refiner]
    online = [e for e in chosen if e.phase == "online"]
    offline = [e for e in chosen if e.phase == "offline"]
    seeds = sorted({e.seed for e in chosen})
    if not online:
        return None, _last(offline, seeds, rng)
    start = [e for e in online if e.step == 0]
    before = _last(offline, seeds, rng) or _last(start, seeds, rng)
    return before, _last([e for e in online if e.step > 0], seeds, rng)


def missing_evaluations(
    evaluations: Sequence[Evaluation], config: Mapping[str, Any]
) -> tuple[str, ...]:
    """Sentences that name every evaluation one would expect and does not find.

    Expected are: every seed of the configuration, the last step of every configured phase, and,
    for each step and refiner that one seed has, the same of every other seed.
    """
    found = {e.seed for e in evaluations}
    wanted = config.get("seeds")
    listed = {s for s in wanted if isinstance(s, int)} if isinstance(wanted, list) else set()
    notes = [f"seed {s}: no evaluation at all" for s in sorted(listed - found)]
    for refiner in refiners(evaluations):
        mine = [e for e in evaluations if e.refiner == refiner]
        have = {(e.seed, e.phase, e.step) for e in mine}
        seeds = sorted({e.seed for e in mine})
        for phase, step in sorted({(e.phase, e.step) for e in mine}):
            absent = [str(s) for s in seeds if (s, phase, step) not in have]
            if absent:
                who = f"seed {', '.join(absent)}"
                notes.append(f"{who}: no evaluation at {phase} step {step:,} with {refiner}")
    return (*notes, *_unreached(evaluations, config))


def ends(config: Mapping[str, Any]) -> list[End]:
    """Where the phases end, in their order; of several of a kind the last, as steps count on."""
    phases = config.get("phases")
    found: dict[str, int] = {}
    for phase in phases if isinstance(phases, list) else []:
        name = phase.get("part") if isinstance(phase, dict) else None
        if name not in PHASES:
            continue
        steps = phase.get("steps" if name == "offline" else "env_steps")
        if isinstance(steps, int) and steps > 0:
            found[name] = found.pop(name, 0) + steps
    return [End(*end) for end in found.items()]


def _unreached(evaluations: Sequence[Evaluation], config: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, end in ends(config):
        last = max((e.step for e in evaluations if e.phase == name), default=None)
        if last is not None and last >= end:
            continue
        seen = "none was made" if last is None else f"the last is at {last:,}"
        notes.append(f"{name} phase: no evaluation at its end, {end:,} {STEP_UNIT[name]} ({seen})")
    return notes


def _last(
    evaluations: Sequence[Evaluation], seeds: Sequence[int], rng: np.random.Generator
) -> Result | None:
    steps = [{e.step for e in evaluations if e.seed == seed} for seed in seeds]
    common = set.intersection(*steps) if steps else set()
    if not common:
        return None
    step = max(common)
    rows = sorted((e for e in evaluations if e.step == step), key=lambda e: e.seed)
    successes = np.array([e.successes for e in rows])
    episodes = np.array([e.episodes for e in rows])
    low, high = success_interval(successes, episodes, rng)
    rates = tuple(e.success for e in rows)
    mean = float(np.mean(rates))
    return Result(rows[0].phase, step, mean, low, high, int(episodes.sum()), tuple(seeds), rates)
