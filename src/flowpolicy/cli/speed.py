"""``flowpolicy bench`` and ``flowpolicy profile RUN``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from flowpolicy.bench import suite
from flowpolicy.bench.profile import profile as profile_run
from flowpolicy.errors import InvalidConfig
from flowpolicy.train.durable import write as write_durably


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Measures this machine: its best matrix product, FMQ's updates, actions, environments and the
    online loop. Minutes; on a quiet machine, or the numbers are of something else."""

    out: Path = Path("bench.json")
    """Where the numbers are written, as strict JSON with the machine and the versions; a file that
    is not there yet, so that machines and releases can be compared."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Fewer repetitions: a first look, a minute or two."""


def bench(arguments: list[str]) -> int:
    """Prints a table and writes the numbers."""
    options = tyro.cli(BenchOptions, args=arguments, prog="flowpolicy bench")
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
