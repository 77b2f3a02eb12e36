"""The Python interface: train, resume, compare, report, debug."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from flowpolicy import parts, runs
from flowpolicy.agents.base import AgentConfig
from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import InvalidConfig, unknown_name
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.material import Material
from flowpolicy.report.methods import gather
from flowpolicy.report.runfiles import read_run
from flowpolicy.report.show import show
from flowpolicy.train import attempts
from flowpolicy.train.attempts import resume as continue_run
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.given import Seeds, as_phases, as_seeds, check_agent, check_out, check_task
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.phases import Phase, RunConfig
from flowpolicy.train.task import RowsOnly, Task
from flowpolicy.train.watch import Watch

PACKAGES = (
    "flowpolicy", "jax", "jaxlib", "numpy", "optax", "ogbench", "mujoco", "gymnasium", "minari",
)  # fmt: skip
"""Those whose versions a run writes down."""

Run = RunFolder
AnyRun = Run | str | Path


def train(
    what: str | AgentConfig | RunConfig,
    data: Dataset | None = None,
    *,
    task: Task | None = None,
    seeds: Seeds | None = None,
    phases: Phase | Sequence[Phase] | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    hardware: Hardware | None = None,
    **overrides: Any,
) -> Run:
    """Trains and returns the run, whose folder holds all that came of it.

    what:      a named run (``flowpolicy list``), an agent's configuration, or a whole RunConfig
    data:      offline rows; those of the task where None
    seeds:     how many agents, with seeds 0 to N - 1, or which; they train side by side
    task:      where environments come from; without one, data are trained on and not evaluated
    phases:    ``fp.Offline(...)`` and ``fp.Online(...)``, one or several in order
    out:       the run's folder; a new one under ``runs/`` where None
    watch:     who is told of progress; nobody where None
    hardware:  processes and devices (``fp.Hardware(workers=4)``); one of each where None
    overrides: fields of the run (batch=128) or of its agent (eta=0.3); with another kind of agent
               (agent=...) the run is no longer the named one, and is called as the agent is

    Raises ``FlowPolicyError``s that name the field and what is allowed, before training starts;
    ``Diverged`` and ``Stopped`` during it, with the last checkpoint kept.
    """
    name, config = _resolve(what)
    given = {
        "task": task,
        "seeds": None if seeds is None else as_seeds(seeds),
        "phases": None if phases is None else as_phases(phases),
    }
    changes = {k: v for k, v in given.items() if v is not None} | overrides
    kind, config = type(config.agent), override(config, changes)
    if type(config.agent) is not kind:  # another method than the one the run is named after
        name = parts.name_of(config.agent)
    if config.task is None:
        config = dataclasses.replace(config, task=RowsOnly())
    check_task(config.task)
    folder = free_folder(name) if out is None else Path(out)
    check_out(folder)  # before rows are read, which may take long
    dataset = config.task.dataset() if data is None else data
    record = {"run": name, "versions": versions(), "commit": _commit()}
    if isinstance(what, str) and data is None and "agent" not in changes:  # which is no option
        record["command"] = _command(name, changes)
    return attempts.run(
        config, config.task, dataset, folder, record=record, watch=watch, hardware=hardware
    )


def resume(
    run: AnyRun,
    data: Dataset | None = None,
    *,
    watch: Watch | None = None,
    allow_inexact: bool = False,
    hardware: Hardware | None = None,
) -> Run:
    """Goes on with a run that was stopped or killed, as if it had not been, and returns it.

    data: the offline rows the run began with; those of its task where None
    watch: who is told of progress, and from which checkpoint it goes on; nobody where None
    hardware: processes and devices, as for ``train``; not necessarily those from before
    allow_inexact: goes on where the result will not be, to the bit, that of a run that was never
          interrupted: another device, other versions, an environment that does not repeat itself

    Parts of your own must be registered first. A finished run is left as it is. Raises ``Inexact``,
    ``Busy`` where another process writes to the run, ``MissingData`` and ``CorruptFile`` that name
    the file, ``InvalidData`` where the rows are other ones.
    """
    folder = RunFolder(_path(run))
    task = folder.config().task
    dataset = task.dataset() if data is None else data
    return continue_run(
        folder.path, task, dataset,
        watch=watch, allow_inexact=allow_inexact, hardware=hardware,
    )  # fmt: skip


def _resolve(what: str | AgentConfig | RunConfig) -> tuple[str, RunConfig]:
    if isinstance(what, str):
        return what, runs.get(what).config
    if isinstance(what, RunConfig):
        return "own run", what
    return "own agent", RunConfig(agent=what)


def override(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """``config`` with fields of the run, or of its agent, replaced by name.

    Where an agent is among ``values``, the fields are those of that one.
    """
    agent = values.get("agent", config.agent)
    check_agent(agent)
    run_fields = {f.name for f in dataclasses.fields(RunConfig)}
    agent_fields = {f.name for f in dataclasses.fields(agent)}
    for name in values:
        if name not in run_fields | agent_fields:
            raise unknown_name("field of the run or its agent", name, run_fields | agent_fields)
    ours = {k: v for k, v in values.items() if k in run_fields}
    theirs = {k: v for k, v in values.items() if k not in run_fields}
    return parts.replace(config, **ours | {"agent": parts.replace(agent, **theirs)})


def free_folder(name: str) -> Path:
    """A folder under ``runs/`` that does not exist yet, named after ``name``."""
    base = name.replace("/", "-").replace(" ", "-")
    for i in range(1, 10_000):
        path = Path("runs") / (base if i == 1 else f"{base}-{i}")
        if not path.exists():
            return path
    raise InvalidConfig(f"runs/{base} to runs/{base}-9999 all exist; give out=")


def versions() -> dict[str, str]:
    """Versions of what a result depends on, and the device."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _commit() -> str:
    """The git commit of the source this runs from; empty where it is not a checkout."""
    where = Path(__file__).parent
    try:
        command = ["git", "-C", str(where), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _command(name: str, changes: dict[str, Any]) -> str:
    """The command line that trains the same."""
    words = ["flowpolicy", "train", name]
    for field, value in changes.items():
        if field == "seeds":
            words += ["--seed" if len(value) == 1 else "--seeds", *(str(seed) for seed in value)]
            continue
        flag = field.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
            continue
        words += [f"--{flag}", value if isinstance(value, str) else parts.describe(value)]
    return shlex.join(words)


def compare(*groups: AnyRun | Sequence[AnyRun]) -> Comparison:
    """Runs side by side: ``compare(a, b).paired()``, ``.table()``, ``.aggregate()`` and more.

    Each of ``groups`` is a run, its folder, or a sequence of either. Methods are told apart by the
    runs' names, by the refiner that acted, and by settings that differ; those of two groups are
    never pooled. ``print(compare(...))`` shows the table of final success.

    Raises ``InvalidConfig`` where there is no run, or where two runs of a group hold the same seed
    of the same method and task; ``MissingData`` and ``CorruptFile`` name the file.
    """
    lists = [[g] if isinstance(g, RunFolder | str | Path) else list(g) for g in groups]
    if not lists or not all(lists):
        raise InvalidConfig("compare needs at least one run, and no group without one")
    return Comparison(gather([[read_run(_path(run)) for run in group] for group in lists]))


def report(*given: AnyRun, out: str | Path | None = None, episodes: bool = True) -> Path:
    """Writes one self-contained page about a run, or about several, and returns its path.

    out:      where; ``report.html`` in the folder of one run, ``comparison.html`` for several,
              whose tables go as CSV files into the folder beside it, ``comparison/``
    episodes: whether episodes are played and shown; of several runs a success and a failure of
              every method

    Raises, before anything is played, ``InvalidConfig`` where ``out`` is no name of a page or the
    tables would go into a run, ``StorageFailed`` where it cannot be written; and what ``compare``
    does.
    """
    from flowpolicy.report.html import check_report, write_report  # draws; acting needs it not

    if len(given) == 1:
        folder, page = RunFolder(_path(given[0])), None if out is None else Path(out)
        check_report(folder.path, page)
        material = show(folder) if episodes else Material()
        return write_report(folder.path, material=material, out=page)
    return _report_comparison(compare(given), Path(out or "comparison.html"), episodes)


def _report_comparison(found: Comparison, out: Path, episodes: bool) -> Path:
    from flowpolicy.report.comparison_html import check_comparison, write_comparison
    from flowpolicy.report.gallery import example
    from flowpolicy.report.modes import modes_kept

    check_comparison(out)
    cells = found.cells if episodes else ()
    return write_comparison(
        found,
        out,
        papers=_papers(found),
        examples=[example(cell) for cell in cells],
        modes=[kept for cell in cells if (kept := modes_kept(cell)) is not None],
    )


def _papers(found: Comparison) -> dict[tuple[str, str], Any]:
    """Settings of the named runs at the paper's size: ``fmq/...`` for ``mini/fmq/...``."""
    known = set(runs.names())
    names = {
        (cell.base, cell.task): f"{cell.base.rpartition('/')[2]}/{cell.task}"
        for cell in found.cells
    }
    return {
        key: parts.encode(runs.get(name).config) for key, name in names.items() if name in known
    }


def _path(run: AnyRun) -> Path:
    return run.path if isinstance(run, RunFolder) else Path(run)


@contextlib.contextmanager
def debug() -> Iterator[None]:
    """Without jit and scan: breakpoints and prints work inside agents, losses and nets.

    The numbers are those of a compiled run up to rounding; it is some hundred times slower.
    """
    with jax.disable_jit():
        yield
