"""What our wrapper of Gymnasium's environments costs, and environment steps per second per task.

``python -m benchmarks environments``. Both sides step the same environment with the same random
actions in one process, in blocks that take turns; resets are not counted.
"""

import time
from typing import Any

import gymnasium
import numpy as np

from benchmarks import measure
from flowpolicy.envs.gymnasium import make_gymnasium

NAMES = ("InvertedPendulum-v5", "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5",
         "Humanoid-v5", "Pendulum-v1")  # fmt: skip
JUDGED = NAMES[:-1]
"""Pendulum-v1 is a line of numpy: all that is around it counts, so it is told and not judged."""
STEPS, BLOCKS = 500, 21
LIMIT = 0.10


def main() -> None:
    """Measures, prints, writes ``results/environments-<device>.json``."""
    results = {name: _measured(name) for name in NAMES}
    lines = [
        measure.wanted(f"{name}, overhead", results[name]["overhead"], LIMIT, at_most=True)
        for name in JUDGED
    ]
    path = measure.write(
        "environments",
        {
            "benchmark": "environments",
            "machine": measure.machine(),
            "protocol": f"{BLOCKS} blocks of {STEPS} steps each way, taking turns; the median "
            "processor time of a step, by which rates are those of a machine that does nothing "
            "else; bare is gymnasium.make(name, disable_env_checker=True)",
            "results": results,
            "wanted": lines,
        },
    )
    rows = [
        (name, f"{r['bare']:,.0f}", f"{r['ours']:,.0f}", f"{100 * r['overhead']:.1f} %")
        for name, r in results.items()
    ]
    measure.show("environment steps per second", ("task", "bare", "ours", "overhead"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _measured(name: str) -> dict[str, float]:
    ours, bare = make_gymnasium(name), gymnasium.make(name, disable_env_checker=True)
    unit = np.random.default_rng(0).uniform(-1, 1, (STEPS, ours.action_size)).astype(np.float32)
    own = ours._box.from_unit(unit)
    taken: dict[str, list[float]] = {"bare": [], "ours": []}
    for block in range(BLOCKS):
        taken["bare"] += _timed(bare.step, lambda s: bare.reset(seed=s), own, block)
        taken["ours"] += _timed(ours.step, ours.reset, unit, block)
    bare.close()
    ours.close()
    median = {side: float(np.median(times)) for side, times in taken.items()}
    return {
        **{side: round(1 / seconds, 1) for side, seconds in median.items()},
        "overhead": round(median["ours"] / median["bare"] - 1, 4),
    }


def _timed(step: Any, reset: Any, actions: np.ndarray, seed: int) -> list[float]:
    """Seconds of this thread for every step."""
    reset(seed)
    taken = []
    for action in actions:
        began = time.thread_time()
        told = step(action)
        taken.append(time.thread_time() - began)
        if any(told[2:4]):  # terminated, truncated
            reset(seed)
    return taken


if __name__ == "__main__":
    main()
