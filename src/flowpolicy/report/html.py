"""``report.html``: one file that shows a run, with everything inside and nothing fetched."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.errors import CorruptFile
from flowpolicy.report import scenes, style
from flowpolicy.report.diagnostics import diagnostics, left_out, logged_once
from flowpolicy.report.document import (
    Picture,
    check_page,
    data_address,
    png_picture,
    render,
    svg_picture,
    write_whole,
)
from flowpolicy.report.figures import before_after as before_after_figure
from flowpolicy.report.figures import flow_map, learning_curve
from flowpolicy.report.material import Material
from flowpolicy.report.progress import (
    STEP_UNIT,
    Result,
    before_after,
    missing_evaluations,
    phase_curves,
    refiners,
)
from flowpolicy.report.runfiles import PHASES, Evaluation, RunFiles, read_run
from flowpolicy.report.sweep import read_sweep

REPORT = "report.html"
_TEMPLATE = "report.html.j2"
_BOOTSTRAP_SEED = 0  # the same run folder gives the same report, byte for byte


def check_report(run_dir: Path, out: Path | None = None) -> None:
    """What ``write_report`` refuses, told before episodes are played."""
    read_run(Path(run_dir))
    check_page(out or Path(run_dir) / REPORT)


def write_report(run_dir: Path, *, material: Material, out: Path | None = None) -> Path:
    """Writes ``report.html`` into a run folder, or ``out``, and returns its path.

    The file is complete or not there: it is written under another name, flushed, and renamed.
    ``MissingData`` or ``CorruptFile`` name the file of the run that is absent or broken.
    """
    run = read_run(Path(run_dir))
    path = out or run.path / REPORT
    write_whole(path, render_report(run, material=material))
    return path


def render_report(run: RunFiles, *, material: Material) -> str:
    """The report's HTML. It runs no script and refers to nothing outside itself."""
    return render(
        _TEMPLATE,
        **_progress(run),
        **_rollout(material),
        **_facts(run, material),
        sweep=read_sweep(run.path),
        flow=material.flow,
        flow_absent=material.flow_absent,
        flow_picture=None
        if material.flow is None
        else png_picture(
            style.png(flow_map(material.flow)), "Noise, carried by the flow map to actions"
        ),
        units=STEP_UNIT,
    )


def _progress(run: RunFiles) -> dict[str, Any]:
    """Headline, curves, bars, diagnostics: what ``evaluations.csv`` and ``metrics.jsonl`` say."""
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    names = refiners(run.evaluations)
    before, after, curve, bars = None, None, None, None
    if names:
        before, after = before_after(run.evaluations, names[0], rng)
        curves = {name: phase_curves(run.evaluations, name, rng) for name in names}
        curve = svg_picture(style.svg(learning_curve(curves)), "Success rate against training step")
        if before or after:
            drawn = before_after_figure(before, after)
            bars = svg_picture(style.svg(drawn), "Success rate before and after")
    parts = {phase: diagnostics(run.metrics, phase=phase) for phase in PHASES}
    return {
        "refiner": names[0] if names else None,
        "before": before,
        "after": after,
        "change": _change(before, after),
        "curve": curve,
        "bars": bars,
        "seeds": sorted({e.seed for e in run.evaluations}),
        "diagnostics": {
            phase: svg_picture(style.svg(figure), f"Metrics of {phase} training")
            for phase, figure in parts.items()
            if figure is not None
        },
        "once": {phase: logged_once(run.metrics, phase=phase) for phase in PHASES},
        "undrawn": left_out(run.metrics),
        "evaluations": sorted(run.evaluations, key=_table_order),
        "missing": missing_evaluations(run.evaluations, run.settings),
        "absent": run.absent,
        "cut_off": run.cut_off,
    }


def _rollout(material: Material) -> dict[str, Any]:
    """The recorded episode, as moving picture and strip, or as the path of what moved."""
    rollout = material.rollout
    pictures: list[Picture] = []
    if rollout is not None and rollout.frames:
        moving = scenes.animation(rollout.frames)
        strip = scenes.frame_strip(rollout.frames)
        pictures.append(Picture(data_address("image/webp", moving), "The episode, moving"))
        pictures.append(png_picture(strip, "The episode, frame by frame"))
    elif rollout is not None and rollout.paths:
        figure = scenes.paths(rollout.paths, success_step=rollout.success_step)
        pictures.append(svg_picture(style.svg(figure), "The path, from above and from the side"))
    return {
        "rollout": rollout,
        "rollout_pictures": pictures,
        "rollout_absent": material.rollout_absent,
    }


def _facts(run: RunFiles, material: Material) -> dict[str, Any]:
    """What ``config.json`` says."""
    config = dict(run.config)
    versions, commit = config.pop("versions", {}), config.pop("commit", None)
    if not isinstance(versions, Mapping):
        raise CorruptFile(f"{run.path / 'config.json'}: versions must be an object")
    command = config.pop("command", None)
    return {
        "run": _name(config.get("run")) or run.path.resolve().name,
        "task": _name(config.get("task")) or _name(run.settings.get("task")) or "not recorded",
        "method": _name(run.settings.get("agent")) or "not recorded",
        "duration": _duration(run.seconds),
        "configuration": list(_flattened(config)),
        "versions": [*_flattened(versions), *([("commit", str(commit))] if commit else [])],
        "command": material.command or (command if isinstance(command, str) else None),
    }


def _name(value: Any) -> str:
    """A configured part in one word, or a few."""
    if isinstance(value, Mapping):
        named = [value[key] for key in ("part", "name", "id") if key in value]
        return str(named[0]) if named else ""
    return "" if value is None else str(value)


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield from _flattened({str(i): item for i, item in enumerate(value)}, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)


def _change(before: Result | None, after: Result | None) -> str | None:
    if before is None or after is None:
        return None
    return f"{after.rate - before.rate:+.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min ({whole:,} s)"
    return f"{minutes} min {whole % 60} s ({whole:,} s)" if minutes else f"{seconds:.1f} s"


def _table_order(row: Evaluation) -> tuple[int, int, str, int]:
    return PHASES.index(row.phase), row.step, row.refiner, row.seed
