"""``flowpolicy bench`` and ``flowpolicy profile RUN``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from rich.table import Table

from flowpolicy import parts
from flowpolicy.bench import suite
from flowpolicy.bench.latency import DEADLINE, latency
from flowpolicy.bench.profile import profile as profile_run
from flowpolicy.errors import InvalidConfig
from flowpolicy.train.durable import write as write_durably
from flowpolicy.train.policy import Policy


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Measures this machine: its best matrix product, FMQ's updates, actions, environments and the
    online loop. Minutes; on a quiet machine, or the numbers are of something else. Or, with
    --policy, one policy's latency: no environment is needed and nothing moves."""

    out: Path = Path("bench.json")
    """Where the numbers are written, as strict JSON with the machine and the versions; a file that
    is not there yet, so that machines and releases can be compared."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Fewer repetitions: a first look, a minute or two."""
    policy: Path | None = None
    """A run's folder, or a package: measure how long its policy takes for a chunk, and that alone.
    The options below are of this."""
    refiner: Annotated[str, tyro.conf.arg(metavar="PART")] = ""
    """Acts in the place of the policy's own: one_step, 'best_of_n(n=8)', 'qgbs(beam=4)'."""
    backend: Literal["jax", "numpy"] = "jax"
    """What acts; numpy for a package alone."""
    deadline: float = DEADLINE
    """Seconds that a call may take."""
    calls: int = 1_000
    """Calls that are timed."""


_OF_THE_MACHINE = ("out", "quick")
_OF_A_POLICY = ("refiner", "backend", "deadline", "calls")


def bench(arguments: list[str]) -> int:
    """Prints a table and writes the numbers."""
    options = tyro.cli(BenchOptions, args=arguments, prog="flowpolicy bench")
    _check_used(options)
    if options.policy is not None:
        return _latency(options, options.policy)
    if options.out.exists() or not options.out.parent.is_dir():
        raise InvalidConfig(
            f"--out {options.out} must be a file that is not there yet, in a folder that is"
        )
    console = Console(stderr=True)
    results = suite.bench(lambda what: console.print(f"  {what} ..."), quick=options.quick)
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    write_durably(options.out, text.encode())
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for row in _rows(results):
        table.add_row(*row)
    Console().print(table)
    print(f"written: {options.out}")
    return 0


def _check_used(options: BenchOptions) -> None:
    """An option that would do nothing is a mistake."""
    alone = options.policy is not None
    plain, word = BenchOptions(), "without" if alone else "with"
    for name in _OF_THE_MACHINE if alone else _OF_A_POLICY:
        value = getattr(options, name)
        if value != getattr(plain, name):
            raise InvalidConfig(f"--{name} is for bench {word} --policy, got {value}")


def _latency(options: BenchOptions, folder: Path) -> int:
    refiner = parts.parse(options.refiner) if options.refiner else None
    policy = Policy.load(folder, backend=options.backend, refiner=refiner)
    found = latency(policy, calls=options.calls, deadline=options.deadline)
    print(
        f"ms a chunk: p50 {found['p50_ms']:.3f}, p99 {found['p99_ms']:.3f}, "
        f"p99.9 {found['p999_ms']:.3f}, max {found['max_ms']:.3f}\n"
        f"{found['missed']} of {found['calls']} calls missed {1e3 * options.deadline:g} ms "
        f"({options.backend}, {policy.horizon} actions a chunk)"
    )
    return 0


def _rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    machine = results["machine"]
    rows = [
        (machine["cpu"], str(machine["cores"]), f"cores, device {machine['device']}"),
        ("load before", str(machine["load_before"]), "should be near 0"),
        ("best float32 product", f"{results['peak']['gflops']:.0f}", "GFLOP/s"),
    ]
    for name, one in results["updates"].items():
        ms = one["wall_ms"]
        rows.append((
            name, f"{ms['median']:.1f}",
            f"ms an update ({ms['min']:.1f} to {ms['max']:.1f}), "
            f"{100 * one['share_of_peak']:.0f} % of that product",
        ))  # fmt: skip
    for name, one in results["actions"].items():
        rows.append((
            name, f"{one['p50_ms']:.2f}",
            f"ms an action; p99 {one['p99_ms']:.2f}, first {one['first_ms']:.2f}",
        ))  # fmt: skip
    for name, rate in results["environment_steps_per_second"].items():
        rows.append((name, f"{rate:.0f}", "steps a second, one process"))
    loop = results["loop"]
    shares = ", ".join(
        f"{name} {100 * share:.0f} %"
        for name, share in loop.items()
        if name != "steps_per_second" and share >= 0.005
    )
    rows.append(("online loop, cube-single", f"{loop['steps_per_second']:.0f}", "steps a second"))
    return [*rows, ("", "", shares)]


@dataclasses.dataclass(frozen=True)
class ProfileOptions:
    """Where the time of a run's updates goes: a trace and a page of text."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """A folder that does not exist yet; profile in the run's folder if not given."""
    updates: int = 20
    """Updates that are traced."""
    host_rows: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the offline rows in the host's memory, as for train."""


def profile(arguments: list[str]) -> int:
    """Prints the page and says where the trace is."""
    options = tyro.cli(ProfileOptions, args=arguments, prog="flowpolicy profile")
    out = Path(options.out) if options.out else options.run / "profile"
    page = profile_run(options.run, out, updates=options.updates, host_rows=options.host_rows)
    print(page)
    print(f"written: {out / 'profile.md'}; the trace beside it opens in Perfetto or XProf")
    print(f"on {jax.devices()[0].device_kind}")
    return 0
