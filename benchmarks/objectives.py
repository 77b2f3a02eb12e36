"""Every objective of flow maps on one target: ``python -m benchmarks.objectives``.

The target is a checkerboard in the plane. Each objective trains the same net with the same number
of updates; samples at 1, 2, 4 and 8 jumps are compared with fresh ones of the target by the energy
distance. ``README.md`` says more.
"""

import argparse
import csv
import io
import itertools
import json
import resource
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks import measure
from flowpolicy.agents import cloning
from flowpolicy.flows import FlowMap, OnDiagonal, Term, Triangle, diagonal, jump
from flowpolicy.nets import Adam, MLPFlow, Plain, Trainable
from flowpolicy.report import style
from flowpolicy.report.distance import Noise, energy_distance, noise_of
from flowpolicy.train.durable import write as write_durably
from flowpolicy.types import Spec, Transition

ROOT = Path(__file__).parent.parent
JUMPS = (1, 2, 4, 8)
SPEC = Spec(obs=(1,), action=2)
COLUMNS = ("objective", "seed", *(f"jumps_{n}" for n in JUMPS), "cpu_seconds")
OBJECTIVES: dict[str, tuple[Term, ...]] = {
    "mean_flow": cloning.mean_flow_terms(Triangle()),
    "eulerian": cloning.esd_terms(),
    "lagrangian": cloning.lsd_terms(),
    "semigroup": cloning.psd_terms(),
    "midpoint": cloning.psd_midpoint_terms(),
    "shortcut": cloning.shortcut_terms(),
    "diagonal alone": (Term(diagonal, OnDiagonal()),),
}


class Budget(NamedTuple):
    """What every objective gets."""

    updates: int = 3_000
    batch: int = 512
    samples: int = 4_000
    width: int = 128
    depth: int = 3
    rate: float = 1e-3
    """Held for half of the updates, then lowered linearly to 0."""


def main(arguments: list[str] | None = None) -> None:
    """Trains, measures, writes CSV, JSON and the picture, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objectives")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    options = parser.parse_args(arguments)
    budget = Budget(updates=20, samples=100, width=8) if options.tiny else Budget()
    folder = options.out or measure.RESULTS
    clouds = options.out or ROOT / "runs" / "objectives"
    rows = recorded(folder, budget)
    noise = noise_of(
        checkerboard(jax.random.key(10_000), 20 * budget.samples), budget.samples,
        np.random.default_rng(0),
    )  # fmt: skip
    for seed, (name, terms) in itertools.product(options.seeds, OBJECTIVES.items()):
        cloud = clouds / f"{name}.npy"
        known = any((row["objective"], row["seed"]) == (name, seed) for row in rows)
        if known and (seed != options.seeds[0] or cloud.exists()):
            continue
        row, samples = one(name, terms, seed, budget)
        rows = [r for r in rows if (r["objective"], r["seed"]) != (name, seed)] + [row]
        if seed == options.seeds[0]:
            buffer = io.BytesIO()
            np.save(buffer, samples, allow_pickle=False)
            write_durably(cloud, buffer.getvalue())
        write(folder, rows, noise, budget)
        print(", ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)
    drawn = {name: np.load(clouds / f"{name}.npy", allow_pickle=False) for name in OBJECTIVES}
    draw((options.out or ROOT / "docs" / "images") / "objectives.png", summary(rows), noise, drawn)
    show(rows, noise)


def recorded(folder: Path, budget: Budget) -> list[dict[str, Any]]:
    """The rows of an earlier run that was stopped; none where its budget was another."""
    path = folder / "objectives.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    return content["rows"] if content["budget"] == budget._asdict() else []


def one(
    name: str, terms: tuple[Term, ...], seed: int, budget: Budget
) -> tuple[dict[str, Any], np.ndarray]:
    """The row of one objective and seed, and its one-jump samples."""
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    flow = jax.block_until_ready(train(terms, jax.random.key(seed), budget))
    seconds = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - begun, 1)
    samples = {n: draw_samples(flow, seed, n, budget) for n in JUMPS}
    target = checkerboard(jax.random.key(1_000 + seed), budget.samples)
    away = {f"jumps_{n}": energy_distance(x, target) for n, x in samples.items()}
    return {"objective": name, "seed": seed, **away, "cpu_seconds": seconds}, samples[1]


def write(folder: Path, rows: list[dict[str, Any]], noise: Noise, budget: Budget) -> None:
    """CSV and JSON of all rows so far, each rewritten as a whole."""
    content = {
        "benchmark": "objectives",
        "machine": measure.machine(),
        "budget": budget._asdict(),
        "noise": noise._asdict(),
        "over_seeds": summary(rows),
        "rows": rows,
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_durably(folder / "objectives.json", text.encode())
    write_csv(folder, rows)


def checkerboard(key: jax.Array, count: int) -> np.ndarray:
    """Uniform on the eight dark cells of a 4 x 4 board over [-2, 2]^2."""
    key_cell, key_where = jax.random.split(key)
    cell = np.asarray(jax.random.randint(key_cell, (count,), 0, 8))
    row, column = cell // 2, 2 * (cell % 2) + (cell // 2) % 2
    corner = np.stack([column, row], axis=-1)
    return (corner + np.asarray(jax.random.uniform(key_where, (count, 2)))) - 2.0


def train(terms: tuple[Term, ...], key: jax.Array, budget: Budget) -> FlowMap:
    """The flow map after all updates, on fresh samples of the target; its own teacher."""
    key_init, key_data, key_train = jax.random.split(key, 3)
    net = MLPFlow(width=budget.width, depth=budget.depth, embed=Plain())
    half = budget.updates // 2
    adam = Adam(rate=budget.rate, hold=half, anneal=half)
    start = Trainable.create(FlowMap(net.init(key_init, SPEC, 2), 2), adam)
    loss = cloning.Cloning(terms, budget.updates)
    board = jnp.asarray(checkerboard(key_data, 200_000), jnp.float32)

    def step(trainable: Trainable, i: jax.Array) -> tuple[Trainable, None]:
        key_batch, key_loss = jax.random.split(jax.random.fold_in(key_train, i))
        places = jax.random.randint(key_batch, (budget.batch,), 0, board.shape[0])
        batch = _transitions(board[places])
        gradient = jax.grad(lambda f: loss(key_loss, f, batch, i)[0])(trainable.model)
        return trainable.step(gradient), None

    return jax.jit(lambda t: jax.lax.scan(step, t, jnp.arange(budget.updates))[0])(start).model


def _transitions(action: jax.Array) -> Transition:
    none = jnp.zeros(action.shape[0])
    obs = none[:, None]
    return Transition(obs, action, none, none, obs, jnp.ones_like(action), none)


def draw_samples(flow: FlowMap, seed: int, jumps: int, budget: Budget) -> np.ndarray:
    """Samples of the flow map, (samples, 2), by ``jumps`` equal jumps."""
    noise = jax.random.normal(jax.random.key(2_000 + seed), (budget.samples, 2))
    times = np.linspace(0.0, 1.0, jumps + 1).tolist()
    return np.asarray(jax.jit(jax.vmap(lambda a: jump(flow, times, a, jnp.zeros(1))))(noise))


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, least and most over the seeds, for each objective and number of jumps."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(row["objective"] for row in rows):
        ours = [row for row in rows if row["objective"] == name]
        for column in COLUMNS[2:]:
            values = [row[column] for row in ours]
            spread = {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}
            table.setdefault(name, {})[column] = spread
    return table


def write_csv(folder: Path, rows: list[dict[str, Any]]) -> None:
    """All rows so far, rewritten as a whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: _short(v) for k, v in row.items()} for row in rows])
    write_durably(folder / "objectives.csv", text.getvalue().encode())


def show(rows: list[dict[str, Any]], noise: Noise) -> None:
    """The table: 1000 times the energy distance, mean over seeds with least and most."""
    lines = []
    for name, columns in summary(rows).items():
        cells = [columns[f"jumps_{n}"] for n in JUMPS]
        shown = [
            f"{1e3 * c['mean']:.1f} ({1e3 * c['min']:.1f}-{1e3 * c['max']:.1f})" for c in cells
        ]
        lines.append((name, *shown, f"{columns['cpu_seconds']['mean']:.0f}"))
    title = f"1000 x energy distance; noise {1e3 * noise.mean:.2f} +- {1e3 * noise.std:.2f}"
    measure.show(title, ("objective", *(f"{n} jumps" for n in JUMPS), "CPU s"), lines)


def draw(path: Path, table: dict[str, Any], noise: Noise, clouds: dict[str, np.ndarray]) -> None:
    """One-jump samples of each objective above its distance at each number of jumps."""
    with style.styled():
        figure = style.new_figure(12.0, 6.2)
        grid = figure.add_gridspec(2, len(clouds), height_ratios=[1.0, 1.7])
        for column, (name, points) in enumerate(clouds.items()):
            axes = figure.add_subplot(grid[0, column])
            axes.plot(*points.T, "o", ms=0.7, mew=0, color=style.PALETTE[column])
            axes.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", title=name)
            axes.set(xticks=[], yticks=[])
        axes = figure.add_subplot(grid[1, :])
        for colour, (name, columns) in zip(style.PALETTE, table.items(), strict=True):
            cells = [columns[f"jumps_{n}"] for n in JUMPS]
            means = [max(c["mean"], noise.std) for c in cells]
            axes.plot(JUMPS, means, "o-", color=colour, label=name)
        axes.axhspan(0, 2 * noise.std, color=style.LIGHT, label="noise of the estimate")
        axes.set(xscale="log", yscale="log", xlabel="jumps", ylabel="energy distance to the target")
        axes.xaxis.set_major_locator(FixedLocator(JUMPS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(n) for n in JUMPS])
        axes.legend(ncols=4)
    write_durably(path, style.png(figure))


def _short(value: Any) -> Any:
    return f"{value:.5f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
