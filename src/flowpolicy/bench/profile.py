"""``profile``: where the time of a run's updates goes."""

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.bench import trace
from flowpolicy.bench.peak import peak
from flowpolicy.bench.timing import machine
from flowpolicy.data.dataset import Dataset
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import durable
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.prepare import blank_rows
from flowpolicy.train.random import Stream, stream_keys
from flowpolicy.train.updates import Updater
from flowpolicy.types import Rows

RING = 1_000
SHOWN = 12


class Program(NamedTuple):
    """A compiled block of updates, what it is called with, and its text as XLA has it."""

    compiled: Any
    arguments: tuple[Any, ...]
    text: str


def profile(
    run: RunFolder | str | Path,
    out: str | Path,
    *,
    updates: int = 20,
    data: Dataset | None = None,
    host_rows: bool = False,
) -> str:
    """Traces ``updates`` of the newest checkpoint of a run and returns a page about them.

    out:  a folder that does not exist yet; it gets ``profile.md`` and the trace, which Perfetto and
          XProf open
    data: the offline rows; those of the run's task where None. Online, the ring is filled with the
          first of them
    host_rows: as for ``train``

    Guards are left out. Raises ``InvalidConfig`` where ``updates`` is below 1, ``out`` is there
    already, or an offline run's rows cannot be found again from its folder.
    """
    folder, out = run if isinstance(run, RunFolder) else RunFolder(run), Path(out)
    if updates < 1:
        raise InvalidConfig(f"updates must be at least 1, got {updates}")
    if out.exists():
        raise InvalidConfig(f"{out} exists already; choose another folder or remove it")
    program = _program(folder, updates, data, host_rows=host_rows)
    seconds, events = _traced(program, out)
    kinds = trace.kinds(program.text)
    page = _page(folder, updates, seconds, program, trace.total(events, kinds), trace.total(events))
    durable.write(out / "profile.md", page.encode())
    return page


def _program(folder: RunFolder, updates: int, data: Dataset | None, *, host_rows: bool) -> Program:
    config = folder.config()
    trained, meta = folder.load()
    dataset = config.task.dataset() if data is None else data
    rows = None if dataset is None else dataset.rows
    if rows is None and not meta["online"]:
        raise InvalidConfig(
            f"{folder.path}: its rows were given by hand and are not found again from its folder; "
            "give profile(..., data=...) the data set"
        )
    seeds = len(config.seeds)
    updater = Updater(
        offline=rows,
        normaliser=trained.normaliser,
        view=config.agent.view,
        draw=config.draw,
        batch=config.batch,
        seeds=seeds,
        precision=config.precision,
        on_host=host_rows,
        augment=config.augment,
    )
    rings = _rings(updater, rows or blank_rows(folder.spec()), seeds) if meta["online"] else None
    keys = stream_keys(config.seeds, Stream.UPDATE)
    zero, alive = np.zeros(seeds, np.int64), np.ones(seeds, bool)
    lowered, arguments = updater.lower(trained.agents, rings, keys, zero, alive, count=updates)
    updater.close()
    compiled = lowered.compile()
    return Program(compiled, arguments, compiled.as_text())


def _rings(updater: Updater, rows: Rows, seeds: int) -> Any:
    some = _first(rows, seeds)
    count = some.reward.shape[1]
    return updater.insert(updater.ring(rows, RING), some, np.full(seeds, count))


def _first(rows: Rows, seeds: int) -> Rows:
    """What fills a ring, once for every seed; of mapped rows no more is read."""
    return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x[:RING])] * seeds), rows)


def _traced(program: Program, out: Path) -> tuple[float, list[trace.Event]]:
    """Seconds of one call, untraced, and the events of another one, traced."""

    def call(agents: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        after, _ = jax.block_until_ready(program.compiled(agents, *program.arguments[1:]))
        return after, time.perf_counter() - began

    agents, _ = call(program.arguments[0])  # the first call loads what later ones find
    agents, seconds = call(agents)
    durable.make_folder(out)
    with jax.profiler.trace(str(out)):
        call(agents)
    return seconds, trace.read(out)


def _page(
    folder: RunFolder,
    updates: int,
    seconds: float,
    program: Program,
    by_kind: list[trace.Spent],
    by_operation: list[trace.Spent],
) -> str:
    told, best = machine(), peak(3)
    cost = program.compiled.cost_analysis() or {}
    memory = program.compiled.memory_analysis()
    busy = max(sum(one.seconds for one in by_kind), 1e-12)
    seeds = len(folder.config().seeds)
    together = "" if seeds == 1 else f"; an update is one of each of the {seeds} seeds"
    lines = [
        f"# Updates of {folder.record().get('run') or folder.path.name}",
        "",
        f"{updates} updates in one program, on {told['device']} ({told['cpu']}, "
        f"{told['cores']} cores), jax {told['versions']['jax']}",
        "",
        f"- {1e3 * seconds / updates:.2f} ms an update, {updates / seconds:.1f} updates a second, "
        f"untraced{together}",
        f"- best float32 matrix product of this machine: {best['gflops']:.0f} GFLOP/s",
        f"- memory: {_mib(memory.argument_size_in_bytes)} of arguments, "
        f"{_mib(memory.temp_size_in_bytes)} of intermediate results",
    ]
    if "flops" in cost:
        lines.append(
            f"- XLA counts {cost['flops'] / 1e9:.2f} GFLOP in the program, the body of every loop "
            "once"
        )
    lines += ["", "## Where the device's time goes", "", "| kind | share | ms an update |"]
    lines.append("|---|---:|---:|")
    lines += [
        f"| {kind.name} | {100 * kind.seconds / busy:.1f} % | {1e3 * kind.seconds / updates:.3f} |"
        for kind in by_kind
    ]
    lines += ["", "## The longest operations", "", "| operation | calls | share | in the source |"]
    lines.append("|---|---:|---:|---|")
    sources = trace.sources(program.text)
    lines += [
        f"| {one.name} | {one.calls} | {100 * one.seconds / busy:.1f} % | "
        f"{_short(sources.get(one.name, ''))} |"
        for one in by_operation[:SHOWN]
    ]
    lines += [
        "",
        "Seconds of all the device's threads together. A matrix product that XLA fused with what "
        "follows it counts as a matrix product.",
    ]
    return "\n".join(lines) + "\n"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _short(source: str) -> str:
    """The end of an operation's path, without what every one of them has."""
    parts = [p for p in source.split("/") if not re.match(r"jit|while|body|closed_call|cond", p)]
    return "/".join(parts[-3:]).replace("|", " ")
