"""Seconds of training until a success rate is reached, evaluations taken out.

``metrics.jsonl`` stamps its lines with the wall seconds since the run began, compiling included;
``evaluations.csv`` says how long each evaluation took. Between two lines time is interpolated.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from flowpolicy.report.methods import Cell
from flowpolicy.report.progress import PhaseCurve
from flowpolicy.report.runfiles import PHASES, RunFiles
from flowpolicy.report.sooner import online_curves, passage
from flowpolicy.report.thresholds import Passage


@dataclasses.dataclass(frozen=True)
class Clock:
    """Seconds of training of one run, all its seeds together, at the steps it logged.

    phases: steps and seconds of each phase; a phase begins at step 0 with the end of the one before
    """

    phases: Mapping[str, tuple[Float[np.ndarray, "lines"], Float[np.ndarray, "lines"]]]

    def at(self, phase: str, step: int | float) -> float | None:
        """Seconds at ``step``; None beyond the last line of the phase."""
        steps, seconds = self.phases[phase]
        return float(np.interp(step, steps, seconds)) if step <= steps[-1] else None


def training_clock(run: RunFiles) -> Clock | None:
    """The clock of a run; None where it logged no seconds, or its stamps go back."""
    stamps = _stamps(run)
    wall = np.array(list(stamps.values()), float)
    if not stamps or (np.diff(wall) < 0).any():
        return None
    played = [((PHASES.index(e.phase), e.step), e.seconds) for e in run.evaluations]
    spent = [sum(seconds for when, seconds in played if when < stamp) for stamp in stamps]
    # A tick may pass the step that its evaluation is called after, and its line then comes first.
    seconds = np.maximum.accumulate(wall - np.array(spent))
    phases, begun = {}, 0.0
    for index, phase in enumerate(PHASES):
        mine = [i for i, (when, _) in enumerate(stamps) if when == index]
        steps = [float(step) for when, step in stamps if when == index]
        phases[phase] = np.array([0.0, *steps]), np.array([begun, *seconds[mine]])
        begun = float(phases[phase][1][-1])
    return Clock(phases)


def _stamps(run: RunFiles) -> dict[tuple[int, int], float]:
    """Wall seconds by (phase, step), in this order."""
    found = {}
    for record in run.metrics:
        seconds = record.get("seconds")
        if isinstance(seconds, int | float):
            found[PHASES.index(record["phase"]), record["step"]] = float(seconds)
    return dict(sorted(found.items()))


@dataclasses.dataclass(frozen=True)
class Waiting:
    """How long one method trains on one task until it first reaches ``threshold``.

    steps:    environment steps online
    seconds:  of training, the offline phase among them; None where a run has no clock
    offline:  seconds of the offline phase, median over seeds
    together: the most seeds that one run trained side by side; its seconds are of all of them
    """

    task: str
    method: str
    threshold: float
    steps: Passage
    seconds: Passage | None
    offline: float | None
    together: int


def waiting(
    cell: Cell, parts: Sequence[PhaseCurve], thresholds: Sequence[float]
) -> tuple[Waiting, ...]:
    """One for each threshold; none where the cell has fewer than two online evaluations."""
    curves = online_curves(parts)
    clocks = {run.path: training_clock(run) for run in cell.runs}
    known = [clocks[cell.origin[seed].path] for seed in curves]
    together = max(_side_by_side(run) for run in cell.runs)
    rows = []
    for threshold in thresholds if curves else ():
        steps = passage(curves, threshold)
        rows.append(
            Waiting(cell.task, cell.method, threshold, steps, _seconds(steps, known, curves),
                    _offline(known), together)
        )  # fmt: skip
    return tuple(rows)


def _side_by_side(run: RunFiles) -> int:
    """Seeds of a run; one where its configuration lists none."""
    seeds = run.settings.get("seeds")
    return len(seeds) if isinstance(seeds, list) else 1


def _seconds(
    steps: Passage,
    clocks: Sequence[Clock | None],
    curves: Mapping[int, tuple[list[int], list[float]]],
) -> Passage | None:
    ends = [_at(clock, own[-1]) for clock, (own, _) in zip(clocks, curves.values(), strict=True)]
    times = [_at(clock, step) for clock, step in zip(clocks, steps.steps, strict=True)]
    if None in times or None in ends:
        return None
    return Passage(tuple(t for t in times if t is not None), min(e for e in ends if e is not None))


def _at(clock: Clock | None, step: int | float) -> float | None:
    if clock is None:
        return None
    return clock.at("online", step) if math.isfinite(step) else math.inf


def _offline(clocks: Sequence[Clock | None]) -> float | None:
    times = [clock.at("online", 0.0) for clock in clocks if clock is not None]
    known = [time for time in times if time is not None]
    return float(np.median(known)) if len(known) == len(clocks) and known else None
