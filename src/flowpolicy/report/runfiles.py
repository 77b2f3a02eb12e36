"""Reads what a run left behind: ``config.json``, ``metrics.jsonl``, ``evaluations.csv``.

Everything is checked on the way in, and what is missing is named, never filled in. A run that has
not been evaluated, or has logged nothing, has no such file yet: that is an empty table.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowpolicy import parts
from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import read_object, read_records, read_rows
from flowpolicy.train.folder import RunFolder

PHASES = ("offline", "online")
COLUMNS = (
    "seed",
    "phase",
    "step",
    "refiner",
    "episodes",
    "success",
    "return",
    "length",
    "seconds",
)
SCORED = (*COLUMNS, "score")
"""The columns where the task has a normalised score."""


class _Line(NamedTuple):
    """One line of ``evaluations.csv``, in the order of ``SCORED``."""

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: int
    success: float
    reward: float
    length: float
    seconds: float
    score: float | None = None


class Evaluation(NamedTuple):
    """One evaluation of one seed's policy; several episode blocks are already added up.

    phase:      "offline" (``step`` counts updates) or "online" (``step`` counts environment steps)
    successes:  successful episodes, of ``episodes``
    reward:     mean undiscounted return; ``length``: mean number of steps; both over episodes
    seconds:    as recorded, added up over the blocks
    score:      the normalised score of ``reward``, where the task has one
    """

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: int
    successes: int
    reward: float
    length: float
    seconds: float
    score: float | None = None

    @property
    def success(self) -> float:
        """The success rate, in [0, 1]."""
        return self.successes / self.episodes


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """A run folder, read.

    absent:   names of tables that do not exist
    cut_off:  names of tables whose last line was not written to its end
    """

    path: Path
    config: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]
    metrics: tuple[Mapping[str, Any], ...]
    summary: Mapping[str, Any]
    absent: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's own settings (agent, phases, seeds): ``config`` inside ``config.json``, and the
        defaults of fields that its version did not have.
        """
        inner = self.config.get("config")
        return parts.completed(inner if isinstance(inner, dict) else dict(self.config))

    @property
    def seconds(self) -> float | None:
        """Wall time of the run: the summary's, else the largest stamp in ``metrics.jsonl``."""
        stamps = [record.get("seconds") for record in (self.summary, *self.metrics)]
        known = [float(s) for s in stamps if isinstance(s, int | float)]
        if not known:
            return None
        return known[0] if "seconds" in self.summary else max(known)


def read_run(run_dir: Path) -> RunFiles:
    """Reads a run folder. ``MissingData`` or ``CorruptFile`` name the file, and its line.

    ``CorruptFile`` where the configuration is not a run's, or was changed after it was written.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise MissingData(f"{run_dir} is not a run folder; `flowpolicy train` makes one")
    config = RunFolder(run_dir).record()
    tables = (run_dir / "evaluations.csv", run_dir / "metrics.jsonl")
    absent = tuple(path.name for path in tables if not path.exists())
    evaluations, cut = ((), False) if tables[0].name in absent else read_evaluations(tables[0])
    metrics, torn = ((), False) if tables[1].name in absent else read_metrics(tables[1])
    summary_path = run_dir / "summary.json"
    summary = read_object(summary_path) if summary_path.exists() else {}
    cut_off = tuple(path.name for path, is_cut in zip(tables, (cut, torn), strict=True) if is_cut)
    return RunFiles(run_dir, config, evaluations, metrics, summary, absent, cut_off)


def read_evaluations(path: Path) -> tuple[tuple[Evaluation, ...], bool]:
    """The evaluations of a CSV file, blocks added up, in the order of their first row.

    The flag says that the file ends inside a row (the run was killed as it wrote); that row is
    left out.
    """
    rows, cut = read_rows(path, _Line, SCORED, optional=1)
    merged: dict[tuple[int, str, int, str], Evaluation] = {}
    for where, row in rows:
        one = _evaluation(row, where)
        key = one[:4]
        merged[key] = _merge(merged[key], one) if key in merged else one
    return tuple(merged.values()), cut


def read_metrics(path: Path) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """The records of a JSON-lines file; the flag says that its last line was cut off.

    Every record has ``phase`` and ``step`` (where a record counts ``env_steps``, those are it);
    one without ``seed`` speaks of all seeds.
    """
    lines, cut = read_records(path)
    for where, record in lines:
        record.setdefault("step", record.get("env_steps"))
        if type(record["step"]) is not int:
            raise CorruptFile(f"{where}: step must be a whole number, got {record['step']!r}")
        if type(record.get("seed")) not in (int, type(None)):
            raise CorruptFile(f"{where}: seed must be a whole number, got {record['seed']!r}")
        _check_phase(record.get("phase"), where)
    return tuple(record for _, record in lines), cut


def metric_series(
    metrics: Sequence[Mapping[str, Any]], name: str
) -> Iterator[tuple[int | None, str, list[float], list[float]]]:
    """One metric as (seed, phase, steps, values), a series for each seed and phase that has it.

    The seed is None where the metric speaks of all.
    Values that were not finite (written as null) become NaN, so that a plot shows the gap.
    """
    series: dict[tuple[int | None, str], tuple[list[float], list[float]]] = {}
    for record in metrics:
        if name not in record:
            continue
        steps, values = series.setdefault((record.get("seed"), record["phase"]), ([], []))
        value = record[name]
        steps.append(float(record["step"]))
        values.append(float(value) if isinstance(value, int | float) else math.nan)
    for (seed, phase), (steps, values) in series.items():
        yield seed, phase, steps, values


def _check_phase(phase: Any, where: str) -> None:
    if phase not in PHASES:
        raise CorruptFile(f"{where}: phase must be one of {', '.join(PHASES)}, got {phase!r}")


def _evaluation(row: _Line, where: str) -> Evaluation:
    _check_phase(row.phase, where)
    if row.episodes < 1 or not 0 <= row.success <= 1:
        raise CorruptFile(f"{where}: needs episodes >= 1 and success in [0, 1]")
    successes = round(row.success * row.episodes)
    # The rate is a fraction of the episodes; four written decimals are enough to find it.
    if abs(row.success * row.episodes - successes) > 1e-4 * row.episodes:
        raise CorruptFile(
            f"{where}: success {row.success} is no fraction of {row.episodes} episodes"
        )
    return Evaluation(
        row.seed, row.phase, row.step, row.refiner, row.episodes, successes,
        row.reward, row.length, row.seconds, row.score,
    )  # fmt: skip


def _merge(first: Evaluation, second: Evaluation) -> Evaluation:
    episodes = first.episodes + second.episodes
    share = second.episodes / episodes
    score = None
    if first.score is not None and second.score is not None:
        score = first.score + share * (second.score - first.score)
    return first._replace(
        episodes=episodes,
        successes=first.successes + second.successes,
        reward=first.reward + share * (second.reward - first.reward),
        length=first.length + share * (second.length - first.length),
        seconds=first.seconds + second.seconds,
        score=score,
    )
