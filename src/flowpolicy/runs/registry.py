"""Named runs: a name, a sentence, and everything that decides what the run computes."""

import dataclasses
from collections.abc import Callable

from flowpolicy.agents import BC, FMQ
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.errors import InvalidConfig, unknown_name
from flowpolicy.nets import Adam, MLPCritic, MLPFlow
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.runs.tasks import OGBench, PointMassTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig
from flowpolicy.values import mean

TASKS = tuple(
    f"{env}-task{i}"
    for env in (
        "cube-single",
        "cube-double",
        "cube-triple",
        "scene",
        "puzzle-3x3",
        "pointmaze-medium",
        "antmaze-giant",
        "humanoidmaze-medium",
    )
    for i in range(1, 6)
)
"""OGBench tasks that have named runs; ``OGBench(task=...)`` takes any other."""


@dataclasses.dataclass(frozen=True)
class NamedRun:
    """A registered run: what it is, in a sentence, and its configuration."""

    name: str
    summary: str
    config: RunConfig


_RUNS: dict[str, tuple[str, Callable[[], RunConfig]]] = {}


def add(name: str, summary: str, build: Callable[[], RunConfig]) -> None:
    """Registers a run; a name is given once."""
    if name in _RUNS:
        raise InvalidConfig(f"the run {name!r} is already registered")
    _RUNS[name] = (summary, build)


def get(name: str) -> NamedRun:
    """The run called ``name``; ``UnknownName`` with the nearest names otherwise."""
    if name not in _RUNS:
        raise unknown_name("run", name, _RUNS)
    summary, build = _RUNS[name]
    return NamedRun(name, summary, build())


def names() -> list[str]:
    """All names, sorted."""
    return sorted(_RUNS)


def summary(name: str) -> str:
    """The sentence of the run called ``name``."""
    return get(name).summary


PAPER = FMQ()
"""FMQ as on its page: 4 x 512 nets, twin critics, best-of-32 to act and to bootstrap."""

RELEASED = dataclasses.replace(PAPER, aggregate_offline=mean, clip_endpoint=True, eta=1.0, beta=0.3)
"""FMQ as its released code reads: mean offline, a_1 clipped before the gradient."""

MINI = FMQ(
    eta=0.15,
    beta=0.0,
    terms=fmq_terms(0.0, 0.1),
    bootstrap=BestOfN(8),
    optimiser=Adam(hold=6_000, anneal=4_000),
    actor=MLPFlow(width=256, depth=3),
    critic=MLPCritic(width=256, depth=3),
)
"""FMQ at a size that two cores train in minutes. The offline phase is so short that the curriculum
ends after a tenth of it, and that the trust region around its policy is kept small; the rate falls
to 0 over the last 4 000 of its 10 000 updates, because success oscillates at a constant one."""


def paper_run(agent: FMQ | BC, task: str) -> RunConfig:
    """A million offline updates, then a million online steps; 50 episodes every 100 000."""
    return RunConfig(agent=agent, task=OGBench(task), phases=(Offline(), Online()))


def mini_run(agent: FMQ | BC, task: str) -> RunConfig:
    """5 000 offline updates and 5 000 online steps, batches of 128, on 100 000 collected rows."""
    return RunConfig(
        agent=agent,
        task=OGBench(task, rows=100_000),
        phases=(Offline(5_000), Online(5_000, start_after=0)),
        batch=128,
        evaluation=Evaluation(every=2_000, episodes=20, final_episodes=50, side_by_side=10),
        checkpoint_every=2_000,
    )


def _point_mass() -> RunConfig:
    agent = FMQ(
        chunk=2,
        discount=0.95,
        eta=0.3,
        terms=fmq_terms(0.0, 0.1),
        act=BestOfN(8),
        bootstrap=BestOfN(4),
        actor=MLPFlow(width=32, depth=2),
        critic=MLPCritic(width=32, depth=2),
    )
    return RunConfig(
        agent=agent,
        task=PointMassTask(),
        phases=(Offline(500), Online(500, start_after=0)),
        batch=64,
        evaluation=Evaluation(every=250, episodes=10, final_episodes=20),
        checkpoint_every=250,
    )


def _register() -> None:
    single = dataclasses.replace(PAPER, act=OneStep())
    mini_single = dataclasses.replace(MINI, act=OneStep())
    mini_bc = BC(terms=MINI.terms, actor=MINI.actor)
    families: list[tuple[str, str, Callable[[FMQ | BC, str], RunConfig], FMQ | BC]] = [
        ("fmq", "FMQ at the paper's size, acting with best-of-32", paper_run, PAPER),
        ("fmq-single", "control: FMQ acting with one sample (Algorithm 1)", paper_run, single),
        ("fmq-released", "FMQ as the released code reads", paper_run, RELEASED),
        ("bc", "flow map behaviour cloning at the paper's size", paper_run, BC()),
        ("mini/fmq", "FMQ that two cores train in minutes", mini_run, MINI),
        ("mini/fmq-single", "control: the same, acting with one sample", mini_run, mini_single),
        ("mini/bc", "flow map behaviour cloning in minutes", mini_run, mini_bc),
    ]
    for prefix, text, build, agent in families:
        for task in TASKS:
            add(
                f"{prefix}/{task}",
                text,
                lambda build=build, agent=agent, task=task: build(agent, task),
            )
    add("toy/fmq", "FMQ on a point mass, seconds, no simulator", _point_mass)


_register()
