"""The readers, each with a sound file, and what must hold where a damaged one is not refused.

npz, data check    the values are those of the sound file: every member carries a CRC
HDF5, Parquet      shapes and dtypes are sound, values carry no sum; each case is a process, so that
                   one in thirty of the others' is tried (RoboMimic's, Minari's, LeRobot's files)
Minari's header    counts and shapes are above 0, the box of actions has finite bounds
checkpoint         nothing else is accepted: every byte is under a SHA-256
safetensors        names, shapes and dtypes agree with the bytes; values carry no sum of their own
JSON, CSV, lines   the values are strict: finite, of 64 bits, text; a changed digit is not seen
"""

import dataclasses
import importlib.util
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))

import mutate
import numpy as np
import safetensors.numpy

from data import own_files
from flowpolicy import parts, runs
from flowpolicy.api import compare
from flowpolicy.data.check import check
from flowpolicy.data.columns import open_columns
from flowpolicy.data.foreign import read_foreign
from flowpolicy.data.minari_header import Header, header
from flowpolicy.data.npz import read_npz, write_npz
from flowpolicy.data.own import recording
from flowpolicy.data.record import read_record
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidData, MissingData
from flowpolicy.readers import Limits, read_json, read_records, read_tensors
from flowpolicy.report.costs import read_costs
from flowpolicy.report.runfiles import read_evaluations, read_metrics, read_run
from flowpolicy.train.phases import RunConfig

FILES = (CorruptFile, MissingData)

EVALUATIONS = """seed,phase,step,refiner,episodes,success,return,length,seconds
0,offline,400,own,50,0.02,-190.5,190.0,2.5
0,online,100,"qgbs(beam=4, eta=0.3)",20,0.25,-100.0,120.0,1.5
1,online,100,own,20,0.5,-1e2,120.25,0.0625
"""
COSTS = """refiner,nfe,ms_p50,ms_p99,calls,device
own,32,1.25,2.5,200,cpu
"qgbs(beam=4, eta=0.3)",96,3.5,7.25,200,"NVIDIA, H200"
"""
METRICS = """{"phase": "offline", "step": 100, "fmq/loss": 0.5, "seconds": 1.5}
{"seed": 0, "phase": "online", "env_steps": 90, "episode/success": 1, "x": null}
{"phase": "online", "step": 200, "critic/loss": 1e-30, "seconds": 2.5}
"""
RECORD = """{"format": "flowpolicy-data-1", "environment": "cube-single", "files":
 {"a.npz": {"sha256": "4c7f9462e8e7e87a844c56b211d2a73863388ecfedf33ebfb34421baf933c22b",
  "rows": 2002, "episodes": 2}}, "versions": {"numpy": "2.4.6"}}
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader to be attacked.

    write:   makes a folder with the sound file ``victim``, and whatever must lie beside it
    read:    reads the folder
    sound:   (what was read, what is read of the sound folder, the folder): whether what a damaged
             file gave is no lie
    allowed: the documented exceptions
    every:   one case in so many is tried, where each takes a process of its own
    damage:  (random numbers, the sound file's bytes) to a damaged one's
    """

    victim: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    sound: Callable[[Any, Any, Path], bool]
    allowed: tuple[type[Exception], ...] = FILES
    damage: Callable[[Random, bytes], bytes] = mutate.mutated
    every: int = 1


def strict(value: Any) -> bool:
    """Whether a value is one that strict JSON can hold, whole numbers of 64 bits included."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and strict(k) and strict(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(strict, value))
    if isinstance(value, str):
        return value == value.encode("utf-8").decode("utf-8")
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -(2**63) <= value < 2**64)


def _strict(value: Any, original: Any, folder: Path) -> bool:
    del original, folder
    return strict(value)


def _anything(value: Any, original: Any, folder: Path) -> bool:
    del value, original, folder
    return True


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8") and None


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(40, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (40, 2)).astype(np.float32),
        "terminals": np.arange(40) % 20 == 19,
        "number": np.array(7, np.int64),
    }


def _same_arrays(found: dict[str, np.ndarray], original: dict[str, np.ndarray], _: Path) -> bool:
    return list(found) == list(original) and all(
        (found[n].dtype, found[n].shape, found[n].tobytes()) == (a.dtype, a.shape, a.tobytes())
        for n, a in original.items()
    )


def _fills_the_file(found: dict[str, np.ndarray], _: Any, folder: Path) -> bool:
    content = (folder / "a.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    values = sorted(array.tobytes() for array in found.values())
    return sum(map(len, values)) == len(content) - 8 - header and all(
        value in content[8 + header :] for value in values
    )


def _packed(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", **_arrays())


def _stored(folder: Path) -> None:
    write_npz(folder / "a.npz", _arrays())


def _tensors(folder: Path) -> None:
    content = safetensors.numpy.save(_arrays(), metadata={"format": "np"})
    (folder / "a.safetensors").write_bytes(content)


def _check(folder: Path) -> Any:
    found = check(folder / "a.npz")
    return found.sound


def _no_lie(found: bool, original: bool, folder: Path) -> bool:
    return not found or _same_arrays(read_npz(folder / "a.npz"), _arrays(), folder)


def _config() -> Any:
    return parts.encode(runs.get("mini/fmq/cube-single-task1").config)


def _damaged_tree(rng: Random, content: bytes) -> bytes:
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = mutate.mutated_tree(rng, tree)
    return json.dumps(tree).encode()


def _decoded(folder: Path) -> Any:
    return parts.decode(read_json(folder / "config.json"))


def _as_before(value: Any, *_: Any) -> bool:
    """What was read can be written: a configuration that no run could record is not accepted."""
    if isinstance(value, RunConfig):
        parts.encode(value)
    return True


def _run(folder: Path) -> None:
    record = {"format": 1, "config": _config(), "spec": {}, "versions": {"jax": "1"}, "run": "a"}
    _text("config.json", json.dumps(record))(folder)
    _text("evaluations.csv", EVALUATIONS)(folder)
    _text("metrics.jsonl", METRICS)(folder)
    _text("costs.csv", COSTS)(folder)
    _text("summary.json", '{"seconds": 12.5}')(folder)


def _read_run(folder: Path) -> Any:
    run = read_run(folder)
    return run.config, run.evaluations, run.metrics, run.summary, run.seconds, read_costs(folder)


def _compared(folder: Path) -> Any:
    found = compare(folder)
    return str(found), found.missing()


def _run_target(victim: str) -> Target:
    return Target(victim, _run, _read_run, lambda v, *_: strict([*v[:4], v[4]]))


def _own(write: Callable[[Path], Any], name: str) -> Target:
    """A file of another library's, unpacked in a process of its own."""

    def read(folder: Path) -> Any:
        source = folder / name.split("/")[0]
        with tempfile.TemporaryDirectory() as beside:
            limits = Limits(reader_seconds=1, reader_bytes=2**28)
            with recording(source, beside=Path(beside) / "x", limits=limits) as found:
                return [(a.dtype, a.shape) for a in (found.action, found.reward, found.ended)]

    def put(folder: Path) -> None:
        path = folder / name.split("/")[0]
        shutil.rmtree(path, ignore_errors=True)
        write(path)

    return Target(name, put, read, _anything, (CorruptFile, MissingData, InvalidData), every=30)


def _minari_set(folder: Path) -> None:
    shutil.rmtree(folder / "set", ignore_errors=True)
    own_files.write_minari(folder / "set")


def _minari_rows(folder: Path) -> Any:
    """The rows alone; the header beside them is sound."""
    options = {"episodes": len(own_files.LENGTHS), "steps": own_files.ROWS, "keys": []}
    with tempfile.TemporaryDirectory() as beside:
        out = Path(beside) / "x"
        limits = Limits(reader_seconds=1, reader_bytes=2**28)
        read_foreign("minari", folder / "set" / "data" / "main_data.hdf5", out, options, limits)
        return sorted((k, v.dtype.str, v.shape) for k, v in open_columns(out, limits)[0].items())


def _minari_header(folder: Path) -> Header:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    return header("set")


def _possible(value: Header, *_: Any) -> bool:
    sizes = [value.episodes, value.steps, *(n for s in value.observations.values() for n in s)]
    return min(sizes) > 0 and bool(np.isfinite([value.actions.low, value.actions.high]).all())


FOREIGN: dict[str, Target] = {}
if importlib.util.find_spec("h5py") is not None:
    FOREIGN["hdf5"] = _own(own_files.write_hdf5, "a.hdf5")
    FOREIGN["minari"] = Target(
        "set/data/main_data.hdf5", _minari_set, _minari_rows, lambda v, was, _: v == was,
        (CorruptFile, MissingData, InvalidData), every=30,
    )  # fmt: skip
    FOREIGN["minari's header"] = Target(
        "set/data/metadata.json", _minari_set, _minari_header, _possible,
        (CorruptFile, MissingData, InvalidData),
    )  # fmt: skip
if importlib.util.find_spec("pyarrow") is not None:
    FOREIGN["parquet"] = _own(own_files.write_lerobot, "set/data/chunk-000/file-000.parquet")
    FOREIGN["parquet's episodes"] = _own(
        own_files.write_lerobot, "set/meta/episodes/chunk-000/file-000.parquet"
    )

TARGETS: dict[str, Target] = {
    **FOREIGN,
    "json": Target(
        "config.json",
        lambda folder: _text("config.json", json.dumps(_config(), indent=1))(folder),
        lambda folder: read_json(folder / "config.json"),
        _strict,
    ),
    "configuration": Target(
        "config.json",
        lambda folder: _text("config.json", json.dumps(_config()))(folder),
        _decoded,
        _as_before,
        (FlowPolicyError,),
        _damaged_tree,
    ),
    "safetensors": Target(
        "a.safetensors",
        _tensors,
        lambda folder: read_tensors(folder / "a.safetensors"),
        _fills_the_file,
    ),
    "npz": Target("a.npz", _stored, lambda folder: read_npz(folder / "a.npz"), _same_arrays),
    "npz packed": Target("a.npz", _packed, lambda folder: read_npz(folder / "a.npz"), _same_arrays),
    "data check": Target("a.npz", _stored, _check, _no_lie),
    "data record": Target(
        "a.json",
        _text("a.json", RECORD),
        lambda folder: read_record(folder / "a.npz"),
        _strict,
    ),
    "evaluations": Target(
        "evaluations.csv",
        _text("evaluations.csv", EVALUATIONS),
        lambda folder: read_evaluations(folder / "evaluations.csv"),
        _strict,
    ),
    "metrics": Target(
        "metrics.jsonl",
        _text("metrics.jsonl", METRICS),
        lambda folder: read_metrics(folder / "metrics.jsonl"),
        _strict,
    ),
    "records": Target(
        "metrics.jsonl",
        _text("metrics.jsonl", METRICS),
        lambda folder: read_records(folder / "metrics.jsonl"),
        _strict,
    ),
    "costs": Target("costs.csv", _text("costs.csv", COSTS), read_costs, _anything),
    "run folder": _run_target("config.json"),
    "run's summary": _run_target("summary.json"),
    "comparison": Target(
        "config.json", _run, _compared, _anything, (FlowPolicyError,), _damaged_tree
    ),
    "part's text": Target(
        "part.txt",
        _text("part.txt", parts.describe(runs.get("mini/fmq/cube-single-task1").config)),
        lambda folder: parts.parse((folder / "part.txt").read_bytes().decode("latin1")),
        _anything,
        (FlowPolicyError,),
    ),
}
