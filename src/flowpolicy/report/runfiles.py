"""Reads what a run left behind: ``config.json``, ``metrics.jsonl``, ``evaluations.csv``.

Everything is checked on the way in, and what is missing is named, never filled in. A run that has
not been evaluated, or has logged nothing, has no such file yet: that is an empty table.
"""

import csv
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from flowpolicy.errors import CorruptFile, MissingData

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


class Evaluation(NamedTuple):
    """One evaluation of one seed's policy; several episode blocks are already added up.

    phase:      "offline" (``step`` counts updates) or "online" (``step`` counts environment steps)
    successes:  successful episodes, of ``episodes``
    reward:     mean undiscounted return; ``length``: mean number of steps; both over episodes
    seconds:    as recorded, added up over the blocks
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

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run's own settings (agent, phases, seeds): ``config`` inside ``config.json``."""
        inner = self.config.get("config")
        return inner if isinstance(inner, Mapping) else self.config

    @property
    def seconds(self) -> float | None:
        """Wall time of the run: the summary's, else the largest stamp in ``metrics.jsonl``."""
        stamps = [record.get("seconds") for record in (self.summary, *self.metrics)]
        known = [float(s) for s in stamps if isinstance(s, int | float)]
        if not known:
            return None
        return known[0] if "seconds" in self.summary else max(known)


def read_run(run_dir: Path) -> RunFiles:
    """Reads a run folder. ``MissingData`` or ``CorruptFile`` name the file, and its line."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise MissingData(f"{run_dir} is not a run folder; `flowpolicy train` makes one")
    config = _read_object(run_dir / "config.json")
    tables = (run_dir / "evaluations.csv", run_dir / "metrics.jsonl")
    absent = tuple(path.name for path in tables if not path.exists())
    evaluations, cut = ((), False) if tables[0].name in absent else read_evaluations(tables[0])
    metrics, torn = ((), False) if tables[1].name in absent else read_metrics(tables[1])
    summary_path = run_dir / "summary.json"
    summary = _read_object(summary_path) if summary_path.exists() else {}
    cut_off = tuple(path.name for path, is_cut in zip(tables, (cut, torn), strict=True) if is_cut)
    return RunFiles(run_dir, config, evaluations, metrics, summary, absent, cut_off)


def read_evaluations(path: Path) -> tuple[tuple[Evaluation, ...], bool]:
    """The evaluations of a CSV file, blocks added up, in the order of their first row.

    The flag says that the file ends inside a row (the run was killed as it wrote); that row is
    left out.
    """
    lines, cut = _read_lines(path)
    if not lines:
        raise CorruptFile(f"{path} is empty; its first line should be {','.join(COLUMNS)}")
    reader = csv.reader(lines)
    if tuple(next(reader)) != COLUMNS:
        raise CorruptFile(f"{path}: the first line should be {','.join(COLUMNS)}, not {lines[0]}")
    merged: dict[tuple[int, str, int, str], Evaluation] = {}
    for row in reader:
        one = _parse_evaluation(row, f"{path}, line {reader.line_num}")
        key = one[:4]
        merged[key] = _merge(merged[key], one) if key in merged else one
    return tuple(merged.values()), cut


def read_metrics(path: Path) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """The records of a JSON-lines file; the flag says that its last line was cut off.

    Every record has ``phase`` and ``step`` (where a record counts ``env_steps``, those are it);
    one without ``seed`` speaks of all seeds.
    """
    lines, cut = _read_lines(path)
    records = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        record = _parse_object(line, where)
        record.setdefault("step", record.get("env_steps"))
        if not isinstance(record["step"], int):
            raise CorruptFile(f"{where}: step must be a whole number, got {record['step']!r}")
        _check_phase(record.get("phase"), where)
        records.append(record)
    return tuple(records), cut


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


def _read_lines(path: Path) -> tuple[list[str], bool]:
    text = _read_text(path)
    cut = bool(text) and not text.endswith("\n")
    lines = text.splitlines()
    return (lines[:-1] if cut else lines), cut


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise MissingData(f"{path} is missing; every run writes it, `flowpolicy train`") from None
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path} is not UTF-8 text ({error})") from None


def _read_object(path: Path) -> dict[str, Any]:
    return _parse_object(_read_text(path), str(path))


def _parse_object(text: str, where: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not strict JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def _check_phase(phase: Any, where: str) -> None:
    if phase not in PHASES:
        raise CorruptFile(f"{where}: phase must be one of {', '.join(PHASES)}, got {phase!r}")


def _parse_evaluation(row: list[str], where: str) -> Evaluation:
    if len(row) != len(COLUMNS):
        raise CorruptFile(f"{where}: {len(row)} fields instead of {len(COLUMNS)}")
    seed, phase, step, refiner, episodes, *rest = row
    try:
        counts = int(seed), int(step), int(episodes)
        success, reward, length, seconds = (float(text) for text in rest)
    except ValueError as error:
        raise CorruptFile(f"{where}: {error}") from None
    _check_phase(phase, where)
    if counts[2] < 1 or not 0 <= success <= 1:
        raise CorruptFile(f"{where}: needs episodes >= 1 and success in [0, 1]")
    successes = round(success * counts[2])
    # The rate is a fraction of the episodes; four written decimals are enough to find it.
    if abs(success * counts[2] - successes) > 1e-4 * counts[2]:
        raise CorruptFile(f"{where}: success {success} is no fraction of {counts[2]} episodes")
    return Evaluation(
        counts[0], phase, counts[1], refiner, counts[2], successes, reward, length, seconds
    )


def _merge(first: Evaluation, second: Evaluation) -> Evaluation:
    episodes = first.episodes + second.episodes
    share = second.episodes / episodes
    return first._replace(
        episodes=episodes,
        successes=first.successes + second.successes,
        reward=first.reward + share * (second.reward - first.reward),
        length=first.length + share * (second.length - first.length),
        seconds=first.seconds + second.seconds,
    )
