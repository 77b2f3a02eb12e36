"""Attacks readers in a process of its own: ``python runner.py FIRST COUNT TARGET ...``.

Each case is a function of the target and the case's number. A crash ends the process, ten cases
that take longer than two seconds do too, and memory is limited to 512 MiB more than was in use when
the attack began; 64 MiB of it may be touched. Prints a JSON line a target: cases, how many were
refused and how many read, and of the first ones that break the rules what happened.
"""

import contextlib
import faulthandler
import json
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

from targets import TARGETS, Target

SECONDS = 2.0
ADDRESS_SPACE = 512 * 2**20
TOUCHED = 64 * 2**20


def main(first: int, count: int, names: list[str]) -> None:
    """Runs the cases ``first`` to ``first + count`` of each target."""
    warnings.simplefilter("ignore")  # numpy tells of odd headers before it refuses them
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_run(name, Path(folder), range(first, first + count))), flush=True)


def _run(name: str, folder: Path, numbers: range) -> dict[str, Any]:
    target = TARGETS[name]
    target.write(folder)
    original = target.read(folder)
    content = (folder / target.victim).read_bytes()
    touched = _peak()
    counts = {"refused": 0, "read": 0}
    wrong: list[str] = []
    numbers = range(numbers.start, numbers.stop, target.every)
    for number in numbers:
        damaged = target.damage(Random(f"{name} {number}"), content)
        (folder / target.victim).unlink()  # truncating it would wait for the disk
        (folder / target.victim).write_bytes(damaged)
        if number % 10 == 0 and target.every == 1:  # other processes have limits of their own
            faulthandler.dump_traceback_later(SECONDS, exit=True)
        outcome, trouble = _attack(target, folder, original)
        counts[outcome] += 1
        if trouble:
            wrong.append(f"case {number}: {trouble}")
    faulthandler.cancel_dump_traceback_later()
    if _peak() - touched > TOUCHED:
        wrong.append(f"{_peak() - touched:,} bytes were touched")
    return {
        "target": name,
        "cases": len(numbers),
        **counts,
        "wrong": len(wrong),
        "first": wrong[:5],
    }


def _attack(target: Target, folder: Path, original: Any) -> tuple[str, str]:
    try:
        value = target.read(folder)
    except target.allowed as error:
        # Readers turn a MemoryError into their own; here it means that too much was asked for.
        greedy = "MemoryError" in str(error) or "Unable to allocate" in str(error)
        return "refused", f"memory: {error}" if greedy else ""
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"
    with contextlib.suppress(*target.allowed):
        if target.sound(value, original, folder):
            return "read", ""
    return "read", "what was read is not what was written"


def _peak() -> int:
    # Not ru_maxrss, in which a new program inherits the peak of the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    faulthandler.enable()
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
