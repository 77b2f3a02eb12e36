"""One step against twenty, by how wide the policy is: ``python -m benchmarks.fpmd_gap``.

FPMD acts with one Euler step because its policies end up nearly deterministic. Here the law of the
action is given: N(0.3, spread^2), or half of it at each of two modes. A rectified flow (R) and a
MeanFlow map (M) learn it; R is sampled by 1 and by 20 Euler steps, M by one jump. Beside them
stands the exact velocity field, with which one step gives every sample the law's mean: its distance
to the law is the spread itself. ``docs/fpmd.md`` says more.
"""

import argparse
import csv
import io
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks import measure
from flowpolicy.agents import fpmd_m, fpmd_r
from flowpolicy.agents.cloning import Cloning
from flowpolicy.agents.fpmd import FPMD, Jumps
from flowpolicy.flows import FlowMap
from flowpolicy.nets import Adam, MLPFlow, MLPVelocity, Plain, Trainable
from flowpolicy.report import style
from flowpolicy.train.durable import write as write_durably
from flowpolicy.types import Spec, Transition

ROOT = Path(__file__).parent.parent
MEAN, SAMPLES, BATCH = 0.3, 4_000, 256
# Distance of either mode from the mean, and the standard deviation around it.
LAWS = {f"one mode, {w}": (0.0, w) for w in (0.4, 0.2, 0.1, 0.05, 0.025)} | {
    f"two modes, {w}": (w, 0.05) for w in (0.4, 0.2, 0.1)
}
COLUMNS: tuple[str, ...] = (
    "law",
    "std",
    "exact_1",
    "exact_20",
    "r_1",
    "r_20",
    "r_1_to_r_20",
    "m_1",
)
RATE = 3e-3


def main(arguments: list[str] | None = None) -> None:
    """Trains, measures, writes the CSV and the picture, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fpmd_gap")
    parser.add_argument("--updates", type=int, default=4_000)
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    options = parser.parse_args(arguments)
    begun = time.process_time()
    r = fpmd_r(actor=MLPVelocity(width=48, depth=2))
    m = fpmd_m(actor=MLPFlow(width=48, depth=2, embed=Plain()))
    noise = jax.random.normal(jax.random.key(7), (SAMPLES, 1))
    flows = {"r": train(r, options.updates), "m": train(m, options.updates)}
    samples = {
        "r_1": sample(flows["r"], 1, noise),
        "r_20": sample(flows["r"], 20, noise),
        "m_1": sample(flows["m"], 1, noise),
    }
    rows = [row(name, i, samples, np.asarray(noise)[:, 0]) for i, name in enumerate(LAWS)]
    write_csv((options.out or measure.RESULTS) / "fpmd_gap.csv", rows)
    draw((options.out or ROOT / "docs" / "images") / "fpmd_gap.png", rows, samples)
    shown = [tuple(_short(r[column]) for column in COLUMNS) for r in rows]
    title = f"W2 to the law; {time.process_time() - begun:.0f} CPU seconds"
    measure.show(title, COLUMNS, shown)


def law(key: jax.Array, away: jax.Array, width: jax.Array, count: int) -> jax.Array:
    """Samples of the law, (count, 1)."""
    key_side, key_width = jax.random.split(key)
    side = jax.random.rademacher(key_side, (count, 1), jnp.float32)
    return MEAN + away * side + width * jax.random.normal(key_width, (count, 1))


def train(config: FPMD, updates: int) -> FlowMap:
    """One flow map for every law, stacked; plain flow matching on its samples."""
    adam = Adam(rate=RATE, hold=updates // 2, anneal=updates // 2)
    loss = Cloning(config.terms, 0)
    none = jnp.zeros(BATCH)

    def one(away: jax.Array, width: jax.Array) -> FlowMap:
        net = config.actor.init(jax.random.key(1), Spec(obs=(1,), action=1), 1)

        def step(actor: Trainable, key: jax.Array) -> tuple[Trainable, None]:
            key_data, key_loss = jax.random.split(key)
            a = law(key_data, away, width, BATCH)
            data = Transition(none[:, None], a, none, none, none[:, None], jnp.ones_like(a), none)
            return loss.step(key_loss, actor, data, jnp.int32(0))[0], None

        keys = jax.random.split(jax.random.key(2), updates)
        return jax.lax.scan(step, Trainable.create(FlowMap(net, 1), adam), keys)[0].model

    away, width = (jnp.asarray(x) for x in zip(*LAWS.values(), strict=True))
    return jax.block_until_ready(jax.jit(jax.vmap(one))(away, width))


def sample(flow: FlowMap, steps: int, noise: jax.Array) -> np.ndarray:
    """Samples of every law's flow from the same noise, (laws, samples)."""
    zero, one, obs = jnp.zeros(()), jnp.ones(()), jnp.zeros(1)

    def draw_all(flow: FlowMap) -> jax.Array:
        return jax.vmap(lambda z: Jumps(flow, steps, 1.0).flow(zero, one, z, obs))(noise)

    return np.asarray(jax.jit(jax.vmap(draw_all))(flow))[..., 0]


def exact(away: float, width: float, steps: int, x: np.ndarray) -> np.ndarray:
    """Euler steps of the exact field of the law: the posterior's mean of a - x0 given x at t."""
    for i in range(steps):
        t = i / steps
        centres = MEAN + away * np.array([-1.0, 1.0])[:, None]
        variance = t**2 * width**2 + (1 - t) ** 2
        log_share = -((x - t * centres) ** 2) / (2 * variance)
        share = np.exp(log_share - log_share.max(0))
        slope = (t * width**2 - (1 - t)) / variance
        x = x + (share / share.sum(0) * (centres + slope * (x - t * centres))).sum(0) / steps
    return x


def row(name: str, i: int, samples: dict[str, np.ndarray], noise: np.ndarray) -> dict[str, Any]:
    """Wasserstein-2 distances to the law, by way of sampling; and from one step to twenty."""
    away, width = LAWS[name]
    truth = np.asarray(law(jax.random.key(100 + i), jnp.asarray(away), jnp.asarray(width), SAMPLES))
    ours = {way: drawn[i] for way, drawn in samples.items()}
    ours |= {f"exact_{n}": exact(away, width, n, noise) for n in (1, 20)}
    far = {way: distance(drawn, truth[:, 0]) for way, drawn in ours.items()}
    spread = float(np.hypot(away, width))
    gap = distance(ours["r_1"], ours["r_20"])
    return {"law": name, "std": spread, "r_1_to_r_20": gap, **far}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Wasserstein-2 between two sets of as many numbers: they are matched in order."""
    return float(np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: _short(v) for k, v in row.items()} for row in rows])
    write_durably(path, text.getvalue().encode())


def draw(path: Path, rows: list[dict[str, Any]], samples: dict[str, np.ndarray]) -> None:
    """Distance against spread for one mode; what becomes of two modes."""
    labels = {"r_1": "R, one step", "r_20": "R, 20 steps", "m_1": "M, one jump"}
    with style.styled():
        figure = style.new_figure(9.0, 3.6)
        left, right = figure.subplots(1, 2)
        single = [row for row in rows if row["law"].startswith("one")]
        x = [row["std"] for row in single]
        left.plot(x, x, color=style.LIGHT, lw=4, label="one exact step: the spread")
        double = list(LAWS).index("two modes, 0.4")
        bins = np.linspace(-0.5, 1.1, 60).tolist()
        for colour, (way, label) in zip(style.PALETTE, labels.items(), strict=False):
            left.plot(x, [row[way] for row in single], "o-", color=colour, label=label)
            right.hist(samples[way][double], bins, histtype="step", color=colour, label=label)
        left.set(xscale="log", yscale="log", xlabel="standard deviation of the policy")
        left.set(ylabel="distance to it (Wasserstein-2)")
        left.xaxis.set_major_locator(FixedLocator(x))
        left.xaxis.set_minor_locator(NullLocator())
        left.set_xticklabels([f"{w:g}" for w in x])
        right.set(xlabel="action", ylabel="samples", title="two modes, at -0.1 and 0.7")
        left.legend()
        right.legend()
    write_durably(path, style.png(figure))


def _short(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
