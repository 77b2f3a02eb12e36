"""What counts as a method's result, by a protocol that is fixed beforehand: never the best step.

A protocol is a function of a cell; seeds without the evaluation it asks for have no score, and
``missing`` names them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flowpolicy.report.methods import Cell
from flowpolicy.report.progress import End, ends
from flowpolicy.report.runfiles import Evaluation, RunFiles
from flowpolicy.train.folder import OWN


class Score(NamedTuple):
    """The success of one seed: a rate in [0, 1], and the fewest episodes it rests on."""

    rate: float
    episodes: int

    @property
    def successes(self) -> int:
        """The rate as a whole number of ``episodes``."""
        return round(self.rate * self.episodes)


Protocol = Callable[[Cell], Mapping[int, Score]]


def end_of(run: RunFiles) -> End | None:
    """The end of the last configured phase; ``None`` where the configuration names none."""
    return next(reversed(ends(run.settings)), None)


def final(cell: Cell) -> Mapping[int, Score]:
    """Success at the end of training."""
    scores = {}
    for seed, rows in _last_phase(cell).items():
        if rows and _ended(rows[-1], cell.origin[seed]):
            scores[seed] = Score(rows[-1].success, rows[-1].episodes)
    return scores


def last_three(cell: Cell) -> Mapping[int, Score]:
    """Mean of the last three evaluations of the last phase, the end of training among them.

    They play the same episodes, so together they rest on no more than each of them does.
    """
    scores = {}
    for seed, rows in _last_phase(cell).items():
        last = rows[-3:]
        if len(last) == 3 and _ended(last[-1], cell.origin[seed]):
            rate = sum(row.success for row in last) / 3
            scores[seed] = Score(rate, min(row.episodes for row in last))
    return scores


def missing(cell: Cell) -> tuple[str, ...]:
    """Sentences that name every seed of a cell that a protocol has no score for."""
    at_end, averaged = final(cell), last_three(cell)
    notes = []
    for seed, rows in _last_phase(cell).items():
        run = cell.origin[seed]
        who = f"{cell.method} on {cell.task}, seed {seed} ({run.path})"
        if seed not in at_end:
            notes.append(f"{who}: no evaluation at {_where(end_of(run))}; {_seen(rows)}")
        elif seed not in averaged and cell.refiner == OWN:
            notes.append(f"{who}: fewer than three evaluations, so no mean of the last three")
    return tuple(notes)


def _last_phase(cell: Cell) -> dict[int, list[Evaluation]]:
    """The evaluations of each seed in its run's last phase, by step, one for the end of training.

    A later evaluation of the newest checkpoint counts the environment steps that were really made,
    a few more than were asked for. It is the same policy and stands for the same moment.
    """
    table: dict[int, list[Evaluation]] = {}
    for seed, run in cell.origin.items():
        end = end_of(run)
        phase = end.phase if end else max((e.phase for e in cell.evaluations), default="online")
        rows: dict[int, Evaluation] = {}
        for row in cell.evaluations:
            if row.seed == seed and row.phase == phase:
                step = min(row.step, end.step) if end else row.step
                rows.setdefault(step, row._replace(step=step))
        table[seed] = [rows[step] for step in sorted(rows)]
    return table


def _ended(row: Evaluation, run: RunFiles) -> bool:
    end = end_of(run)
    return end is None or row.step == end.step


def _where(end: End | None) -> str:
    return "the end of training" if end is None else f"the end, {end.phase} step {end.step:,}"


def _seen(rows: list[Evaluation]) -> str:
    return f"the last is at {rows[-1].step:,}" if rows else "none was made in that phase"


def column(scores: Mapping[int, Score], what: Callable[[Score], Any]) -> list[Any]:
    """One value of each score, by seed."""
    return [what(scores[seed]) for seed in sorted(scores)]
