"""The methods that are compared, each with its paper's values for every environment.

What a paper does not say has the value of QC, which the others compare with, and a comment that
says so. ``<env>`` below is a task's name without its number.
"""

import dataclasses
import functools
from collections.abc import Callable

from flowpolicy.agents import (
    BC,
    FMQ,
    IFQL,
    MVP,
    QC,
    RLPD,
    DirectGradient,
    Distilled,
    bfn,
    bfn_n,
    cloning,
    fql_n,
    qc_fql,
)
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.fql import FQL
from flowpolicy.data.replay import Draw, OfflineShare, UniformDraw
from flowpolicy.flows import Term
from flowpolicy.refine import QGBS, BestOfN, OneStep, Refiner
from flowpolicy.runs.guided import gfp, gfp_batch, gfp_released
from flowpolicy.runs.ogbench import setting
from flowpolicy.runs.tilted import control, tilted, tilted_e, tilted_f
from flowpolicy.train.phases import Evaluation, Offline, Online, Phase
from flowpolicy.values import mean, minimum


@dataclasses.dataclass(frozen=True)
class Method:
    """One column of a comparison.

    agent:    from the environment to the agent, at the paper's size
    refiners: played beside the agent's own way of acting at every evaluation
    phases:   of the paper's protocol
    draw:     how a batch chooses between offline and online rows
    batch:    from the environment to the samples of an update, at the paper's size
    paper:    whose rewards it has (``ogbench.SETTINGS``) and whose environments (``paper.MORE``)
    trial:    the paper's evaluations, without ``refiners``
    """

    name: str
    summary: str
    agent: Callable[[str], AgentConfig]
    refiners: tuple[Refiner, ...] = ()
    phases: tuple[Phase, ...] = (Offline(), Online())
    draw: Draw = UniformDraw()
    batch: Callable[[str], int] = lambda _: 256
    paper: str = "fmq"
    trial: Evaluation = Evaluation()


def everywhere(agent: AgentConfig) -> Callable[[str], AgentConfig]:
    """The same agent in every environment."""
    return lambda _: agent


def candidates(env: str) -> BestOfN:
    """N of QC: 32 on cube and scene, 64 on puzzle, 16 on RoboMimic (its Table 4); mazes, where it
    is silent, 32."""
    if env.startswith("robomimic"):
        return BestOfN(16)
    return BestOfN(64 if env.startswith("puzzle") else 32)


def qc(env: str) -> QC:
    """QC with the environment's N."""
    return QC(act=candidates(env), bootstrap=candidates(env))


def distillation_weight(env: str) -> float:
    """alpha of FQL from offline to online (its Table 7), on RoboMimic QC's (Table 5). What that
    table lacks has the value of its kin there, antmaze and pointmaze that of antmaze offline."""
    weights = {
        "robomimic": 10_000.0,
        "humanoidmaze": 100.0,
        "antsoccer": 30.0,
        "puzzle": 1000.0,
    }
    default = 300.0 if env.startswith(("cube", "scene")) else 10.0
    return next((w for prefix, w in weights.items() if env.startswith(prefix)), default)


def chunked_weight(env: str) -> float:
    """alpha of QC-FQL (QC's Table 5): 100 on the larger cube tasks, else 300; mazes as FQL."""
    if env.startswith(("cube-triple", "cube-quadruple")):
        return 100.0
    return 300.0 if env.startswith(("cube", "scene", "puzzle")) else distillation_weight(env)


def returns_weight(env: str) -> float:
    """alpha of FQL-n (QC's Table 5): 100, on RoboMimic 10 000."""
    return 10_000.0 if env.startswith("robomimic") else 100.0


def fql(env: str) -> FQL:
    """FQL with the environment's alpha, discount, and rule for two critics (its Table 5)."""
    return FQL(
        alpha=distillation_weight(env),
        discount=setting("fql", env).discount,
        aggregate=minimum if env.startswith(("antmaze-large", "antmaze-giant")) else mean,
    )


def ifql(env: str) -> IFQL:
    """IFQL with the discounts of FQL's paper, whose baseline it is."""
    return IFQL(discount=setting("fql", env).discount)


def released(fmq: FMQ) -> FMQ:
    """FMQ as its released code reads: mean offline, a_1 clipped before the gradient."""
    return dataclasses.replace(fmq, aggregate_offline=mean, clip_endpoint=True, eta=1.0, beta=0.3)


# A method with what its paper has beside the agent. RLPD is as in QC's.
OF_QC = functools.partial(Method, paper="qc")
OF_MVP = functools.partial(Method, paper="mvp")
OF_FQL = functools.partial(Method, paper="fql")
OF_GFP = functools.partial(
    Method,
    # All of its results are offline. How often it evaluates we did not read: as FQL.
    phases=(Offline(),),
    trial=Evaluation(episodes=100, final_episodes=100),
    batch=gfp_batch,
    paper="gfp",
)
OF_QAM = functools.partial(
    Method, phases=(Offline(), Online(500_000)), trial=Evaluation(every=50_000), paper="qam"
)
OF_RLPD = functools.partial(OF_QC, phases=(Online(random_steps=5_000),), draw=OfflineShare(0.5))

OBJECTIVES: dict[str, tuple[str, tuple[Term, ...]]] = {
    "mean-flow": ("MeanFlow and its logit-normal times", cloning.mean_flow_terms()),
    "eulerian": ("self-distilled Eulerian equation (ESD)", cloning.esd_terms()),
    "lagrangian": ("self-distilled Lagrangian equation (LSD)", cloning.lsd_terms()),
    "semigroup": ("semigroup, uniform middle (PSD)", cloning.psd_terms()),
    "midpoint": ("semigroup, w in the middle (PSD-M)", cloning.psd_midpoint_terms()),
    "shortcut": ("shortcut models' dyadic jumps", cloning.shortcut_terms()),
}
"""Offline losses of a flow map: a name, what it is, its terms."""

NOISY = ("gfp", "fql")
"""Methods with runs on noisy data too, small ones on cube-single's: GFP, which claims it, and FQL
beside it."""

ETAS = (0.1, 0.3, 0.5, 0.8, 1.0)


def compared(fmq: FMQ) -> tuple[Method, ...]:
    """The papers' methods; FMQ with the settings of ``fmq``."""
    chunked = lambda env: qc_fql(alpha=chunked_weight(env))  # noqa: E731
    returns = lambda env: fql_n(alpha=returns_weight(env))  # noqa: E731
    return (
        Method("fmq", "FMQ, acting with best-of-32", everywhere(fmq)),
        Method("fmq-qgbs", "FMQ, evaluated by QGBS too", everywhere(fmq), (QGBS(),)),
        Method("fmq-released", "FMQ as the released code reads", everywhere(released(fmq))),
        OF_MVP("mvp", "MVP, acting with best-of-32", everywhere(MVP())),
        OF_MVP("mvp-qgbs", "MVP, evaluated by QGBS too", everywhere(MVP()), (QGBS(),)),
        OF_QC("qc", "QC: flow cloning, best of N chunks", qc),
        OF_QC("bfn", "QC with single actions, best of 4", everywhere(bfn())),
        OF_QC("bfn-n", "BFN with 5-step returns", everywhere(bfn_n())),
        OF_QC("qc-fql", "FQL on chunks", chunked),
        OF_FQL("fql", "FQL: a one-step actor distilled from a flow", fql),
        OF_QC("fql-n", "FQL with 5-step returns", returns),
        OF_GFP("gfp", "GFP: FQL whose flow clones what is worth it", gfp),
        OF_GFP("gfp-released", "GFP with VaBC's next action drawn at s", gfp_released),
        OF_FQL("ifql", "IFQL: expectile value, best of 32", ifql),
        OF_QAM("qam", "QAM: a flow tilted by adjoint matching", tilted),
        OF_QAM("qam-f", "QAM with a one-step actor distilled from its flow", tilted_f),
        OF_QAM("qam-e", "QAM with a bounded edit of its actions", tilted_e),
        OF_QAM("bam", "control: QAM by back-propagation through its SDE", control),
        OF_RLPD("rlpd", "RLPD: online, half prior data", everywhere(RLPD())),
        OF_RLPD("rlpd-ac", "RLPD on chunks", everywhere(RLPD(chunk=5))),
        OF_RLPD("qc-rlpd", "RLPD on chunks with cloning", everywhere(RLPD(chunk=5, bc=0.01))),
        Method("bc", "flow map behaviour cloning", everywhere(BC())),
    )


def controls(base: FMQ) -> tuple[Method, ...]:
    """FMQ with one thing changed: controls that no paper shows."""
    changed = {
        "fmq-single": ("acting with one sample (Algorithm 1)", {"act": OneStep()}),
        "fmq-no-gradient": ("best-of-N alone, the policy stays the offline one", {"eta": 0.0}),
        "fmq-direct": (
            "direct gradient of Q through the one-step map", {"improve": DirectGradient()},
        ),
        "fmq-keep-cloning": ("cloning loss kept online", {"keep_offline_loss": 1.0}),
        "fmq-fixed-eta": ("eta the same everywhere", {"beta": 0.0}),
        "fmq-adaptive-eta": ("eta smaller where critics disagree", {"beta": 0.3}),
        "fmq-mean": (
            "the critics' mean, as MVP and QC have it",
            {"aggregate_offline": mean, "aggregate_online": mean},
        ),
        **{f"fmq-eta-{eta}": (f"eta {eta}", {"eta": eta}) for eta in ETAS},
    }  # fmt: skip
    return tuple(
        Method(name, f"control: FMQ, {text}", everywhere(dataclasses.replace(base, **changes)))
        for name, (text, changes) in changed.items()
    )


def objectives(fmq: FMQ, mvp: MVP) -> tuple[Method, ...]:
    """FMQ and MVP with each objective of the flow map. MVP's constraint is the terms' diagonal."""
    built = []
    for name, (text, terms) in OBJECTIVES.items():
        for short, agent in (
            ("fmq", dataclasses.replace(fmq, terms=terms)),
            ("mvp", dataclasses.replace(mvp, terms=terms, weight=0.0)),
        ):
            title = f"{short.upper()} by {text}"
            built.append(Method(f"{short}-{name}", title, everywhere(agent), paper=short))
    return tuple(built)


def from_flows(fmq: FMQ) -> tuple[Method, ...]:
    """An existing flow policy distilled into a flow map, which FMQ adapts."""
    return (
        Method("fmq-from-qc", "FMQ from QC's flow, distilled", lambda env: _from(qc(env), fmq)),
        Method(
            "fmq-from-qc-fql", "FMQ from QC-FQL's flow, distilled",
            lambda env: _from(qc_fql(alpha=chunked_weight(env)), fmq),
        ),
    )  # fmt: skip


def _from(source: AgentConfig, fmq: FMQ) -> Distilled:
    return Distilled(source=source, target=fmq)
