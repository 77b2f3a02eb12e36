"""``flowpolicy data demonstrate``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from flowpolicy.cli.bar import collecting


@dataclasses.dataclass(frozen=True)
class DemonstrateOptions:
    """Collects demonstrations of a RoboMimic task by a scripted hand, all of them solved, in
    RoboMimic's HDF5 layout; needs the extra robomimic. The same seed gives the same rows, whatever
    the number of workers, on one machine."""

    task: Annotated[str, tyro.conf.Positional]
    """lift or can."""
    rows: int = 20_000
    """Steps, at least; whole episodes are played."""
    noise: float = 0.1
    """Standard deviation of the trembling added to the arm's movements, in [0, 1]."""
    mistakes: float = 0.2
    """Probability that a grasp reaches beside the object and is repeated, in [0, 1)."""
    seed: int = 0
    """Seed of all episodes."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The HDF5 file to write; in $FLOWPOLICY_DATA or ~/.flowpolicy/data if not given."""
    workers: int = 0
    """Processes; one per core if 0."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an existing file."""


def demonstrate_command(arguments: list[str]) -> int:
    """Collects, and prints the file's path."""
    from flowpolicy.runs.demonstrations import demonstrate
    from flowpolicy.runs.robomimic import demonstrations_path

    options = tyro.cli(DemonstrateOptions, args=arguments, prog="flowpolicy data demonstrate")
    out = Path(options.out) if options.out else demonstrations_path(options.task, options.rows)
    with collecting(f"robomimic-{options.task}", options.rows) as progress:
        demonstrate(
            options.task,
            options.rows,
            out,
            noise=options.noise,
            mistakes=options.mistakes,
            seed=options.seed,
            workers=options.workers or None,
            progress=progress,
            overwrite=options.overwrite,
        )
    print(out)
    return 0
