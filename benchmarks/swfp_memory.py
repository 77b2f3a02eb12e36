"""Memory and time of SWFP's blocks against end-to-end tuning: ``python -m benchmarks.swfp_memory``.

One gradient of all blocks, by SWFP's own losses and by back-propagation through the cascade, for
several numbers of blocks, at the size of the small runs (observation 28, a chunk of 5 x 5, batch
128, nets of 3 x 256). Memory is what XLA reserves for intermediate values (``temp``); arguments and
the gradient itself, which are the same for both and grow with the blocks, stand beside it.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure
from flowpolicy.agents.reconstructed import SWFP
from flowpolicy.agents.reconstructed.swfp import Improvement, end_to_end, stepwise
from flowpolicy.flows import FlowMap, cut
from flowpolicy.nets import MLPCritic, MLPVelocity
from flowpolicy.types import Spec, Transition
from flowpolicy.values import Critic

COUNTS = (2, 5, 10, 20, 40)
LOSSES: dict[str, Improvement] = {"stepwise": stepwise, "end to end": end_to_end}
CONFIG = SWFP(actor=MLPVelocity(width=256, depth=3), critic=MLPCritic(width=256, depth=3))
SPEC, BATCH = Spec((28,), 5), 128
MIB = 2.0**20


def main(arguments: list[str] | None = None) -> None:
    """Compiles, times in turn, writes JSON, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swfp_memory")
    parser.add_argument("--counts", nargs="*", type=int, default=list(COUNTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    options = parser.parse_args(arguments)
    machine = measure.machine()
    rows = [row for count in options.counts for row in of(count, options.repeats)]
    measure.write("swfp_memory", {"machine": machine, "rows": rows}, options.out)
    columns = ("blocks", "loss", "temp MiB", "arguments MiB", "gradient MiB", "cpu ms", "wall ms")
    table = [
        (
            row["blocks"], row["loss"], row["temp_mib"], row["arguments_mib"], row["gradient_mib"],
            row["cpu_ms"]["median"], row["wall_ms"]["median"],
        )
        for row in rows
    ]  # fmt: skip
    measure.show("one gradient of all blocks", columns, table)


def of(count: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each loss: memory in MiB, milliseconds of ``repeats`` gradients in turn."""
    problem = problem_of(count)
    programs = {name: program(loss, problem) for name, loss in LOSSES.items()}
    times = {name: measure.Blocks(1) for name in programs}
    for run in programs.values():
        jax.block_until_ready(run(*problem))
    measure.interleave(
        repeats, [(times[name], lambda run=run: run(*problem)) for name, run in programs.items()]
    )
    return [
        {**times[name].summary(), "blocks": count, "repeats": repeats, "loss": name, **memory(run)}
        for name, run in programs.items()
    ]


def problem_of(count: int) -> tuple[Any, ...]:
    """``(key, blocks, previous, critic, batch)``; the blocks have moved since the previous ones."""
    size = CONFIG.chunk * SPEC.action
    flows = [FlowMap(CONFIG.actor.init(jax.random.key(i), SPEC, size), size) for i in (0, 1)]
    critic = Critic.create(jax.random.key(2), 2, lambda k: CONFIG.critic.init(k, SPEC, size))
    obs, one = jax.random.normal(jax.random.key(3), (BATCH, 28)), jnp.ones(BATCH)
    action = jnp.zeros((BATCH, size))
    batch = Transition(obs, action, one, one, obs, jnp.ones_like(action), one)
    return jax.random.key(4), *(cut(flow, count) for flow in flows), critic, batch


def program(loss: Improvement, problem: tuple[Any, ...]) -> Any:
    """The compiled gradient by ``loss``."""
    return jax.jit(lambda *inputs: loss(CONFIG, *inputs)).lower(*problem).compile()


def memory(run: Any) -> dict[str, float]:
    """What XLA reserves, in MiB."""
    said = run.memory_analysis()
    return {
        "temp_mib": round(said.temp_size_in_bytes / MIB, 2),
        "arguments_mib": round(said.argument_size_in_bytes / MIB, 2),
        "gradient_mib": round(said.output_size_in_bytes / MIB, 2),
    }


if __name__ == "__main__":
    main()
