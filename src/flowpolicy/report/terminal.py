"""The learning curve as text, for whoever has a terminal and no browser."""

from collections.abc import Sequence

import numpy as np

from flowpolicy.report.progress import (
    STEP_UNIT,
    PhaseCurve,
    Result,
    before_after,
    phase_curves,
    refiners,
    thousands,
)
from flowpolicy.report.runfiles import Evaluation

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MAX_BARS = 24  # a phase with more evaluations is thinned out evenly, its last one kept


def terminal_curve(evaluations: Sequence[Evaluation], *, height: int = 5, width: int = 72) -> str:
    """Success against step as bars of block characters, and a line with before and after.

    One bar an evaluation, mean over seeds, 0 to 1 over ``height`` lines, offline and online
    parted by a rule; every line has at most ``width`` characters where the evaluations allow it.
    """
    if not evaluations:
        return "no evaluation yet"
    refiner = refiners(evaluations)[0]
    rng = np.random.default_rng(0)
    parts = [p for p in phase_curves(evaluations, refiner, rng) if len(p.steps)]
    before, after = before_after(evaluations, refiner, rng)
    lines = _plot(parts, height, width) if parts else []
    lines += [_result_line(before, after), _protocol_line(before or after, after, refiner)]
    return "\n".join(line.rstrip() for line in lines if line)


def _plot(parts: Sequence[PhaseCurve], height: int, width: int) -> list[str]:
    thinned = [_thinned(part) for part in parts]
    bars = sum(len(rates) for _, rates in thinned)
    wide = max(1, min(6, (width - 8 - 3 * len(parts)) // bars - 1))
    columns = [[_bar(rate, height, wide) for rate in rates] for _, rates in thinned]
    lines = []
    for row in range(height):
        label = {0: "1.0", height - 1: "0.0"}.get(row, "")
        if height % 2 and row == height // 2:
            label = "0.5"
        cells = [" ".join(bar[row] for bar in part) for part in columns]
        lines.append(f"{label:>4} ┤" + " │ ".join(cells))
    widths = [len(part) * (wide + 1) - 1 for part in columns]
    lines.append("     └" + "─┴─".join("─" * w for w in widths))
    ends = [
        f"{part.phase}, {thousands(int(part.steps[-1]))} {STEP_UNIT[part.phase]}" for part in parts
    ]
    lines.append("      " + _labels(ends, widths))
    return lines


def _bar(rate: float, height: int, wide: int) -> list[str]:
    # A rate above zero is never drawn as nothing.
    eighths = max(round(rate * height * 8), int(rate > 0))
    cells = [_BLOCKS[max(0, min(8, eighths - 8 * level))] for level in range(height)]
    return [cell * wide for cell in reversed(cells)]


def _thinned(part: PhaseCurve) -> tuple[np.ndarray, np.ndarray]:
    count = len(part.steps)
    kept = np.unique(np.linspace(count - 1, 0, min(count, _MAX_BARS)).round().astype(int))
    return part.steps[kept], part.curve.mean[kept]


def _labels(texts: Sequence[str], widths: Sequence[int]) -> str:
    # A label wider than its part pushes the next one on, and never loses a letter.
    line, start = "", 0
    for text, width in zip(texts, widths, strict=True):
        line = line.ljust(start) + ("   " if line and len(line) >= start else "") + text
        start += width + 3
    return line


def _result_line(before: Result | None, after: Result | None) -> str:
    shown = [_rate(result) for result in (before, after) if result is not None]
    if not shown:
        return "success: no step was evaluated for every seed"
    return "success " + " → ".join(shown)


def _rate(result: Result) -> str:
    return f"{result.rate:.2f} [{result.low:.2f}, {result.high:.2f}]"


def _protocol_line(first: Result | None, after: Result | None, refiner: str) -> str:
    last = after or first
    if last is None:
        return ""
    seeds = ", ".join(str(seed) for seed in last.seeds)
    word = "seed" if len(last.seeds) == 1 else "seeds"
    return f"95 % interval, {last.episodes} episodes at the end, {refiner}, {word} {seeds}"
