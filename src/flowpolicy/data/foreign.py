"""HDF5 and Parquet, read in a process of their own.

The libraries that unpack them can crash, hang, or ask for all memory when a file is damaged or made
to harm. So a process that may take so much memory and time, and no more, writes their rows as
columns (``data.columns``); whatever happens to it is a ``CorruptFile`` here. This module is also
the program of that process, which loads no JAX.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy import errors
from flowpolicy.data.columns import writing
from flowpolicy.errors import CorruptFile, FlowPolicyError, MissingExtra, StorageFailed
from flowpolicy.readers import Limits, parse_object

Emit = Callable[[Mapping[str, np.ndarray]], None]
Read = Callable[[Path, Mapping[str, Any], Limits, Emit], dict[str, Any]]
"""(source, options, limits, where blocks of rows go) to what else there is to say, strict JSON."""

LIBRARIES = {"robomimic": "h5py", "minari": "h5py", "lerobot": "pyarrow"}
"""By kind, which is also the extra's name, what must be installed."""


def read_foreign(
    kind: str, source: Path, out: Path, options: Mapping[str, Any], limits: Limits = Limits()
) -> None:
    """Writes the rows of ``source`` into ``out``, a folder of columns that does not exist yet.

    kind:    "robomimic", "minari" or "lerobot"
    options: what that kind's ``read`` takes, strict JSON

    Raises ``MissingExtra``, ``MissingData``, and ``CorruptFile`` or ``InvalidData`` naming file,
    field and reason. The source is only read, and after an error ``out`` is not there.
    """
    if importlib.util.find_spec(LIBRARIES[kind]) is None:
        raise MissingExtra(
            f"{LIBRARIES[kind]} is not installed, which reads {source}; install the extra: "
            f"pip install 'flowpolicy[{kind}]'"
        )
    order = json.dumps(
        {
            "kind": kind,
            "source": str(source),
            "out": str(out),
            "options": dict(options),
            "limits": dataclasses.asdict(limits),
        }
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flowpolicy.data.foreign"],
        input=order,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **_QUIET},
    )
    reply = _reply(done.stdout)
    if reply.get("error"):
        kinds: dict[str, type[Exception]] = {
            name: kind for name, kind in vars(errors).items() if isinstance(kind, type)
        }
        raise kinds[reply["error"]](reply["says"])
    if done.returncode or not reply:
        _remove_rest(out)
        ended = f"signal {-done.returncode}" if done.returncode < 0 else "without a word"
        said = done.stderr.strip().splitlines()[-1:] or [""]
        raise CorruptFile(
            f"{source} cannot be read: {LIBRARIES[kind]} ended ({ended}) while reading it, as on "
            f"damaged files, or beyond {limits.reader_seconds:,} s. {said[0][:200]}"
        )


_QUIET = {
    "HDF5_PLUGIN_PRELOAD": "::",  # no filter is loaded because a file asks for it
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def _reply(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    with contextlib.suppress(CorruptFile, IndexError):
        return parse_object(lines[-1].encode(), "the reply")
    return {}


def _remove_rest(out: Path) -> None:
    """What the process could not remove itself."""
    for path in out.parent.glob(f".{out.name}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _reader(kind: str) -> Read:
    if kind == "robomimic":
        return importlib.import_module("flowpolicy.data.robomimic").read
    if kind == "minari":
        return importlib.import_module("flowpolicy.data.minari_rows").read
    return importlib.import_module("flowpolicy.data.lerobot").read


def _restrain(limits: Limits) -> None:
    """At most so much memory beyond what is in use now, and so much processor time."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, used + limits.reader_bytes),
        (resource.RLIMIT_CPU, limits.reader_seconds),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, hard))


def main() -> int:
    """The process: an order on standard input, a reply on standard output."""
    order = parse_object(sys.stdin.read().encode(), "the order")
    source, limits = Path(order["source"]), Limits(**order["limits"])
    read = _reader(order["kind"])
    with contextlib.suppress(ImportError, OSError, ValueError):  # where the system has no limits
        _restrain(limits)
    reply: dict[str, Any] = {"error": ""}
    try:
        with writing(Path(order["out"])) as writer:
            writer.about = read(source, order["options"], limits, writer.append)
    except FlowPolicyError as error:
        named = str(error) if str(source) in str(error) else f"{source}: {error}"
        reply = {"error": type(error).__name__, "says": named}
    except MemoryError:
        says = f"{source} needs more than {limits.reader_bytes:,} bytes of memory to be read"
        reply = {"error": CorruptFile.__name__, "says": says}
    except OSError as error:
        kind = StorageFailed if error.errno in (28, 122, 30) else CorruptFile
        reply = {"error": kind.__name__, "says": f"{source} cannot be read ({error})"}
    except Exception as error:  # whatever a library raises on bytes that it did not expect
        says = f"{source} cannot be read ({type(error).__name__}: {error})"
        reply = {"error": CorruptFile.__name__, "says": says}
    sys.stdout.write(json.dumps(reply) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
