"""What the divergence guards add to an update: ``python -m benchmarks guards``.

The same updates with the guards of a run and without any, a block of each in turn, in one process.
Without means: no fault is looked for, no limit kept, and every gradient is followed as optax would,
so that the difference is all that guarding costs.
"""

from typing import Any
from unittest import mock

import numpy as np

from benchmarks import measure
from flowpolicy.bench import setting
from flowpolicy.nets import optimise
from flowpolicy.train.guards import Guard

REPEATS = 15
LIMIT = 0.02


def main() -> None:
    """Measures, prints, writes ``results/guards-<device>.json``."""
    machine, cases = measure.machine(), _cases()
    works = [(case[way], case[f"run {way}"]) for case in cases for way in ("unguarded", "guarded")]
    measure.interleave(REPEATS, works)
    results = {case["name"]: _result(case) for case in cases}
    lines = [
        measure.wanted(f"{name}: added share", result["added"], LIMIT, at_most=True)
        for name, result in results.items()
    ]
    path = measure.write(
        "guards",
        {
            "benchmark": "guards",
            "machine": machine,
            "protocol": f"{REPEATS} blocks of each in turn, sampling included; added: median over "
            "the pairs of blocks of guarded / unguarded - 1, by processor time; quartiles beside",
            "results": results,
            "wanted": lines,
        },
    )
    rows = [
        (
            name,
            *(f"{result[way]['wall_ms']['median']:.2f}" for way in ("unguarded", "guarded")),
            f"{100 * result['added']:.1f} %",
            f"{100 * result['quartiles'][0]:.1f} to {100 * result['quartiles'][1]:.1f} %",
        )
        for name, result in results.items()
    ]
    measure.show("guards", ("update", "without, ms", "with, ms", "added", "quartiles"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _cases() -> list[dict[str, Any]]:
    paper, demo = setting.paper(), setting.demo()
    return [
        _case("paper offline", paper, setting.PAPER, 4, online=False),
        _case("paper online", paper, setting.PAPER, 4, online=True),
        _case("demo offline", demo, setting.DEMO, 60, online=False),
        _case("demo online", demo, setting.DEMO, 60, online=True),
    ]


def _case(name: str, agent: Any, problem: Any, count: int, *, online: bool) -> dict[str, Any]:
    guarded = setting.Training(agent, problem, online=online, guard=Guard()).block(count)
    unguarded = setting.Training(agent, problem, online=online).block(count)
    guarded()
    with mock.patch.object(optimise, "either", lambda _, yes, __: yes()):
        unguarded()
    return {
        "name": name,
        "guarded": measure.Blocks(count),
        "unguarded": measure.Blocks(count),
        "run guarded": guarded,
        "run unguarded": unguarded,
    }


def _result(case: dict[str, Any]) -> dict[str, Any]:
    added = np.asarray(case["guarded"].cpu) / np.asarray(case["unguarded"].cpu) - 1.0
    low, middle, high = (round(float(x), 4) for x in np.quantile(added, (0.25, 0.5, 0.75)))
    return {
        "guarded": case["guarded"].summary(),
        "unguarded": case["unguarded"].summary(),
        "added": middle,
        "quartiles": [low, high],
    }
