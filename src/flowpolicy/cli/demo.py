"""``flowpolicy demo``: the main job on real input, in minutes."""

import dataclasses
import time
from pathlib import Path

import tyro
from rich.console import Console

from flowpolicy import api
from flowpolicy.cli.data import collect_with_progress
from flowpolicy.cli.training import say_device
from flowpolicy.data import ogbench
from flowpolicy.report import read_run, terminal_curve
from flowpolicy.train.console import ConsoleWatch

RUN = "mini/fmq/cube-single-task1"
ENVIRONMENT = "cube-single"
ROWS = 100_000


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Collects play data of a robot arm with one cube, trains FMQ on it offline, adapts it
    online, evaluates before and after, and writes a report."""

    seed: int = 0
    """Seed of the run."""
    out: str = ""
    """The run's folder; a new one under runs/ if not given."""


def demo(arguments: list[str]) -> int:
    """Runs it and prints what came of it."""
    options = tyro.cli(DemoOptions, args=arguments, prog="flowpolicy demo")
    console = Console(stderr=True)
    started = time.perf_counter()
    file = ogbench.default_path(ogbench.dataset_of(ENVIRONMENT), ROWS)
    console.print(
        "A robot arm is to put a cube in its place (OGBench cube-single, task 1). A flow map "
        "policy\nclones 100 000 rows of play, then FMQ adapts it in the environment.",
        highlight=False,
    )
    if file.exists():
        console.print(f"data is there already: {file}", highlight=False)
    else:
        collect_with_progress(ENVIRONMENT, ROWS, file)
    collected = time.perf_counter()
    out = Path(options.out) if options.out else api.free_folder("demo")
    run = api.train(RUN, seeds=[options.seed], out=out, watch=ConsoleWatch(console))
    say_device(console)
    trained = time.perf_counter()
    console.print("[bold]report[/]: recording an episode", highlight=False)
    page = api.report(run)
    ended = time.perf_counter()
    print(terminal_curve(read_run(run.path).evaluations))
    print(
        f"{ended - started:.0f} s: collecting {collected - started:.0f}, training and evaluating "
        f"{trained - collected:.0f}, report {ended - trained:.0f}"
    )
    print(f"open {page} in a browser; the method's settings: flowpolicy train {RUN} --help")
    return 0
