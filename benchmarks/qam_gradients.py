"""Gradients of QAM and of its control against the steps: ``python -m benchmarks.qam_gradients``.

An agent learns the two-mode bandit by QAM; its velocities and critics are then kept, and the two
losses are differentiated by v on paths of 2 to 80 steps: with v the behaviour, where adaptation
begins, and with the v that it learned. 32 batches of 32 paths each; the picture shows the median
over batches and seeds, and the whole range. QAM's loss is divided by the steps, because it is a sum
over them and BAM's an integral.
"""

import argparse
import csv
import dataclasses
import functools
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from flowpolicy.agents import QAM
from flowpolicy.agents.qam import Improvement, QAMAgent, back_propagate, match_adjoint
from flowpolicy.envs.toy import two_mode_data
from flowpolicy.flows import FlowMap
from flowpolicy.nets import Adam, MLPCritic, MLPVelocity
from flowpolicy.nets.optimise import gradient_norm
from flowpolicy.report import style
from flowpolicy.train.durable import write as write_durably
from flowpolicy.types import Spec, Transition

ROOT = Path(__file__).parent.parent
STEPS = (2, 3, 5, 10, 20, 40, 80)
LOSSES: dict[str, Improvement] = {"QAM": match_adjoint, "BAM": back_propagate}
COLUMNS: tuple[str, ...] = ("seed", "velocity", "loss", "steps", "low", "median", "high")
DRAWS, BATCH = 32, 32


def main(arguments: list[str] | None = None) -> None:
    """Trains, measures, writes CSV and picture, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.qam_gradients")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    options = parser.parse_args(arguments)
    rows = [row for seed in options.seeds for row in of_seed(seed, options.updates)]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    )
    folder = options.out or measure.RESULTS
    write_durably(folder / "qam_gradients.csv", text.getvalue().encode())
    draw((options.out or ROOT / "docs" / "images") / "qam_gradients.png", rows)
    show(rows)


def of_seed(seed: int, updates: int) -> list[dict[str, Any]]:
    """Rows of one seed: both losses, at the start of adaptation and after it."""
    agent = trained(jax.random.split(jax.random.key(seed), updates + 1))
    velocities = {"v = behaviour": agent.base, "adapted v": agent.actor.model}
    keys = jax.random.split(jax.random.key(1_000 + seed), DRAWS)
    rows = []
    for name, flow in velocities.items():
        for steps in STEPS:
            for loss in LOSSES:
                found = np.asarray(norms(keys, agent, flow, loss=loss, steps=steps))
                low, median, high = (float(q) for q in np.quantile(found, (0.0, 0.5, 1.0)))
                rows.append(
                    dict(zip(COLUMNS, (seed, name, loss, steps, low, median, high), strict=True))
                )
    return rows


def batch_of(action: jax.Array) -> Transition:
    """Episodes of one action, worth 1 at (0.5, 0) and 0.6 at (-0.5, 0)."""
    bumps = jnp.array([[-0.5, 0.0], [0.5, 0.0]])
    square = jnp.sum(jnp.square(action[:, None] - bumps[None]), axis=-1)
    reward = jnp.exp(-square / (2 * 0.2**2)) @ jnp.array([0.6, 1.0])
    none, obs = jnp.zeros(len(action)), jnp.zeros((len(action), 1))
    return Transition(obs, action, reward, none, obs, jnp.ones_like(action), none + 1.0)


CONFIG = QAM(
    chunk=1,
    inverse_temperature=10.0,
    ensemble=2,
    tau=0.02,
    optimiser=Adam(rate=3e-3, clip=1.0),
    actor=MLPVelocity(width=64, depth=2),
    critic=MLPCritic(width=64, depth=2),
)
"""Ten steps, nets of 2 x 64."""


@jax.jit
def trained(keys: jax.Array) -> QAMAgent:
    """QAM after an update on the bandit for each key but the first."""
    data = jnp.asarray(two_mode_data(2_000, 0)["action"])

    def step(agent: QAMAgent, key: jax.Array) -> tuple[QAMAgent, None]:
        key_rows, key_update = jax.random.split(key)
        action = data[jax.random.randint(key_rows, (64,), 0, len(data))]
        return agent.update(key_update, batch_of(action))[0], None

    start = CONFIG.init(keys[0], Spec((1,), 2, keys.shape[0] - 1))
    return jax.lax.scan(step, start, keys[1:])[0]


@functools.partial(jax.jit, static_argnames=("loss", "steps"))
def norms(keys: jax.Array, agent: QAMAgent, flow: FlowMap, *, loss: str, steps: int) -> jax.Array:
    """A gradient's norm for each key's batch; QAM's loss as a mean over steps, not a sum."""
    config, improve = dataclasses.replace(CONFIG, steps=steps), LOSSES[loss]
    batch = batch_of(jnp.zeros((BATCH, 2)))
    share = 1.0 / steps if improve is match_adjoint else 1.0

    def norm(key: jax.Array) -> jax.Array:
        slope = jax.grad(
            lambda f: share * improve(config, key, f, agent.base, agent.critic, batch)[0]
        )(flow)
        return gradient_norm(slope)

    return jax.lax.map(norm, keys)


def over_seeds(rows: list[dict[str, Any]], velocity: str, loss: str) -> np.ndarray:
    """Least, median and largest norm for each number of steps, (steps, 3)."""
    found = []
    for steps in STEPS:
        which = velocity, loss, steps
        ours = [r for r in rows if (r["velocity"], r["loss"], r["steps"]) == which]
        low, high = min(r["low"] for r in ours), max(r["high"] for r in ours)
        found.append((low, float(np.median([r["median"] for r in ours])), high))
    return np.array(found)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """A panel for each velocity, a curve and its whole range for each loss."""
    velocities = list(dict.fromkeys(row["velocity"] for row in rows))
    with style.styled():
        figure = style.new_figure(9.0, 3.6)
        for column, velocity in enumerate(velocities, start=1):
            axes = figure.add_subplot(1, len(velocities), column)
            for colour, loss in zip(style.PALETTE, LOSSES, strict=False):
                low, median, high = over_seeds(rows, velocity, loss).T
                axes.plot(STEPS, median, "o-", color=colour, label=loss)
                axes.fill_between(STEPS, low, high, color=colour, alpha=0.2, lw=0)
            axes.set(xscale="log", yscale="log", title=velocity, xlabel="steps of the SDE")
            axes.set_xticks(STEPS, [str(n) for n in STEPS])
            axes.set_xticks([], minor=True)
            if column == 1:
                axes.set_ylabel("norm of the gradient")
                axes.legend()
    write_durably(path, style.png(figure))


def show(rows: list[dict[str, Any]]) -> None:
    """Median and largest norm over batches and seeds."""
    lines = []
    for velocity in dict.fromkeys(row["velocity"] for row in rows):
        for loss in LOSSES:
            table = over_seeds(rows, velocity, loss)
            lines.append((velocity, loss, *(f"{m:.3g} ({h:.3g})" for _, m, h in table)))
    measure.show("gradient norm, median (largest)", ("velocity", "loss", *map(str, STEPS)), lines)


if __name__ == "__main__":
    main()
