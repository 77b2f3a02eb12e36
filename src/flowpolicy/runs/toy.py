"""A point mass, and a bandit with two modes for every method: seconds, no simulator."""

from flowpolicy.agents import BC, FMQ, FPMD, FQL, GFP, IFQL, MVP, QAM, QC, RLPD
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.agents.fpmd import fpmd_m
from flowpolicy.agents.heads import EditHead, OneStepHead
from flowpolicy.agents.qam import back_propagate
from flowpolicy.agents.reconstructed import SWFP, DecisionFlow
from flowpolicy.agents.reconstructed.decision_flow import direction_reward
from flowpolicy.data.replay import OfflineShare
from flowpolicy.flows import LogitNormal, Term, exact_volume, mean_flow
from flowpolicy.nets import (
    Adam,
    MLPCritic,
    MLPFlow,
    MLPGaussian,
    MLPOneStep,
    MLPValue,
    MLPVelocity,
    Plain,
)
from flowpolicy.nets.inner import MLPInnerValue
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.runs import registry
from flowpolicy.runs.tasks import PointMassTask, TwoModesTask
from flowpolicy.train.phases import Evaluation, Offline, Online, RunConfig

OFFLINE, ONLINE = 1_000, 500
PURELY_ONLINE = ("fpmd", "fpmd-m", "rlpd")
RATE = Adam(rate=3e-3)
MAP = MLPFlow(width=24, depth=2, embed=Plain())
VELOCITY = MLPVelocity(width=24, depth=2)


def point_mass() -> RunConfig:
    """FMQ on ``PointMassTask``."""
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


def bandit_agents() -> dict[str, AgentConfig]:
    """Every method at the bandit's size. An episode is one action: nothing is bootstrapped."""
    shared = {"chunk": 1, "optimiser": RATE}
    critic = {**shared, "critic": MLPCritic(width=32, depth=2)}
    ranked = {**critic, "bootstrap": OneStep()}
    tilted = {**critic, "ensemble": 2, "inverse_temperature": 10.0, "actor": VELOCITY}
    one_step = OneStepHead(alpha=1.0, actor=MLPOneStep(width=24, depth=2))
    edit = EditHead(scale=0.1, net=MLPGaussian(width=16, depth=1))
    decided = {
        **critic, "alpha": 0.1, "steps": 5, "behaviour": VELOCITY, "actor": VELOCITY,
        "value": MLPInnerValue(width=32, depth=2),
    }  # fmt: skip
    mirrored = {
        **critic, "critic_optimiser": RATE, "bootstrap": BestOfN(8), "noise_every": 2, "delay": 1,
        "memory": 0.02, "reward_scale": 1.0,
    }  # fmt: skip
    logit_normal = (Term(mean_flow, LogitNormal()),)
    return {
        "bam": QAM(**tilted, improve=back_propagate),
        "bc": BC(**shared, terms=fmq_terms(0.0, 0.1), actor=MAP),
        "decision-flow": DecisionFlow(**decided),
        # Its reward grows with u, and alpha alone holds it: with 0.1 actions run away.
        "decision-flow-direction": DecisionFlow(
            **{**decided, "alpha": 1.0}, reward=direction_reward
        ),
        "fmq": FMQ(**ranked, eta=0.1, beta=0.0, terms=fmq_terms(0.0, 0.1), actor=MAP),
        "fpmd": FPMD(**mirrored, steps=5, actor=VELOCITY),
        "fpmd-m": fpmd_m(**mirrored, actor=MAP),
        "fql": FQL(
            **critic, alpha=1.0, behaviour=VELOCITY, actor=MLPOneStep(width=24, depth=2)
        ),
        "gfp": GFP(
            **critic, alpha=1.0, eta=0.1, behaviour=VELOCITY, actor=MLPOneStep(width=24, depth=2)
        ),
        "ifql": IFQL(**critic, actor=VELOCITY, value=MLPValue(width=16, depth=1)),
        "mvp": MVP(**ranked, terms=logit_normal, actor=MAP),
        "qam": QAM(**tilted),
        "qam-e": QAM(**tilted, head=edit),
        "qam-f": QAM(**tilted, head=one_step),
        "qc": QC(**ranked, actor=VELOCITY),
        "rlpd": RLPD(
            **critic, ensemble=2, entropy=-1.5, temperature=0.3,
            actor=MLPGaussian(width=16, depth=1),
        ),
        "swfp": SWFP(
            **critic, volume=exact_volume, block_optimiser=Adam(rate=1e-3),
            actor=VELOCITY,
        ),
    }  # fmt: skip


def bandit(name: str, low: float) -> RunConfig:
    """One method on ``TwoModesTask``. Checkpoints are made at the end of each phase alone, and
    both stay, so that a report can count modes before and after the online phase.
    """
    agent, offline = bandit_agents()[name], name not in PURELY_ONLINE
    online = Online(ONLINE if offline else OFFLINE + ONLINE, start_after=0)
    single = () if agent.act == OneStep() else (OneStep(),)
    return RunConfig(
        agent=agent,
        task=TwoModesTask(low),
        phases=(Offline(OFFLINE), online) if offline else (online,),
        batch=64,
        draw=OfflineShare(0.5),
        evaluation=Evaluation(
            every=250, episodes=50, final_episodes=50, side_by_side=50, refiners=single
        ),
    )


def register() -> None:
    """``toy/fmq``, and ``toy/<method>/<task>`` on the bandit."""
    registry.add("toy/fmq", "FMQ on a point mass, seconds, no simulator", point_mass)
    for name in bandit_agents():
        for low in (1.0, 0.6):
            task = TwoModesTask(low).name
            registry.add(
                f"toy/{name}/{task}", f"{name.upper()} on the two-mode bandit, {task}",
                lambda name=name, low=low: bandit(name, low),
            )  # fmt: skip
