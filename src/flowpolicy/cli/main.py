"""``flowpolicy``: train, evaluate and report from a terminal."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flowpolicy.errors import Diverged, FlowPolicyError, StorageFailed, unknown_name
from flowpolicy.train.stop import Stopped

COMMANDS = {
    "demo": "collect data, train FMQ offline, adapt it online, write a report",
    "train": "train a named run, with overrides",
    "resume": "go on with a run that was stopped or killed, to the same end",
    "list": "the named runs, and the parts that options are made of",
    "evaluate": "play episodes with a run's policy, with any refiner",
    "diagnose": "the closed form, the map and the critic of a run, put to the test",
    "sweep-refiner": "refiners side by side from one checkpoint: cost, latency, success",
    "distil": "make a flow map of a run's flow, which FMQ then adapts",
    "package": "write a run's policy as a folder that runs without JAX",
    "upload": "put a package on the Hugging Face hub",
    "download": "get a package from the Hugging Face hub",
    "report": "write a run's report.html, or a page that compares several runs",
    "data": "collect, describe and check data files",
    "bench": "measure this machine: updates, actions, environments, the loop",
    "profile": "where the time of a run's updates goes: a trace and a page",
}


DEFAULTS = {
    # Other processes on the accelerator keep what this one does not need.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # A second start finds what the first one compiled.
    "JAX_COMPILATION_CACHE_DIR": str(Path.home() / ".flowpolicy" / "compiled"),
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),
    # JAX keeps what took a second; a run has sixty programs that took less.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
"""Of the environment, where it does not say otherwise; JAX reads it when it is imported."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    0 done; 2 bad input, said in one line; 3 diverged; 74 the disk refused; 75 stopped by SIGTERM
    and 130 by Ctrl-C, with a checkpoint written.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter it lacks must not end hours of work
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(stderr=True)
    if not arguments or arguments[0] in ("-h", "--help"):
        _usage()
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        if name == "--version":
            return _version()
        return _command(name)(rest)
    except Stopped as error:
        console.print(escape(str(error)))
        return error.exit_code
    except Diverged as error:
        console.print(f"[bold red]diverged[/]: {escape(str(error))}")
        return 3
    except StorageFailed as error:
        console.print(f"[bold red]stopped[/]: {escape(str(error))}; what was there before stays")
        return 74
    except FlowPolicyError as error:
        console.print(f"[bold red]error[/]: {escape(str(error))}")
        return 2
    except BrokenPipeError:  # who reads the output has enough: nothing of ours is wrong
        raise
    except OSError as error:
        console.print(f"[bold red]error[/]: {escape(_refused(error))}")
        return 2
    except KeyboardInterrupt:
        return 130


def _refused(error: OSError) -> str:
    """What the operating system refused, and of which file, where it says so."""
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _usage() -> None:
    print("usage: flowpolicy COMMAND ...\n\ncommands (each has --help):")
    for name, text in COMMANDS.items():
        print(f"  {name:15}{text}")


def _version() -> int:
    from flowpolicy import __version__

    print(__version__)
    return 0


def _command(name: str) -> Callable[[list[str]], int]:
    """Imported late, so that an unknown name is answered before tyro is loaded."""
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    from flowpolicy.cli import artefacts, commands, data, demo, distil, speed, studies, training

    return {
        "demo": demo.demo,
        "train": training.train,
        "resume": training.resume,
        "list": commands.list_runs,
        "evaluate": commands.evaluate,
        "diagnose": studies.diagnose,
        "sweep-refiner": studies.sweep_refiner,
        "distil": distil.distil,
        "package": artefacts.package,
        "upload": artefacts.upload,
        "download": artefacts.download,
        "report": commands.report,
        "data": data.data,
        "bench": speed.bench,
        "profile": speed.profile,
    }[name]
