"""What every method costs, per update and per action, at the same sizes: ``-m benchmarks.methods``.

Each agent is that of its small run: nets of 3 x 256, batch 128, made-up rows with observations of
28 numbers and actions of 5; chunk, candidates and steps are the method's own. One update is timed
without the drawing of its batch, one action from one observation to numbers on the host. All take
turns in one process. ``offline`` is empty where the online update is the same.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from flowpolicy import runs
from flowpolicy.agents import SFP, fpmd_m, fpmd_r
from flowpolicy.agents.base import Agent, AgentConfig
from flowpolicy.bench.flops import Problem
from flowpolicy.bench.setting import made_up_rows
from flowpolicy.data.replay import UniformDraw, sample
from flowpolicy.nets import MLPCritic, MLPVelocity
from flowpolicy.refine import BestOfN
from flowpolicy.types import Spec, Transition

PROBLEM = Problem(obs=28, action=5, batch=128)
SPEC = Spec((PROBLEM.obs,), PROBLEM.action, offline_updates=100)
NAMED = (
    "bc", "fmq", "fmq-from-qc", "mvp", "qc", "fql", "gfp", "ifql", "qam", "qam-f", "qam-e", "bam",
    "rlpd", "swfp", "decision-flow",
)  # fmt: skip
UPDATES, ACTIONS = 2, 20
"""In one block."""
Work = Callable[[], Any]


def methods() -> dict[str, AgentConfig]:
    """By name, at the size of the small runs; FPMD and SFP have small runs of other tasks."""
    found = {name: runs.get(f"mini/{name}/cube-single-task1").config.agent for name in NAMED}
    velocity, critic = MLPVelocity(width=256, depth=3), MLPCritic(width=256, depth=3)
    for name, agent in (("fpmd-r", fpmd_r()), ("fpmd-m", fpmd_m())):
        actor = dataclasses.replace(agent.actor, width=256, depth=3)
        found[name] = dataclasses.replace(agent, actor=actor, critic=critic, bootstrap=BestOfN(8))
    return found | {"sfp": SFP(actor=velocity)}


def main(arguments: list[str] | None = None) -> None:
    """Compiles, times in turn, writes JSON, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods")
    parser.add_argument("--methods", nargs="*", default=None, help="all where none are named")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    options = parser.parse_args(arguments)
    machine = measure.machine()
    chosen = {k: v for k, v in methods().items() if k in (options.methods or methods())}
    made = {name: of(config) for name, config in chosen.items()}
    works = [pair for _, timed in made.values() for pair in timed.values()]
    measure.interleave(options.repeats, works)
    rows = [
        {"method": name, **told, **{what: blocks.summary() for what, (blocks, _) in timed.items()}}
        for name, (told, timed) in made.items()
    ]
    content = {
        "benchmark": "methods",
        "machine": machine,
        "protocol": f"{options.repeats} blocks of each in turn, of {UPDATES} updates or {ACTIONS} "
        "actions; other jobs ran where load_before is not near 0: take the CPU milliseconds",
        "rows": rows,
    }
    path = measure.write("methods", content, options.out)
    columns = ("method", "update", "offline", "a call to act", "actions a call", "NFE a call")
    table = [
        (
            row["method"], *(_ms(row.get(what)) for what in ("update", "offline", "act")),
            row["chunk"], row["nfe"],
        )
        for row in rows
    ]  # fmt: skip
    measure.show("CPU milliseconds, medians", columns, table)
    print(f"written: {path.name}")


def of(config: AgentConfig) -> tuple[dict[str, int], dict[str, tuple[measure.Blocks, Work]]]:
    """What acting takes, and blocks of updates and actions, compiled."""
    before = jax.jit(lambda key: config.init(key, SPEC))(jax.random.key(0))
    agent, batch = before.begin_online(jax.random.key(1)), drawn(config)
    works = {"update": updating(agent, batch), "act": acting(agent)}
    if jax.tree.structure(before) != jax.tree.structure(agent):
        works["offline"] = updating(before, batch)
    for work in works.values():
        jax.block_until_ready(work())
    count = {"update": UPDATES, "offline": UPDATES, "act": ACTIONS}
    told = {"chunk": config.view.chunk, "nfe": agent.cost(config.act).policy}
    return told, {what: (measure.Blocks(count[what]), work) for what, work in works.items()}


def drawn(config: AgentConfig) -> Transition:
    """A batch of made-up rows, as the method's view sees them."""
    rows, keys = made_up_rows(PROBLEM), jax.random.split(jax.random.key(2), PROBLEM.batch)
    rows = jax.tree.map(jnp.asarray, rows)
    return jax.jit(
        jax.vmap(lambda key: sample(key, rows, None, config.view, UniformDraw()))
    )(keys)  # fmt: skip


def updating(agent: Agent, batch: Transition) -> Work:
    """A block of updates, one after the other."""
    step = jax.jit(lambda agent, key: agent.update(key, batch)[0])

    def run() -> Agent:
        now = agent
        for i in range(UPDATES):
            now = step(now, jax.random.key(i))
        return now

    return run


def acting(agent: Agent) -> Work:
    """A block of actions, each of them waited for."""
    act = jax.jit(lambda agent, key, obs, memory: agent.act(key, obs, memory)[0])
    keys, obs = jax.random.split(jax.random.key(3), ACTIONS), np.zeros(PROBLEM.obs, np.float32)
    memory = agent.memory()
    return lambda: [np.asarray(act(agent, key, obs, memory)) for key in keys]


def _ms(summary: dict[str, Any] | None) -> str:
    return "" if summary is None else f"{summary['cpu_ms']['median']:.2f}"


if __name__ == "__main__":
    main()
