"""``flowpolicy data demonstrate``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from flowpolicy.cli.bar import collecting
from flowpolicy.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class DemonstrateOptions:
    """Collects demonstrations by a script, all of them solved: of RoboMimic's tasks by a hand, in
    RoboMimic's HDF5 layout (extra robomimic), and of Push-T by a finger that plans, as an npz
    (extra pusht). The same seed gives the same rows, whatever the number of workers, on one
    machine."""

    task: Annotated[str, tyro.conf.Positional]
    """lift, can or pusht."""
    rows: int = 20_000
    """Steps, at least; whole episodes are played."""
    noise: float | None = None
    """Standard deviation of the trembling added to movements, in [0, 1]; 0.1 for the hand, 0.01 for
    the finger if not given."""
    mistakes: float | None = None
    """Probability that a grasp reaches beside the object and is repeated, or that a push is not the
    best, in [0, 1); 0.2 for the hand, 0 for the finger if not given."""
    seed: int = 0
    """Seed of all episodes."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """The HDF5 file or npz to write; in $FLOWPOLICY_DATA or ~/.flowpolicy/data if not given."""
    workers: int = 0
    """Processes; one per core if 0."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an existing file."""


def demonstrate_command(arguments: list[str]) -> int:
    """Collects, and prints the file's path."""
    from flowpolicy.envs.scripted import JOBS
    from flowpolicy.runs.demonstrations import demonstrate
    from flowpolicy.runs.pusht import demonstrate_pusht, pusht_path
    from flowpolicy.runs.robomimic import demonstrations_path

    options = tyro.cli(DemonstrateOptions, args=arguments, prog="flowpolicy data demonstrate")
    given = {"noise": options.noise, "mistakes": options.mistakes}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen |= {"seed": options.seed, "overwrite": options.overwrite}
    chosen |= {"workers": options.workers or None}
    rows, out = options.rows, Path(options.out)
    if options.task not in (*JOBS, "pusht"):
        raise unknown_name("task with a script", options.task, (*JOBS, "pusht"))
    if options.task == "pusht":
        out = out if options.out else pusht_path(rows)
        with collecting("pusht", rows) as progress:
            demonstrate_pusht(rows, out, progress=progress, **chosen)
    else:
        out = out if options.out else demonstrations_path(options.task, rows)
        with collecting(f"robomimic-{options.task}", rows) as progress:
            demonstrate(options.task, rows, out, progress=progress, **chosen)
    print(out)
    return 0
