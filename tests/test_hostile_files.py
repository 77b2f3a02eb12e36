"""Files that would run code if anybody unpickled them: no public entry point does."""

import contextlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.agents.distilled import lagrangian_distillation
from flowpolicy.cli import main
from flowpolicy.data.npz import read_npz
from flowpolicy.errors import FlowPolicyError
from flowpolicy.nets import MLPCritic, MLPFlow, MLPVelocity, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.runs import PointMassTask
from flowpolicy.train.phases import Evaluation

RANKED = {"chunk": 2, "act": BestOfN(2), "bootstrap": BestOfN(2)}
QC = fp.QC(
    **RANKED, steps=2, actor=MLPVelocity(width=8, depth=1), critic=MLPCritic(width=8, depth=1)
)
FMQ = fp.FMQ(
    **RANKED,
    actor=MLPFlow(width=8, depth=1, embed=Plain()),
    critic=MLPCritic(width=8, depth=1),
)
TABLES = {
    "evaluations.csv": "seed,phase,step,refiner,episodes,success,return,length,seconds\n"
    "3,offline,10,own,4,0.5,-2.0,3.0,0.1\n",
    "costs.csv": "refiner,nfe,ms_p50,ms_p99,calls,device\nown,4,1.0,2.0,200,cpu\n",
    "summary.json": '{"seconds": 1.5}',
}


class Touch:
    """Whoever unpickles it makes the file ``marker``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What must not exist when the test is over; that unpickling would make it is tried."""
    trial = tmp_path / "trial"
    pickle.loads(pickle.dumps(Touch(trial)))
    assert trial.exists()
    return tmp_path / "marker"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten updates, with every table that reports read."""
    out = tmp_path_factory.mktemp("runs") / "qc"
    config = fp.RunConfig(
        agent=QC,
        task=PointMassTask(rows=100),
        phases=(fp.Offline(10),),
        seeds=(3,),
        batch=8,
        block=10,
        evaluation=Evaluation(every=0, final_episodes=0),
    )
    fp.train(config, out=out)
    for name, text in TABLES.items():
        (out / name).write_text(text)
    return out


def _payloads(marker: Path) -> dict[str, bytes]:
    """The pickle as it is, in every protocol's clothes."""
    danger = np.array([Touch(marker), None], dtype=object)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, danger)
    np.savez(npz, observations=danger, actions=danger, terminals=danger)
    text = pickle.dumps(Touch(marker), protocol=0)
    header = json.dumps({"__metadata__": {"pickle": text.decode("latin1")}}).encode()
    return {
        "a pickle": pickle.dumps(Touch(marker)),
        "a pickle in text": text,
        "an object array": npy.getvalue(),
        "an npz of objects": npz.getvalue(),
        "a pickle behind a header": len(header).to_bytes(8, "little") + header + text,
        "JSON that asks for it": json.dumps(
            {
                "part": f"__import__('pathlib').Path({str(marker)!r}).touch()",
                "py/reduce": [{"py/function": "pathlib.Path.touch"}, [str(marker)]],
                "__reduce__": text.decode("latin1"),
            }
        ).encode(),
    }


PAYLOADS = tuple(_payloads(Path("never")))


def _calls(run: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Everything that reads a run folder."""
    distil = {"phases": (fp.Offline(1),), "terms": lagrangian_distillation(), "out": out / "d"}
    return {
        "Policy.load": lambda: fp.Policy.load(run),
        "evaluate": lambda: fp.evaluate(run, episodes=1),
        "distil": lambda: fp.distil(run, FMQ, **distil),
        "diagnose": lambda: fp.diagnose(run),
        "sweep_refiner": lambda: fp.sweep_refiner(run, [BestOfN(2)], episodes=1),
        "report": lambda: fp.report(run, out=out / "a.html", episodes=False),
        "compare": lambda: str(fp.compare(run)),
        "Run.metrics": lambda: fp.Run(run).metrics(),
        "Run.evaluations": lambda: fp.Run(run).evaluations(),
    }


# What must be refused by whom when it is a pickle; the others do not read it.
READERS = {
    "config.json": ("Policy.load", "evaluate", "distil", "diagnose", "sweep_refiner", "report"),
    "state.safetensors": ("Policy.load", "evaluate", "distil", "diagnose", "sweep_refiner"),
    "meta.json": ("Policy.load", "evaluate"),
    "manifest.json": ("Policy.load", "evaluate"),
    "evaluations.csv": ("report", "compare", "Run.evaluations"),
    "metrics.jsonl": ("report", "compare", "Run.metrics"),
    "summary.json": ("report", "compare"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_a_run_folder_is_never_executed(
    trained: Path, tmp_path: Path, marker: Path, name: str
):
    """Every file of a run, in every disguise: refused by whoever reads it, and not executed."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "model.pkl").write_bytes(pickle.dumps(Touch(marker)))
    victims = [path for path in run.rglob(name) if path.is_file()]
    assert victims
    for kind, payload in _payloads(marker).items():
        for path in victims:
            path.write_bytes(payload + b"\n")  # a line of a table counts once it is complete
            (path.parent / "__init__.pkl").write_bytes(payload)
        calls = _calls(run, tmp_path)
        for reader in READERS[name]:
            # Strict JSON may be no more than a summary without a time.
            harmless = kind == "JSON that asks for it"
            with (
                contextlib.suppress(FlowPolicyError) if harmless else pytest.raises(FlowPolicyError)
            ):
                calls[reader]()
        assert not marker.exists()


def test_a_pickle_for_the_tables_of_a_comparison(trained: Path, tmp_path: Path, marker: Path):
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        shutil.copytree(trained, run)
    config = json.loads((runs[1] / "config.json").read_text())
    # Of a format without a sum, or the change would be refused before the table is read.
    (runs[1] / "config.json").write_text(json.dumps({**config, "run": "another", "format": 1}))
    for payload in _payloads(marker).values():
        (runs[0] / "costs.csv").write_bytes(payload)
        with pytest.raises(FlowPolicyError, match=r"costs\.csv"):
            fp.report(*runs, out=tmp_path / "c.html", episodes=False)
        assert not marker.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_pickle_in_the_place_of_a_run(tmp_path: Path, marker: Path, payload: str):
    """A file where a folder should be, and a folder with nothing else in it."""
    for name in ("policy.pkl", "policy.pt", "policy.safetensors", "folder/config.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_payloads(marker)[payload])
        for given in (path, path.parent):
            for call in _calls(given, tmp_path).values():
                with contextlib.suppress(FlowPolicyError):
                    call()
            for command in ("evaluate", "report", "diagnose", "sweep-refiner"):
                assert main([command, str(given)]) != 0
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl", ".hdf5", ".json"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_pickle_in_the_place_of_data(tmp_path: Path, marker: Path, payload: str, suffix: str):
    """Whatever the file is called."""
    path = tmp_path / f"cube-single-play-v0{suffix}"
    path.write_bytes(_payloads(marker)[payload])
    with pytest.raises(FlowPolicyError):
        fp.OGBench("cube-single-task1", file=str(path)).dataset()
    if suffix == ".npz":
        task = f"ogbench(task='cube-single-task1', file={str(path)!r})"
        train = ["train", "mini/fmq/cube-single-task1", "--quiet", "--out", str(tmp_path / "r")]
        assert main([*train, "--task", task]) == 2
    assert main(["data", "check", str(path)]) == 2
    assert main(["data", "info", str(path)]) == 2
    assert not marker.exists()
    assert not (tmp_path / "r").exists()


def test_a_pickle_within_an_npz_and_beside_it(tmp_path: Path, marker: Path):
    """As a member, under a member's name, and as the record beside a sound file."""
    path = tmp_path / "a.npz"
    for payload in _payloads(marker).values():
        for name in ("observations.npy", "observations.pkl", "__reduce__.npy"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(name, payload)
            with pytest.raises(FlowPolicyError):
                read_npz(path)
            assert main(["data", "check", str(path)]) == 2
    np.savez(
        path,
        observations=np.zeros((4, 3), np.float32),
        actions=np.zeros((4, 2), np.float32),
        terminals=np.arange(4) == 3,
    )
    for payload in _payloads(marker).values():
        path.with_suffix(".json").write_bytes(payload)
        main(["data", "check", str(path)])
        main(["data", "info", str(path)])
        with contextlib.suppress(FlowPolicyError):
            fp.OGBench("cube-single-task1", file=str(path)).dataset()
    assert not marker.exists()


def test_arrays_of_objects_are_no_data(marker: Path):
    danger = np.array([Touch(marker)] * 4, dtype=object)
    numbers = np.zeros((4, 2), np.float32)
    flags = np.arange(4) == 3
    sound = {"obs": numbers, "action": numbers, "reward": numbers[:, 0]}
    for name in sound:
        with pytest.raises(FlowPolicyError, match="plain numbers"):
            fp.Dataset.from_arrays(
                **{**sound, name: danger}, terminated=flags, truncated=np.zeros(4, bool)
            )
    assert not marker.exists()
