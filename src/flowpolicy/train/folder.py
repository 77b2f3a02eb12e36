"""What a run leaves behind, and how it is read back: a folder is enough to evaluate and report."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from flowpolicy import parts
from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidConfig, MissingData
from flowpolicy.train import checkpoint
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.phases import RunConfig
from flowpolicy.types import Spec

COLUMNS = (
    "seed", "phase", "step", "refiner", "episodes", "success", "return", "length", "seconds",
)  # fmt: skip
OWN = "own"
"""The refiner column of evaluations in which the agent acts its own way."""


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """One line of ``evaluations.csv``: one seed at one step, over a number of episodes."""

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: int
    success: float
    returns: float
    length: float
    seconds: float

    def cells(self) -> tuple[Any, ...]:
        """The values in the order of ``COLUMNS``."""
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


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: str | Path) -> None:
        """Names the folder; nothing is read or written yet."""
        self.path = Path(path)

    def create(self, config: RunConfig, spec: Spec, record: dict[str, Any]) -> None:
        """Writes ``config.json``. A folder that already holds a run is refused."""
        if (self.path / "config.json").exists():
            raise InvalidConfig(
                f"{self.path} already holds a run; choose another folder or remove this one"
            )
        record = {
            "format": checkpoint.FORMAT,
            "config": parts.encode(config),
            "spec": parts.encode(spec),
            **record,
        }
        checkpoint.write_atomic(self.path / "config.json", checkpoint.to_json(record))

    def record(self) -> dict[str, Any]:
        """Everything in ``config.json``."""
        if not self.path.is_dir():
            raise MissingData(f"there is no run folder {self.path}")
        record = checkpoint.read_json(self.path / "config.json")
        if not isinstance(record, dict) or not {"config", "spec"} <= set(record):
            raise CorruptFile(f"{self.path / 'config.json'} is not a run's configuration")
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
        self._append_row("evaluations.csv", COLUMNS, row.cells())

    def append_cost(self, row: CostRow) -> None:
        """Adds a line to ``costs.csv``; of several for one refiner the last one counts."""
        names = tuple(field.name for field in dataclasses.fields(CostRow))
        self._append_row("costs.csv", names, dataclasses.astuple(row))

    def _append_row(self, name: str, columns: tuple[str, ...], cells: tuple[Any, ...]) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not (self.path / name).exists():
            writer.writerow(columns)
        writer.writerow(cells)
        self._append(name, buffer.getvalue())

    def _append(self, name: str, text: str) -> None:
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except json.JSONDecodeError as error:
            raise CorruptFile(f"{path}: {error}") from None

    def evaluations(self) -> list[EvaluationRow]:
        """All lines of ``evaluations.csv``."""
        path = self.path / "evaluations.csv"
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            return [_row(row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} has a broken line: {error}") from None

    def save(self, trained: Trained, meta: dict[str, Any], *, keep: int = 2) -> Path:
        """Writes a checkpoint named after the number of updates."""
        name = f"step-{meta['updates']:09d}"
        return checkpoint.save(self.path / "checkpoints", name, trained, meta, keep=keep)

    def load(self) -> tuple[Trained, dict[str, Any]]:
        """The newest checkpoint; one that was altered is refused and the one before it named."""
        self.record()  # says so where this is no run at all
        paths = checkpoint.checkpoints(self.path / "checkpoints")
        if not paths:
            raise MissingData(f"{self.path} has no checkpoint")
        arrays, meta = checkpoint.read(paths[-1])
        skeleton = jax.eval_shape(lambda: self._skeleton(bool(meta.get("online"))))
        if not any("normaliser" in name for name in arrays):
            skeleton = dataclasses.replace(skeleton, normaliser=Normaliser(None, None))
        return checkpoint.from_arrays(skeleton, arrays, str(paths[-1])), meta

    def _skeleton(self, online: bool) -> Trained:
        config, spec = self.config(), self.spec()
        return blank(config.agent, spec, len(config.seeds), online)


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


def _row(row: dict[str, str]) -> EvaluationRow:
    return EvaluationRow(
        seed=int(row["seed"]),
        phase=row["phase"],
        step=int(row["step"]),
        refiner=row["refiner"],
        episodes=int(row["episodes"]),
        success=float(row["success"]),
        returns=float(row["return"]),
        length=float(row["length"]),
        seconds=float(row["seconds"]),
    )


def is_run(path: Path) -> bool:
    """Whether ``path`` holds a run."""
    try:
        RunFolder(path).record()
    except FlowPolicyError:
        return False
    return True
