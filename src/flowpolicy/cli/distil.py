"""``flowpolicy distil RUN NAME``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from flowpolicy import existing, parts, runs
from flowpolicy.agents import FMQ
from flowpolicy.agents.distilled import lagrangian_distillation
from flowpolicy.cli.options import PartText, option_fields, registry
from flowpolicy.cli.training import chosen_hardware
from flowpolicy.errors import InvalidConfig
from flowpolicy.report import read_run, terminal_curve
from flowpolicy.train.console import ConsoleWatch
from flowpolicy.train.phases import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilOptions:
    """What ``flowpolicy distil`` takes beside the fields of FMQ."""

    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """The new run's folder; a new one under runs/ if not given."""
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


def distil(arguments: list[str]) -> int:
    """Distils a run's flow into a flow map, adapts it as the named run of FMQ, prints the curve."""
    if len(arguments) < 2 or any(word.startswith("-") for word in arguments[:2]):
        print("usage: flowpolicy distil RUN NAME [options]")
        print("RUN is the folder of a run of qc, fql, ifql, gfp, qam, mvp or decision_flow, or of")
        print("fmq before its online phase;")
        print("NAME is a run of fmq that flowpolicy list shows: its settings and phases are taken.")
        print("flowpolicy distil RUN NAME --help shows everything that can be changed.")
        return 0 if set(arguments) & {"-h", "--help"} else 2
    folder, name = Path(arguments[0]), arguments[1]
    config = runs.get(name).config
    if not isinstance(config.agent, FMQ):
        raise InvalidConfig(
            f"flowpolicy distil makes FMQ of a flow, and {name} is a run of "
            f"{parts.name_of(config.agent)}; give one of fmq, such as mini/fmq/cube-single-task1"
        )
    chosen, target = _read(config, arguments[2:], f"flowpolicy distil {folder} {name}")
    run = existing.distil(
        folder,
        target,
        phases=chosen.phases.value,
        terms=chosen.distillation.value,
        out=chosen.out or None,
        watch=None if chosen.quiet else ConsoleWatch(),
        hardware=chosen_hardware(chosen),
    )
    print(terminal_curve(read_run(run.path).evaluations))
    print(f"the run is in {run.path}; next: flowpolicy report {run.path}")
    return 0


def _read(config: RunConfig, arguments: list[str], program: str) -> tuple[Any, FMQ]:
    """The command's own options, and FMQ with those of its fields that were given."""
    of_agent = option_fields(config.agent, ())
    own = [
        _part(
            "phases", config.phases, "Offline the map learns the run's flow, online FMQ adapts it."
        ),
        _part("distillation", lagrangian_distillation(), "Summands of the distillation loss."),
    ]
    kind = dataclasses.make_dataclass(
        "Options", [*own, *of_agent], bases=(DistilOptions,), frozen=True, kw_only=True
    )
    with registry:
        chosen = tyro.cli(kind, args=arguments, prog=program, description=distil.__doc__)
    values = {name: getattr(chosen, name) for name, *_ in of_agent}
    fields = {k: v.value if isinstance(v, PartText) else v for k, v in values.items()}
    return chosen, parts.replace(config.agent, **fields)


def _part(name: str, value: Any, text: str) -> Any:
    kind = Annotated[PartText, tyro.conf.arg(help=text)]
    return name, kind, dataclasses.field(default=PartText(value))
