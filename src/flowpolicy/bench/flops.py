"""Floating-point operations of one FMQ update, matrix products alone, by formula.

A product of (n, a) with (a, b) takes 2 n a b. A net's first layer is one product per input (state,
action, two embedded times), and an input that many candidates share is multiplied once: the
state's part once per state, a time that is the same for all samples once. Backwards, a layer takes
one product for its weights, as large as the forward one, and one for its input, which the first
layer needs not. What is computed twice in the source and merged by the compiler counts once:
MeanFlow's prediction and the primal of its own derivative.
"""

import dataclasses
from typing import Any

from flowpolicy.agents import FMQ
from flowpolicy.flows import diagonal, mean_flow


@dataclasses.dataclass(frozen=True)
class Net:
    """A multilayer perceptron: sizes of its inputs, width, hidden layers, outputs."""

    inputs: tuple[int, ...]
    width: int
    depth: int
    out: int

    def first(self, rows: tuple[int, ...]) -> int:
        """The first layer, input i on ``rows[i]`` rows."""
        return sum(2 * n * a * self.width for n, a in zip(rows, self.inputs, strict=True))

    def rest(self, n: int) -> int:
        """All other layers on ``n`` rows."""
        return 2 * n * self.width * ((self.depth - 1) * self.width + self.out)

    def forward(self, n: int, rows: tuple[int, ...]) -> int:
        """One evaluation of ``n`` samples."""
        return self.first(rows) + self.rest(n)

    def backward(self, n: int, rows: tuple[int, ...]) -> int:
        """The gradient of the parameters: weights of all layers, inputs of all but the first."""
        return self.first(rows) + 2 * self.rest(n)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Sizes that are not the agent's: scalars of an observation, of an action, and the batch."""

    obs: int
    action: int
    batch: int


def nets(agent: FMQ, problem: Problem) -> tuple[Net, Net]:
    """The flow map's net and one critic."""
    size, actor, critic = agent.chunk * problem.action, agent.actor, agent.critic
    times = (actor.embed.size, actor.embed.size)
    return (
        Net((problem.obs, size, *times), actor.width, actor.depth, size),
        Net((problem.obs, size), critic.width, critic.depth, 1),
    )


def critic_terms(agent: FMQ, problem: Problem, candidates: int, steps: int = 1) -> dict[str, int]:
    """Drawing ``candidates`` actions per next state, each by ``steps`` evaluations, ranking them,
    the target at the best one, and one step of the critics."""
    actor, critic = nets(agent, problem)
    b, k = problem.batch, agent.ensemble
    many = b * candidates
    return {
        "candidates": steps * actor.forward(many, (b, many, 1, 1)),
        "ranking": k * critic.forward(many, (b, many)),
        "target": k * critic.forward(b, (b, b)),
        "critic loss": k * (critic.forward(b, (b, b)) + critic.backward(b, (b, b))),
    }


def cloning_terms(agent: FMQ, problem: Problem) -> dict[str, int]:
    """The terms of the offline flow map loss; those of the diagonal and MeanFlow are known here."""
    actor, _ = nets(agent, problem)
    b = problem.batch
    rows = (b, b, b, b)
    once = actor.forward(b, rows) + actor.backward(b, rows)
    # The tangent moves with the action and with r alone, so it has no part of s and t.
    tangent = actor.forward(b, (0, b, b, 0))
    known: dict[Any, tuple[str, int]] = {
        diagonal: ("diagonal", once),
        mean_flow: ("mean_flow", once + tangent),
    }
    return dict(known[term.residual] for term in agent.terms)


def guidance_terms(agent: FMQ, problem: Problem) -> dict[str, int]:
    """The online regression: the frozen reference, the critics' gradient, the flow map's step."""
    actor, critic = nets(agent, problem)
    b = problem.batch
    rows = (b, b, b, 1)  # the end of the jump is time 1 for all samples
    upwards = critic.rest(b) + critic.first((0, b))
    return {
        "reference": actor.forward(b, rows),
        "guidance": agent.ensemble * (critic.forward(b, (b, b)) + upwards),
        "regression": actor.forward(b, rows) + actor.backward(b, rows),
    }


def offline(agent: FMQ, problem: Problem, candidates: int, steps: int = 1) -> dict[str, int]:
    """One offline update by term."""
    return critic_terms(agent, problem, candidates, steps) | cloning_terms(agent, problem)


def online(agent: FMQ, problem: Problem, candidates: int) -> dict[str, int]:
    """One online update by term; ``keep_offline_loss`` must be 0."""
    if agent.keep_offline_loss:
        raise NotImplementedError("the formula holds for keep_offline_loss = 0")
    return critic_terms(agent, problem, candidates) | guidance_terms(agent, problem)


def counted_by_xla(terms: dict[str, int], slices: int, steps: int = 1) -> float:
    """What XLA's cost analysis counts of ``terms``: it takes the body of a loop once, and the
    candidates of a batch are drawn and ranked in ``slices``, integrated in ``steps``."""
    looped = terms["candidates"] / steps + terms["ranking"]
    return sum(terms.values()) - terms["candidates"] - terms["ranking"] + looped / slices
