"""FMQ and FQL beside straightforward ports of the reference updates.

``python -m benchmarks ports``. All of one process, a block of each in turn. A port does as the
released codes do: one dispatch per update, batches put together by numpy on the host. QC stands
there twice, so, and in its best form: many updates in one scan, sampled in the graph, its ten
Euler steps unchanged. FQL stands there thrice: our update, our update by single dispatches, and the
update as its released code is built (``reference_fql``). Sizes are those of the papers: 4 x 512
nets, twin critics, batch 256.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import measure, reference_fql
from flowpolicy.agents import FMQ, FQL, QC
from flowpolicy.bench import setting
from flowpolicy.types import Spec, Transition

REPEATS = 9
FQL_PROBLEM = setting.Problem(obs=40, action=5, batch=256)


def main() -> None:
    """Measures, prints, writes ``results/ports-<device>.json``."""
    machine = measure.machine()
    cases: dict[str, tuple[int, Callable[[], Any]]] = {
        "FMQ": (4, setting.Training(FMQ(), setting.PAPER, online=False).block(4)),
        "QC, scan": (2, setting.Training(QC(), setting.PAPER, online=False).block(2)),
        "QC, one dispatch an update": (2, port(QC(), setting.PAPER, 2)),
        "FQL": (50, setting.Training(FQL(), FQL_PROBLEM, online=False).block(50)),
        "FQL, one dispatch an update": (50, port(FQL(), FQL_PROBLEM, 50)),
        "FQL's reference": (50, reference(FQL_PROBLEM, 50)),
    }
    blocks = {name: measure.Blocks(count) for name, (count, _) in cases.items()}
    for _, run in cases.values():
        jax.block_until_ready(run())
    measure.interleave(REPEATS, [(blocks[name], run) for name, (_, run) in cases.items()])
    results = {name: one.summary() for name, one in blocks.items()}
    ratios = {
        "FMQ over QC, scan": _ratio(results, "QC, scan", "FMQ"),
        "FMQ over QC, one dispatch an update": _ratio(results, "QC, one dispatch an update", "FMQ"),
        "FQL over itself, one dispatch an update": _ratio(
            results, "FQL, one dispatch an update", "FQL"
        ),
        "FQL over its reference": _ratio(results, "FQL's reference", "FQL"),
    }
    lines = [
        measure.wanted("FMQ over QC, scan", ratios["FMQ over QC, scan"], 3.0, at_most=False),
        measure.wanted(
            "FQL over its reference", ratios["FQL over its reference"], 1.3, at_most=False
        ),
    ]
    path = measure.write(
        "ports",
        {
            "benchmark": "ports",
            "machine": machine,
            "protocol": f"{REPEATS} blocks of each in turn, sampling included; ratios of medians",
            "results": results,
            "ratios": ratios,
            "wanted": lines,
        },
    )
    rows = [
        (name, f"{r['wall_ms']['median']:.1f}", f"{r['wall_ms']['min']:.1f}-"
         f"{r['wall_ms']['max']:.1f}", f"{1e3 / r['wall_ms']['median']:.2f}")
        for name, r in results.items()
    ]  # fmt: skip
    measure.show("updates", ("what", "ms", "range", "per s"), rows)
    measure.show("ratios", ("what", "times"), [(k, f"{v:.2f}") for k, v in ratios.items()])
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _ratio(results: dict[str, Any], slow: str, fast: str) -> float:
    """How many times as many updates a second."""
    return round(results[slow]["wall_ms"]["median"] / results[fast]["wall_ms"]["median"], 3)


def port(agent: Any, problem: setting.Problem, count: int) -> Callable[[], Any]:
    """``count`` updates, each sampled by numpy and dispatched by itself."""
    rows, draws = setting.made_up_rows(problem), np.random.default_rng(0)
    spec = Spec((problem.obs,), problem.action, offline_updates=100)
    state = jax.jit(lambda key: agent.init(key, spec))(jax.random.key(0))
    update = jax.jit(lambda agent, key, batch: agent.update(key, batch), donate_argnums=0)
    key = jax.random.key(1)

    def run() -> Any:
        nonlocal state, key
        for _ in range(count):
            key, use = jax.random.split(key)
            batch = sequences(rows, draws, problem.batch, agent.view.chunk, agent.view.discount)
            state, _ = update(state, use, batch)
        return state

    return run


def reference(problem: setting.Problem, count: int) -> Callable[[], Any]:
    """``count`` updates of FQL's reference, each sampled by numpy and dispatched by itself."""
    rows, draws = setting.made_up_rows(problem), np.random.default_rng(0)
    state = reference_fql.init(jax.random.key(0), problem.obs, problem.action)
    key = jax.random.key(1)

    def step(state: Any, key: Any, batch: Transition) -> Any:
        noise = reference_fql.draw(key, problem.batch, problem.action)
        return reference_fql.update(state, noise, batch)

    update = jax.jit(step, donate_argnums=0)

    def run() -> Any:
        nonlocal state, key
        for _ in range(count):
            key, use = jax.random.split(key)
            batch = sequences(rows, draws, problem.batch, 1, FQL().discount)
            state, _ = update(state, use, batch)
        return state

    return run


def sequences(
    rows: Any, draws: np.random.Generator, batch: int, h: int, gamma: float
) -> Transition:
    """A batch of h-step transitions, put together on the host as QC's ``sample_sequence`` does."""
    starts = draws.integers(0, len(rows.reward) - h + 1, batch)
    places = starts[:, None] + np.arange(h)
    ended = rows.ended[places]
    valid = np.concatenate([np.ones((batch, 1), bool), ~np.logical_or.accumulate(ended, 1)], 1)
    valid = valid[:, :h].astype(np.float32)
    reward = (rows.reward[places] * gamma ** np.arange(h, dtype=np.float32) * valid).sum(1)
    alive = 1.0 - rows.terminated[places].max(1)
    action = rows.action[places].reshape(batch, -1)
    mask = np.repeat(valid, rows.action.shape[1], 1)
    return Transition(
        rows.obs[starts], action, reward.astype(np.float32),
        (gamma**h * alive).astype(np.float32), rows.next_obs[places[:, -1]], mask, valid[:, -1],
    )  # fmt: skip


if __name__ == "__main__":
    main()
