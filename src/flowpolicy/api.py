"""The Python interface: train, evaluate, report, debug."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy import parts, runs
from flowpolicy.agents.base import AgentConfig
from flowpolicy.data.dataset import Dataset
from flowpolicy.envs.fleet import Local
from flowpolicy.errors import InvalidConfig, unknown_name
from flowpolicy.refine import Cost, Refiner
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.material import Material
from flowpolicy.report.methods import gather
from flowpolicy.report.runfiles import read_run
from flowpolicy.report.show import show
from flowpolicy.report.statistics import Interval, success_interval
from flowpolicy.train import attempts
from flowpolicy.train.attempts import resume as continue_run
from flowpolicy.train.evaluate import Evaluator, own, refined, scored
from flowpolicy.train.folder import OWN, CostRow, EvaluationRow, RunFolder
from flowpolicy.train.given import as_phases, check_episodes, check_task
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.phases import Phase, RunConfig
from flowpolicy.train.policy import Policy
from flowpolicy.train.table import Episodes
from flowpolicy.train.task import RowsOnly, Task
from flowpolicy.train.watch import Watch

PACKAGES = (
    "flowpolicy", "jax", "jaxlib", "numpy", "optax", "ogbench", "mujoco", "gymnasium", "minari",
)  # fmt: skip
"""Those whose versions a run writes down."""

Run = RunFolder
AnyRun = Run | str | Path


def train(
    what: str | AgentConfig | RunConfig,
    data: Dataset | None = None,
    *,
    task: Task | None = None,
    seeds: int | Sequence[int] | None = None,
    phases: Phase | Sequence[Phase] | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    hardware: Hardware | None = None,
    **overrides: Any,
) -> Run:
    """Trains and returns the run, whose folder holds all that came of it.

    what:      a named run (``flowpolicy list``), an agent's configuration, or a whole RunConfig
    data:      offline rows; those of the task where None
    seeds:     how many agents, with seeds 0 to N - 1, or which; they train side by side
    task:      where environments come from; without one, data are trained on and not evaluated
    phases:    ``fp.Offline(...)`` and ``fp.Online(...)``, one or several in order
    out:       the run's folder; a new one under ``runs/`` where None
    watch:     who is told of progress; nobody where None
    hardware:  processes and devices (``fp.Hardware(workers=4)``); one of each where None
    overrides: fields of the run (batch=128) or of its agent (eta=0.3)

    Raises ``FlowPolicyError``s that name the field and what is allowed, before training starts;
    ``Diverged`` and ``Stopped`` during it, with the last checkpoint kept.
    """
    name, config = _resolve(what)
    which = range(seeds) if isinstance(seeds, int) else seeds
    given = {
        "task": task,
        "seeds": None if which is None else tuple(which),
        "phases": None if phases is None else as_phases(phases),
    }
    changes = {k: v for k, v in given.items() if v is not None} | overrides
    config = override(config, changes)
    if config.task is None:
        config = dataclasses.replace(config, task=RowsOnly())
    check_task(config.task)
    dataset = config.task.dataset() if data is None else data
    record = {"run": name, "versions": versions(), "commit": _commit()}
    if isinstance(what, str) and data is None:
        record["command"] = _command(name, changes)
    folder = free_folder(name) if out is None else Path(out)
    return attempts.run(
        config, config.task, dataset, folder, record=record, watch=watch, hardware=hardware
    )


def resume(
    run: AnyRun,
    data: Dataset | None = None,
    *,
    watch: Watch | None = None,
    allow_inexact: bool = False,
    hardware: Hardware | None = None,
) -> Run:
    """Goes on with a run that was stopped or killed, as if it had not been, and returns it.

    data: the offline rows the run began with; those of its task where None
    watch: who is told of progress, and from which checkpoint it goes on; nobody where None
    hardware: processes and devices, as for ``train``; not necessarily those from before
    allow_inexact: goes on where the result will not be, to the bit, that of a run that was never
          interrupted: another device, other versions, an environment that does not repeat itself

    Parts of your own must be registered first. A finished run is left as it is. Raises ``Inexact``,
    ``Busy`` where another process writes to the run, ``MissingData`` and ``CorruptFile`` that name
    the file, ``InvalidData`` where the rows are other ones.
    """
    folder = RunFolder(_path(run))
    task = folder.config().task
    dataset = task.dataset() if data is None else data
    return continue_run(
        folder.path, task, dataset,
        watch=watch, allow_inexact=allow_inexact, hardware=hardware,
    )  # fmt: skip


def _resolve(what: str | AgentConfig | RunConfig) -> tuple[str, RunConfig]:
    if isinstance(what, str):
        return what, runs.get(what).config
    if isinstance(what, RunConfig):
        return "own run", what
    return "own agent", RunConfig(agent=what)


def override(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """``config`` with fields of the run, or of its agent, replaced by name."""
    run_fields = {f.name for f in dataclasses.fields(RunConfig)}
    agent_fields = {f.name for f in dataclasses.fields(config.agent)}
    for name in values:
        if name not in run_fields | agent_fields:
            raise unknown_name("field of the run or its agent", name, run_fields | agent_fields)
    ours = {k: v for k, v in values.items() if k in run_fields}
    theirs = {k: v for k, v in values.items() if k not in run_fields}
    agent = parts.replace(ours.pop("agent", config.agent), **theirs)
    return parts.replace(config, **ours, agent=agent)


def free_folder(name: str) -> Path:
    """A folder under ``runs/`` that does not exist yet, named after ``name``."""
    base = name.replace("/", "-").replace(" ", "-")
    for i in range(1, 10_000):
        path = Path("runs") / (base if i == 1 else f"{base}-{i}")
        if not path.exists():
            return path
    raise InvalidConfig(f"runs/{base} to runs/{base}-9999 all exist; give out=")


def versions() -> dict[str, str]:
    """Versions of what a result depends on, and the device."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _commit() -> str:
    """The git commit of the source this runs from; empty where it is not a checkout."""
    where = Path(__file__).parent
    try:
        command = ["git", "-C", str(where), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _command(name: str, changes: dict[str, Any]) -> str:
    """The command line that trains the same."""
    words = ["flowpolicy", "train", name]
    for field, value in changes.items():
        if field == "seeds":
            words += ["--seed" if len(value) == 1 else "--seeds", *(str(seed) for seed in value)]
            continue
        flag = field.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
            continue
        words += [f"--{flag}", value if isinstance(value, str) else parts.describe(value)]
    return shlex.join(words)


@dataclasses.dataclass(frozen=True)
class Result:
    """An evaluation: how often the task was solved, and what an action cost.

    success:   share of solved episodes over all seeds; interval: its 95 % interval
    rows:      one per seed, over all its episodes, those told of before among them
    cost:      evaluations of nets per chunk; ``nfe`` is those of the flow's net
    ms_p50, ms_p99: milliseconds from one observation to its chunk, over 200 calls
    """

    success: float
    interval: Interval
    rows: tuple[EvaluationRow, ...]
    cost: Cost
    ms_p50: float
    ms_p99: float

    @property
    def nfe(self) -> int:
        """Evaluations of the flow's net per chunk."""
        return self.cost.policy


def evaluate(
    run: Run | str | Path,
    refiner: Refiner | None = None,
    *,
    episodes: int = 50,
    seeds: Sequence[int] | None = None,
    episode_seed: int | None = None,
    task: Task | None = None,
    write: bool = True,
) -> Result:
    """Plays ``episodes`` episodes with seeds of a run's newest checkpoint.

    seeds:   which of the run's seeds; all where None
    episode_seed: what the episodes are drawn from; each agent's own seed where None
    refiner: acts in the place of the agent's own (``fp.qgbs(beam=4)``, ``fp.best_of_n(n=8)``)
    task:    where to play; the run's own where None. What was played elsewhere is never written:
             the run's tables are of its own task
    write:   whether a line per seed is added to ``evaluations.csv``, and one to ``costs.csv``

    Episodes are the same for every refiner: a function of (seed, index). Where the table tells of
    m episodes of this checkpoint and refiner already, they are taken to be the first m, and the
    line is of the others. Of those drawn from ``episode_seed``, which no line tells, a line is
    added that differs in more than its seconds from each there is.
    """
    check_episodes(episodes, episode_seed)
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    config = folder.config()
    chosen = _chosen(seeds, config.seeds)
    # Before anything is played: an agent without what the refiner needs is told of here.
    policy = Policy.load(folder.path, refiner=refiner)
    played = _play(folder, config, refiner, task or config.task, episodes, chosen, episode_seed)
    rows, write = [one.row() for one in played], write and task is None
    if write:
        told = folder.evaluations()
        for one in played:
            row = one.untold(told) if episode_seed is None else one.unlike(told)
            if row is not None:
                folder.append_evaluation(row)
    milliseconds = _latency(policy)
    cost = policy.agent.cost(refiner or config.agent.act)
    p50, p99 = (float(np.percentile(milliseconds, share)) for share in (50, 99))
    if write:
        label, device = rows[0].refiner, jax.devices()[0].device_kind
        times = round(p50, 4), round(p99, 4), len(milliseconds)
        folder.append_cost(CostRow(label, cost.policy, *times, device))
    counts = np.asarray([round(row.success * row.episodes) for row in rows])
    return Result(
        success=float(np.mean([row.success for row in rows])),
        interval=success_interval(counts, np.full(len(rows), episodes), np.random.default_rng(0)),
        rows=tuple(rows),
        cost=cost,
        ms_p50=p50,
        ms_p99=p99,
    )


@dataclasses.dataclass(frozen=True)
class _Played:
    """Episodes of one seed, and what they tell of."""

    seed: int
    phase: str
    step: int
    refiner: str
    episodes: Episodes
    task: Task

    def row(self, first: int = 0) -> EvaluationRow:
        """The line of those from number ``first`` on, with their share of the seconds."""
        every = self.episodes
        share = 1 - first / len(every.success)
        some = dataclasses.replace(
            every, success=every.success[first:], returns=every.returns[first:],
            lengths=every.lengths[first:], seconds=share * every.seconds,
        )  # fmt: skip
        return scored(some.row(self.seed, self.phase, self.step, self.refiner), self.task)

    def _same(self, told: Sequence[EvaluationRow]) -> list[EvaluationRow]:
        mine = self.seed, self.phase, self.step, self.refiner
        return [row for row in told if (row.seed, row.phase, row.step, row.refiner) == mine]

    def untold(self, told: Sequence[EvaluationRow]) -> EvaluationRow | None:
        """The line of those beyond as many as ``told`` has; None where it has them all."""
        first = sum(row.episodes for row in self._same(told))
        return self.row(first) if first < len(self.episodes.success) else None

    def unlike(self, told: Sequence[EvaluationRow]) -> EvaluationRow | None:
        """The line of all; None where ``told`` has one that differs in its seconds at most."""
        row = self.row()
        alike = [dataclasses.replace(other, seconds=row.seconds) for other in self._same(told)]
        return None if row in alike else row


def _play(
    folder: RunFolder,
    config: RunConfig,
    refiner: Refiner | None,
    task: Task,
    episodes: int,
    seeds: tuple[int, ...],
    episode_seed: int | None,
) -> list[_Played]:
    """One per seed, from the newest checkpoint."""
    trained, meta = folder.load()
    kind = "online" if meta["online"] else "offline"
    step = min(meta["env_steps"]) if meta["online"] else meta["updates"]
    label = OWN if refiner is None else parts.describe(refiner)
    fleet = Local(task.env)
    try:
        choose = own if refiner is None else refined(refiner)
        size = min(config.evaluation.side_by_side, episodes)
        evaluator = Evaluator(choose, trained.normaliser, fleet, range(max(size, len(seeds))))
        which = np.asarray([config.seeds.index(seed) for seed in seeds])
        agents = jax.tree.map(lambda x: x[which], trained.agents)
        starts = seeds if episode_seed is None else (episode_seed,) * len(seeds)
        played = evaluator(agents, starts, episodes, config.agent.view.chunk)
        return [
            _Played(seed, kind, step, label, own_ones, task)
            for seed, own_ones in zip(seeds, played, strict=True)
        ]
    finally:
        fleet.close()


def _chosen(seeds: Sequence[int] | None, known: tuple[int, ...]) -> tuple[int, ...]:
    for seed in seeds or ():
        if seed not in known:
            raise InvalidConfig(f"seeds must be among the run's, {known}, got {seed}")
    if seeds and len(set(seeds)) != len(seeds):
        raise InvalidConfig(f"seeds must be distinct, got {tuple(seeds)}")
    return tuple(seeds) if seeds else known


def _latency(policy: Policy, calls: int = 200) -> np.ndarray:
    policy.warm_up()
    obs = jax.tree.map(
        lambda s: np.zeros(s, np.float32), policy.obs_shape, is_leaf=lambda x: isinstance(x, tuple)
    )
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        policy.act(obs)
        times.append(1e3 * (time.perf_counter() - began))
    return np.asarray(times)


def compare(*groups: AnyRun | Sequence[AnyRun]) -> Comparison:
    """Runs side by side: ``compare(a, b).paired()``, ``.table()``, ``.aggregate()`` and more.

    Each of ``groups`` is a run, its folder, or a sequence of either. Methods are told apart by the
    runs' names, by the refiner that acted, and by settings that differ; those of two groups are
    never pooled. ``print(compare(...))`` shows the table of final success.

    Raises ``InvalidConfig`` where there is no run, or where two runs of a group hold the same seed
    of the same method and task; ``MissingData`` and ``CorruptFile`` name the file.
    """
    lists = [[g] if isinstance(g, RunFolder | str | Path) else list(g) for g in groups]
    if not lists or not all(lists):
        raise InvalidConfig("compare needs at least one run, and no group without one")
    return Comparison(gather([[read_run(_path(run)) for run in group] for group in lists]))


def report(*given: AnyRun, out: str | Path | None = None, episodes: bool = True) -> Path:
    """Writes one self-contained page about a run, or about several, and returns its path.

    out:      where; ``report.html`` in the folder of one run, ``comparison.html`` for several,
              whose tables go as CSV files into the folder beside it, ``comparison/``
    episodes: whether episodes are played and shown; of several runs a success and a failure of
              every method

    Raises ``InvalidConfig`` where ``out`` is no name of a page, and what ``compare`` does.
    """
    from flowpolicy.report.html import write_report  # draws; acting needs no matplotlib

    if out is not None and Path(out).suffix != ".html":
        raise InvalidConfig(f"out must end in .html, got {str(out)!r}")
    if len(given) == 1:
        folder = RunFolder(_path(given[0]))
        material = show(folder) if episodes else Material()
        return write_report(folder.path, material=material, out=None if out is None else Path(out))
    return _report_comparison(compare(given), Path(out or "comparison.html"), episodes)


def _report_comparison(found: Comparison, out: Path, episodes: bool) -> Path:
    from flowpolicy.report.comparison_html import write_comparison
    from flowpolicy.report.gallery import example
    from flowpolicy.report.modes import modes_kept

    cells = found.cells if episodes else ()
    return write_comparison(
        found,
        out,
        papers=_papers(found),
        examples=[example(cell) for cell in cells],
        modes=[kept for cell in cells if (kept := modes_kept(cell)) is not None],
    )


def _papers(found: Comparison) -> dict[tuple[str, str], Any]:
    """Settings of the named runs at the paper's size: ``fmq/...`` for ``mini/fmq/...``."""
    known = set(runs.names())
    names = {
        (cell.base, cell.task): f"{cell.base.rpartition('/')[2]}/{cell.task}"
        for cell in found.cells
    }
    return {
        key: parts.encode(runs.get(name).config) for key, name in names.items() if name in known
    }


def _path(run: AnyRun) -> Path:
    return run.path if isinstance(run, RunFolder) else Path(run)


@contextlib.contextmanager
def debug() -> Iterator[None]:
    """Without jit and scan: breakpoints and prints work inside agents, losses and nets.

    The numbers are those of a compiled run up to rounding; it is some hundred times slower.
    """
    with jax.disable_jit():
        yield
