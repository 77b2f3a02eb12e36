"""The updates that are timed: FMQ at two sizes on made-up rows, and an update like QC's."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy import runs
from flowpolicy.agents import FMQ
from flowpolicy.agents.td import states_at_once
from flowpolicy.bench.flops import Problem
from flowpolicy.data.replay import UniformDraw
from flowpolicy.flows import Flow, FlowMap, Integrated, OnDiagonal, Term, diagonal
from flowpolicy.refine import BestOfN, Cost
from flowpolicy.refine.core import Q
from flowpolicy.train.guards import Bounds, Guard
from flowpolicy.train.normalise import Identity
from flowpolicy.train.updates import Updater
from flowpolicy.types import Key, Observation, Rows, Spec, Transition, Vector

ROWS, EPISODE, RING = 100_000, 200, 4_000


@dataclasses.dataclass(frozen=True)
class EulerBestOfN:
    """Best-of-``n`` whose candidates are integrated in ``steps`` Euler steps, as QC draws them."""

    n: int
    steps: int

    @property
    def nfe(self) -> int:
        """Jumps; each of them takes ``steps`` evaluations."""
        return self.n

    def cost(self, flow: Flow) -> Cost:
        """That of best-of-``n`` whose jumps take ``steps`` evaluations."""
        return BestOfN(self.n).cost(self._integrated(flow))

    def __call__(self, key: Key, flow: Flow, q: Q, s: Observation) -> Vector:
        """The best of the candidates."""
        return BestOfN(self.n)(key, self._integrated(flow), q, s)

    def _integrated(self, flow: Flow) -> Integrated:
        if not isinstance(flow, FlowMap):
            raise TypeError(f"candidates are integrated along a flow map, got {flow!r}")
        return Integrated(flow, self.steps)


PAPER = Problem(obs=40, action=5, batch=256)
DEMO = Problem(obs=28, action=5, batch=256)


def paper() -> FMQ:
    """FMQ as on its page: 4 x 512 nets, twin critics, best-of-32 bootstrap."""
    return FMQ()


def demo() -> FMQ:
    """The demo's agent, 3 x 256 nets, with a best-of-4 bootstrap."""
    agent = runs.get("mini/fmq/cube-single-task1").config.agent
    return dataclasses.replace(agent, bootstrap=BestOfN(4))


def like_qc(steps: int = 10) -> FMQ:
    """Twin critics, best-of-32 of ``steps``-step flows, and flow matching as the only flow loss."""
    return dataclasses.replace(
        paper(),
        bootstrap=EulerBestOfN(32, steps),
        terms=(Term(residual=diagonal, times=OnDiagonal()),),
    )


def made_up_rows(problem: Problem) -> Rows:
    """Rows of Gaussian numbers in episodes of 200 steps."""
    draws = np.random.default_rng(0)

    def normal(size: int) -> np.ndarray:
        return draws.standard_normal((ROWS, size), np.float32)

    ended = np.arange(ROWS) % EPISODE == EPISODE - 1
    action = np.clip(normal(problem.action), -1, 1)
    reward, terminated = -np.ones(ROWS, np.float32), np.zeros(ROWS, bool)
    return Rows(normal(problem.obs), action, reward, terminated, ended, normal(problem.obs))


class Training:
    """An agent under training as the loop trains it: blocks of updates with sampling in the graph.

    One seed; online updates draw from the offline rows and a full ring. ``guard`` is what a run
    has; without one, what training itself takes is timed.
    """

    def __init__(
        self, agent: FMQ, problem: Problem, *, online: bool, guard: Guard | None = None
    ) -> None:
        """Nothing is compiled yet."""
        self.config, self.problem = agent, problem
        wide = (jnp.full((1,), x) for x in (-1e5, 1e5, 1.0))
        self._bounds = None if guard is None else Bounds(*wide)
        rows = made_up_rows(problem)
        self._updater = Updater(
            offline=rows,
            normaliser=Identity().fit(None),
            view=agent.view,
            draw=UniformDraw(),
            batch=problem.batch,
            seeds=1,
            guard=guard,
        )
        spec = Spec((problem.obs,), problem.action, offline_updates=100)
        state = jax.jit(lambda key: agent.init(key, spec))(jax.random.key(0))
        self._rings = None
        if online:
            state = state.begin_online(jax.random.key(1))
            some = jax.tree.map(lambda x: x[None, :RING], rows)
            rings = self._updater.ring(rows, RING)
            self._rings = self._updater.insert(rings, some, np.asarray([RING]))
        self._agents = jax.tree.map(lambda x: x[None], state)
        self._first = 0

    def block(self, count: int) -> Callable[[], Any]:
        """A call that makes ``count`` updates in one dispatch and returns the agents."""

        def run() -> Any:
            self._agents, _ = self._updater.update(
                self._agents, self._rings, jax.random.key(2)[None], np.asarray([self._first]),
                np.ones(1, bool), count=count, bounds=self._bounds,
            )  # fmt: skip
            self._first += count
            return self._agents

        return run

    @property
    def slices(self) -> float:
        """Parts in which the batch's next actions are drawn."""
        batch = self.problem.batch
        return batch / states_at_once(self.config.bootstrap, batch)

    def xla_flops(self) -> float:
        """XLA's own count for one update on a given batch, element-wise work included."""
        b, size = self.problem.batch, self.config.chunk * self.problem.action
        agent = jax.tree.map(lambda x: x[0], self._agents)
        compiled = jax.jit(lambda a, k, t: a.update(k, t)).lower(
            agent, jax.random.key(0), _batch(b, self.problem.obs, size)
        ).compile()  # fmt: skip
        cost = compiled.cost_analysis()
        return float(cost["flops"]) if cost else float("nan")


def _batch(b: int, obs: int, size: int) -> Transition:
    ones = jnp.ones(b)
    return Transition(
        jnp.zeros((b, obs)), jnp.zeros((b, size)), ones, ones, jnp.zeros((b, obs)),
        jnp.ones((b, size)), ones,
    )  # fmt: skip
