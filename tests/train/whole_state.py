"""Everything that a run is, as one hash: to say that two runs are the same one."""

import csv
import hashlib
import json

import numpy as np

from flowpolicy.train import checkpoint

CLOCKS = ("seconds", "clock", "platform")  # what a clock or the machine said


def fingerprint_of(run):
    """SHA-256 over parameters, optimiser, keys' counters, replay, episodes, and logs of a run."""
    digest = hashlib.sha256()
    for line in parts_of(run):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def parts_of(run):
    """The same as lines, to see where two runs differ."""
    newest = checkpoint.checkpoints(run.path / "checkpoints")[-1]
    found = checkpoint.read(newest)
    yield f"newest {newest.name}"
    for which, arrays in (("state", found.state), ("loop", found.loop)):
        for name in sorted(arrays):
            yield f"{which} {name} {_hash(arrays[name])}"
    told = {k: v for k, v in found.meta.items() if k not in (*CLOCKS, "logs")}
    yield json.dumps(told, sort_keys=True)
    for path in sorted((run.path / "replay").glob("*/*")):
        yield f"{path.relative_to(run.path)} {_hash(np.frombuffer(path.read_bytes(), np.uint8))}"
    for path in checkpoint.checkpoints(run.path / "best"):
        best = checkpoint.read(path)
        yield f"best {path.name} {best.meta['success']}"
        for name in sorted(best.state):
            yield f"best {name} {_hash(best.state[name])}"
    for line in run.metrics():
        yield json.dumps({k: v for k, v in line.items() if not k.startswith(("seconds", "time/"))})
    with open(run.path / "evaluations.csv", newline="") as file:
        for row in csv.DictReader(file):
            yield json.dumps({k: v for k, v in row.items() if k != "seconds"})
    yield json.dumps(run.status(), sort_keys=True)


def _hash(array):
    return hashlib.sha256(
        f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()
