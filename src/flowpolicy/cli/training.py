"""``flowpolicy train NAME`` and ``flowpolicy resume RUN``."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
import tyro
from rich.console import Console

from flowpolicy import api, runs
from flowpolicy.cli.options import read_overrides, read_scaling
from flowpolicy.data.actions import AsRecorded
from flowpolicy.errors import InvalidConfig
from flowpolicy.report import read_run, terminal_curve
from flowpolicy.runs.own import OwnData
from flowpolicy.train import sinks
from flowpolicy.train.console import ConsoleWatch
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.phases import Offline, RunConfig
from flowpolicy.train.task import Task
from flowpolicy.train.watch import Silent, Watch


@runtime_checkable
class Telling(Protocol):
    """Who is told of progress: fields that both commands take."""

    @property
    def quiet(self) -> bool:
        """Whether nobody looks."""
        ...

    @property
    def tensorboard(self) -> bool:
        """Whether event files are wanted."""
        ...

    @property
    def wandb(self) -> bool:
        """Whether Weights & Biases is told."""
        ...


@runtime_checkable
class UsesMachine(Protocol):
    """What of the machine is used: fields of whatever trains, named and explained as Hardware's."""

    @property
    def workers(self) -> int:
        """Processes that step environments."""
        ...

    @property
    def overlap(self) -> bool:
        """Whether environments step while the device computes."""
        ...

    @property
    def seed_devices(self) -> int:
        """Devices that share the seeds out."""
        ...

    @property
    def batch_devices(self) -> int:
        """Devices that share every batch out."""
        ...

    @property
    def host_rows(self) -> bool:
        """Whether the offline rows stay in the host's memory."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What ``flowpolicy train`` takes beside the fields of the run."""

    seeds: tuple[int, ...] = ()
    """How many agents, with seeds 0 to N - 1 and a ring and an environment each, side by side; or,
    of several numbers, which seeds."""
    seed: int = 0
    """The seed of one agent alone."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """The run's folder; a new one under runs/ if not given."""
    data: Annotated[str, tyro.conf.arg(metavar="PATH")] = ""
    """Rows of yours in the place of the task's: an npz, a RoboMimic HDF5, a LeRobotDataset. Without
    an environment only the offline phases are left; --task 'own_data(path=...)' says more."""
    actions: Annotated[str, tyro.conf.arg(metavar="PART")] = "as_recorded"
    """How the actions of --data become [-1, 1]: as_recorded, action_min_max,
    'action_mean_std(deviations=3)'."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Without jit and scan, so that breakpoints work; slow."""
    workers: int = 0
    """Processes that step environments; 0: none but this one."""
    overlap: bool = True
    """Step environments while the device computes; --no-overlap waits for it, with the same result
    and shares of time that say what each part takes alone."""
    seed_devices: int = 1
    """Devices that share the seeds out."""
    batch_devices: int = 1
    """Devices that share every batch out."""
    host_rows: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the offline rows in the host's memory."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """No progress."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write TensorBoard event files (extra: tensorboard)."""
    wandb: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also log to Weights & Biases, offline unless WANDB_MODE is set (extra: wandb)."""


def train(arguments: list[str]) -> int:
    """Trains a named run and prints its curve."""
    if not arguments or arguments[0].startswith("-"):
        print("usage: flowpolicy train NAME [options]")
        print("NAME is one of those that flowpolicy list shows; flowpolicy train NAME --help")
        print("shows everything that can be changed about it.")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    name = arguments[0]
    named = runs.get(name)
    options, given = read_overrides(
        named.config, TrainOptions, arguments[1:], f"flowpolicy train {name}", named.summary
    )
    for field in ("task", "phases"):  # None is what the interface in Python has for "as it is"
        if given.get(field, ()) is None:
            raise InvalidConfig(f"run.{field} must be a part, got None")
    given = _on_own_data(options, given, named.config)
    out = Path(options.out) if options.out else api.free_folder(name)
    mode = api.debug() if options.debug else contextlib.nullcontext()
    with mode:
        run = api.train(
            name,
            seeds=_seeds(options),
            out=out,
            watch=_watch(options, out, name),
            hardware=chosen_hardware(options),
            **given,
        )
    _say_end(run, options)
    return 0


def _on_own_data(options: TrainOptions, given: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The overrides with the rows of ``--data`` as the task. Where the task that is given has no
    environment, offline phases alone, unless others are asked for.
    """
    scaling = read_scaling(options.actions)
    if options.data:
        if "task" in given:
            raise InvalidConfig("--data and --task both say where rows come from; give one of them")
        given = {**given, "task": OwnData(options.data, actions=scaling)}
    elif scaling != AsRecorded():
        raise InvalidConfig(
            f"--actions {options.actions} is about the rows of --data, which is not given; a task "
            "says it itself, as in --task 'own_data(path=..., actions=action_min_max())'"
        )
    task = given.get("task")
    if not isinstance(task, Task) or task.playable:
        return given
    phases = tuple(phase for phase in config.phases if isinstance(phase, Offline))
    if not phases and "phases" not in given:
        raise InvalidConfig(
            f"this run has online phases alone, and {task.name} has no environment; give --phases "
            "'offline(steps=...)', or a task with an environment, as in --task "
            "'own_data(path=..., world=...)'"
        )
    return {"phases": phases, **given}


def _say_end(run: api.Run, options: Telling) -> None:
    if not options.quiet:
        say_device(Console(stderr=True))
    print(terminal_curve(read_run(run.path).evaluations))
    print(f"the run is in {run.path}; next: flowpolicy report {run.path}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """What ``flowpolicy resume`` takes."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    allow_inexact: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on although the result will not be, to the bit, that of a run never interrupted."""
    workers: int = 0
    """Processes that step environments; 0: none but this one."""
    overlap: bool = True
    """Step environments while the device computes; --no-overlap waits for it, with the same result
    and shares of time that say what each part takes alone."""
    seed_devices: int = 1
    """Devices that share the seeds out."""
    batch_devices: int = 1
    """Devices that share every batch out."""
    host_rows: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the offline rows in the host's memory."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """No progress."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write TensorBoard event files (extra: tensorboard)."""
    wandb: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also log to Weights & Biases, offline unless WANDB_MODE is set (extra: wandb)."""


def resume(arguments: list[str]) -> int:
    """Goes on with a run, as if it had not been stopped, and prints its curve."""
    options = tyro.cli(ResumeOptions, prog="flowpolicy resume", args=arguments)
    watch = _watch(options, options.run, options.run.name)
    run = api.resume(
        options.run,
        watch=watch,
        allow_inexact=options.allow_inexact,
        hardware=chosen_hardware(options),
    )
    _say_end(run, options)
    return 0


def _seeds(options: TrainOptions) -> int | tuple[int, ...]:
    if options.seeds and options.seed:
        raise InvalidConfig("--seeds and --seed both say which agents; give one of them")
    if not options.seeds:
        return (options.seed,)
    return options.seeds[0] if len(options.seeds) == 1 else options.seeds


def chosen_hardware(options: UsesMachine) -> Hardware:
    """Processes and devices, as the options have them."""
    return Hardware(
        workers=options.workers,
        overlap=options.overlap,
        seed_devices=options.seed_devices,
        batch_devices=options.batch_devices,
        host_rows=options.host_rows,
    )


def _watch(options: Telling, out: Path, name: str) -> Watch:
    watches: list[Watch] = [] if options.quiet else [ConsoleWatch()]
    if options.tensorboard:
        watches.append(sinks.tensorboard(out))
    if options.wandb:
        watches.append(sinks.wandb(out, name))
    return sinks.Several(*watches) if watches else Silent()


def say_device(console: Console) -> None:
    """On an accelerator: which, and how much of its memory is in use."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        used, limit = stats.get("bytes_in_use", 0), stats.get("bytes_limit", 0)
        console.print(
            f"on {device.device_kind}: {used / 2**20:,.0f} MiB in use of {limit / 2**20:,.0f}; "
            "memory is taken as needed and the rest left to others"
        )
