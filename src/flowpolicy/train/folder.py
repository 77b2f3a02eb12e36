"""What a run leaves behind, and how it is read back: a folder is enough to evaluate and report."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from flowpolicy import parts
from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidConfig, MissingData
from flowpolicy.readers import (
    Limits,
    parse_object,
    read_bytes,
    read_object,
    read_records,
    read_rows,
)
from flowpolicy.train import checkpoint, durable
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import RunConfig
from flowpolicy.types import Spec

COLUMNS = (
    "seed", "phase", "step", "refiner", "episodes", "success", "return", "length", "seconds",
)  # fmt: skip
SCORED = (*COLUMNS, "score")
"""The columns where the task has a normalised score."""
LOGS = ("evaluations.csv", "metrics.jsonl")
"""What a run tells as it goes on; a checkpoint says how much of it is from before."""
ROLLBACKS = "rollbacks.jsonl"
"""One line per time that a run went back: what made it, and how far it was. Never cut."""
REMAINS = ("checkpoints", "best", "replay", *LOGS, "status.json", ROLLBACKS)
"""What a run leaves beside ``config.json``, and another one in the folder would take for its own:
of all checkpoints the highest numbers stay."""
OWN = "own"
"""The refiner column of evaluations in which the agent acts its own way."""


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """One line of ``evaluations.csv``: one seed at one step, over a number of episodes.

    score: the normalised score of the mean return, where the task has reference returns
    """

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: int
    success: float
    returns: float
    length: float
    seconds: float
    score: float | None = None

    def cells(self) -> tuple[Any, ...]:
        """The values in the order of ``SCORED``."""
        return dataclasses.astuple(self)


@dataclasses.dataclass(frozen=True)
class CostRow:
    """One line of ``costs.csv``: what a chunk costs with one way of acting, newest checkpoint.

    nfe:            evaluations of the flow
    ms_p50, ms_p99: milliseconds from one observation to its chunk, percentiles over ``calls``
    device:         what it was measured on; whatever else the machine did is in the times
    """

    refiner: str
    nfe: int
    ms_p50: float
    ms_p99: float
    calls: int
    device: str


@dataclasses.dataclass(frozen=True)
class Trained:
    """The state a checkpoint holds: agents with their optimisers, and the normaliser.

    Leaves of ``agents`` carry the seed axis.
    """

    agents: Agent
    normaliser: Normaliser


jax.tree_util.register_dataclass(Trained, ["agents", "normaliser"], [])


class GrowingSum:
    """Length and SHA-256 of a file that grows; a checkpoint waits for what is new in it alone."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._bytes, self._digest = 0, hashlib.sha256()

    def of(self, path: Path) -> dict[str, Any]:
        """Those of the file as it is now."""
        with open(path, "rb") as file:
            file.seek(self._bytes)
            new = file.read()
        self._bytes += len(new)
        self._digest.update(new)
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: str | Path) -> None:
        """Names the folder; nothing is read or written yet."""
        self.path = Path(path)
        self._sums = {name: GrowingSum() for name in LOGS}

    def create(self, config: RunConfig, spec: Spec, record: dict[str, Any]) -> None:
        """Writes ``config.json``. A folder that holds a run, or what one left, is refused."""
        if (self.path / "config.json").exists():
            raise InvalidConfig(
                f"{self.path} already holds a run; choose another folder or remove this one"
            )
        if found := [name for name in REMAINS if (self.path / name).exists()]:
            raise InvalidConfig(
                f"{self.path} holds what another run left ({', '.join(found)}), which would be "
                "taken for this one's; remove the folder or give another one (--out)"
            )
        record = {
            "format": checkpoint.FORMAT,
            "config": parts.encode(config),
            "spec": parts.encode(spec),
            **record,
        }
        _write_sealed(self.path / "config.json", record)

    def record(self) -> dict[str, Any]:
        """Everything in ``config.json``; ``CorruptFile`` where it is not what was written."""
        if not self.path.is_dir():
            raise MissingData(f"there is no run folder {self.path}")
        record = read_object(self.path / "config.json")
        if not {"config", "spec"} <= set(record):
            raise CorruptFile(f"{self.path / 'config.json'} is not a run's configuration")
        if record.get("format") != 1 and record.get("sha256") != _sum(record):
            raise CorruptFile(
                f"{self.path / 'config.json'} was changed after it was written (SHA-256 differs); "
                "a run with other settings is another run"
            )
        return record

    def config(self) -> RunConfig:
        """The run's configuration; parts of your own must be registered first."""
        return self._part("config", RunConfig)

    def spec(self) -> Spec:
        """What the agent was told of its problem."""
        return self._part("spec", Spec)

    def _part(self, key: str, kind: type) -> Any:
        value = parts.decode(self.record()[key])
        if not isinstance(value, kind):
            raise CorruptFile(f"{self.path / 'config.json'}: {key!r} is not a {kind.__name__}")
        return value

    def append_metrics(self, lines: Iterable[dict[str, Any]]) -> None:
        """Adds lines to ``metrics.jsonl``."""
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        self._append("metrics.jsonl", text)

    def append_evaluation(self, row: EvaluationRow) -> None:
        """Adds a line to ``evaluations.csv``, which starts with the names of its columns."""
        path = self.path / "evaluations.csv"
        scored = row.score is not None
        if scored and (told := _whole(path)):  # one from before there were scores goes on as it is
            scored = told.startswith(",".join(SCORED).encode())
        columns = SCORED if scored else COLUMNS
        self._append_row("evaluations.csv", columns, row.cells()[: len(columns)])

    def append_cost(self, row: CostRow) -> None:
        """Adds a line to ``costs.csv``; of several for one refiner the last one counts."""
        names = tuple(field.name for field in dataclasses.fields(CostRow))
        self._append_row("costs.csv", names, dataclasses.astuple(row))

    def _append_row(self, name: str, columns: tuple[str, ...], cells: tuple[Any, ...]) -> None:
        """Adds a line; one before it that a kill cut off makes room, or both would be lost."""
        path = self.path / name
        data = _log(path) if path.exists() else b""
        told = data[: data.rfind(b"\n") + 1]
        if told != data:  # else another process may add lines meanwhile, and none is lost
            durable.cut(path, len(told))
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not told:
            writer.writerow(columns)
        writer.writerow(cells)
        self._append(name, buffer.getvalue())

    def _append(self, name: str, text: str) -> None:
        path = self.path / name
        handle = durable.open_end(path)
        try:
            durable.write_all(handle, text.encode(), path)
        finally:
            os.close(handle)

    def logs(self) -> dict[str, dict[str, Any]]:
        """Length and SHA-256 of every log that there is."""
        found = {}
        for name in LOGS:
            if (self.path / name).exists():
                found[name] = self._sums[name].of(self.path / name)
        return found

    def check_logs(self, logs: dict[str, dict[str, Any]]) -> None:
        """``CorruptFile`` where the logs do not begin as ``logs`` says they did."""
        for name, said in logs.items():
            path = self.path / name
            data = _log(path)[: said["bytes"]] if path.is_file() else b""
            if hashlib.sha256(data).hexdigest() != said["sha256"]:
                raise CorruptFile(f"{path}: lines were changed or are missing")

    def cut_logs(self, logs: dict[str, dict[str, Any]]) -> None:
        """Makes the logs as long as ``logs`` says they were."""
        for name in LOGS:
            self._sums[name] = GrowingSum()
            if name in logs:
                durable.cut(self.path / name, logs[name]["bytes"])
            else:
                durable.remove(self.path / name)

    def tidy(self) -> None:
        """Removes what a kill left half written or half removed."""
        for folder in (self.path, self.checkpoints, self.best):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.name.startswith(".") and path.name.endswith((".tmp", ".old")):
                    durable.remove(path)

    def journal(self, seed: int) -> Path:
        """Where the online rows of a seed are."""
        return self.path / "replay" / f"seed-{seed}"

    def status(self) -> dict[str, Any]:
        """How the run ended; empty as long as it did not."""
        return _without_sum(self._status())

    def _status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        return read_object(path) if path.exists() else {}

    def finished(self) -> bool:
        """Whether the run came to its end; a status that was changed does not count."""
        status = self._status()
        return status.get("state") == "finished" and status.get("sha256") == _sum(status)

    def write_status(self, status: dict[str, Any]) -> None:
        """Says how the run ended."""
        _write_sealed(self.path / "status.json", status)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [line for _, line in read_records(path)[0]]

    def evaluations(self) -> list[EvaluationRow]:
        """All lines of ``evaluations.csv``."""
        path = self.path / "evaluations.csv"
        begun = _log(path) if path.exists() else b""
        if ",".join(SCORED).encode().startswith(begun):  # not even the names of the columns yet
            return []
        return [row for _, row in read_rows(path, EvaluationRow, SCORED, optional=1)[0]]

    @property
    def checkpoints(self) -> Path:
        """Where states are that a run can be gone on with."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Where the state is whose evaluation within the run was the best."""
        return self.path / "best"

    def load(self, *, best: bool = False) -> tuple[Trained, dict[str, Any]]:
        """What the newest valid checkpoint trained, or the best one, and its meta data.

        One that was altered is passed over with a warning that says why. Raises ``MissingData``
        where there is none, ``CorruptFile`` where every one was altered.
        """
        self.record()  # says so where this is no run at all
        folder = self.best if best else self.checkpoints
        if best and not checkpoint.checkpoints(folder):
            raise MissingData(
                f"{self.path} kept no best state: a run keeps one where keep_best is true and it "
                "evaluates (evaluation.every, final_episodes); without best the newest is taken"
            )
        found, refused = checkpoint.newest(folder, lambda _, c: (self.trained(c), c.meta))
        for _, reason in refused:
            warnings.warn(f"checkpoint passed over: {reason}", stacklevel=2)
        return found

    def trained(self, contents: checkpoint.Contents) -> Trained:
        """The state in a checkpoint's arrays; ``CorruptFile`` where it is not of this run."""
        skeleton = self._skeleton(contents.meta["online"])
        if not any("normaliser" in name for name in contents.state):
            skeleton = dataclasses.replace(skeleton, normaliser=Normaliser(None, None))
        return checkpoint.from_arrays(skeleton, contents.state, str(self.path))

    def _skeleton(self, online: bool) -> Trained:
        config, spec = self.config(), self.spec()
        try:
            return jax.eval_shape(lambda: blank(config.agent, spec, len(config.seeds), online))
        except FlowPolicyError:
            raise
        except Exception as error:  # parts that are sound one by one need not make an agent
            raise CorruptFile(
                f"{self.path / 'config.json'}: no agent can be made of this configuration: "
                f"{type(error).__name__}: {error}"
            ) from error


def _write_sealed(path: Path, record: dict[str, Any]) -> None:
    """Writes JSON that carries the SHA-256 of what it says."""
    as_read = parse_object(checkpoint.to_json(record), str(path))
    durable.write(path, checkpoint.to_json({**as_read, "sha256": _sum(as_read)}))


def _sum(record: dict[str, Any]) -> str:
    """SHA-256 of what a record says; of its own sum it says nothing."""
    return hashlib.sha256(checkpoint.to_json(_without_sum(record))).hexdigest()


def _without_sum(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "sha256"}


def _log(path: Path) -> bytes:
    return read_bytes(path, Limits().table_bytes)


def _whole(path: Path) -> bytes:
    """A log without a last line that was cut off; empty where there is no whole line."""
    data = _log(path) if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def blank(config: AgentConfig, spec: Spec, seeds: int, online: bool) -> Trained:
    """A state of the right shapes with meaningless values."""
    keys = jax.random.split(jax.random.key(0), seeds)

    def one(key: jax.Array) -> Agent:
        agent = config.init(key, spec)
        return agent.begin_online(key) if online else agent

    shape = spec.obs
    like = {k: jax.numpy.zeros(v) for k, v in shape.items()} if isinstance(shape, dict) else (
        jax.numpy.zeros(shape)
    )  # fmt: skip
    return Trained(jax.vmap(one)(keys), Normaliser(like, like))


def is_run(path: Path) -> bool:
    """Whether ``path`` holds a run."""
    try:
        RunFolder(path).record()
    except FlowPolicyError:
        return False
    return True
