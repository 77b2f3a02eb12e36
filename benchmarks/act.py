"""Time of one action: one observation through ``Policy.act``, host to device and back included.

``python -m benchmarks act``. Nets of 4 x 512, observation 40, chunk of 5 x 5 actions.
"""

import time
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from flowpolicy.bench import setting
from flowpolicy.refine import QGBS, BestOfN, OneStep, Refiner
from flowpolicy.train.jax_actor import JaxActor
from flowpolicy.train.normalise import Identity
from flowpolicy.train.policy import Policy
from flowpolicy.types import Spec

CALLS, BLOCKS = 200, 12
REFINERS: dict[str, Refiner] = {
    "one_step": OneStep(),
    "best_of_n(32)": BestOfN(32),
    "qgbs(steps=1, beam=4, branches=4)": QGBS(steps=1, beam=4, branches=4),
}
LIMIT_MS = 0.25


def main() -> None:
    """Measures, prints, writes ``results/act-<device>.json``."""
    machine, observations = measure.machine(), _observations()
    policies = {name: _policy(refiner) for name, refiner in REFINERS.items()}
    for policy in policies.values():
        policy.warm_up()
        _block(policy, observations)
    times = {name: [] for name in policies}
    for _ in range(BLOCKS):
        for name, policy in policies.items():
            times[name].append(_block(policy, observations))
    results = {
        name: {"nfe": REFINERS[name].nfe, **_result(np.asarray(blocks))}
        for name, blocks in times.items()
    }
    lines = [
        measure.wanted("one_step: p50 ms", results["one_step"]["p50_ms"], LIMIT_MS, at_most=True)
    ]
    path = measure.write(
        "act",
        {
            "benchmark": "act",
            "machine": machine,
            "protocol": f"{BLOCKS} blocks of {CALLS} calls of each refiner in turn, wall time of "
            "each call",
            "results": results,
            "wanted": lines,
        },
    )
    rows = [
        (name, r["nfe"], r["p50_ms"], r["p99_ms"], f"{r['block_p50_ms']['min']:.3f}-"
         f"{r['block_p50_ms']['max']:.3f}")
        for name, r in results.items()
    ]  # fmt: skip
    measure.show("one action", ("refiner", "NFE", "p50 ms", "p99 ms", "p50 of blocks"), rows)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _observations() -> np.ndarray:
    draws = np.random.default_rng(0)
    return draws.standard_normal((CALLS, setting.PAPER.obs), np.float32)


def _policy(refiner: Refiner) -> Policy:
    config, problem = setting.paper(), setting.PAPER
    spec = Spec((problem.obs,), problem.action)
    agent = jax.jit(lambda key: config.init(key, spec))(jax.random.key(0))
    actor = JaxActor(agent, Identity().fit(None), spec, config.chunk, refiner=refiner)
    return Policy(actor)


def _block(policy: Policy, observations: np.ndarray) -> list[float]:
    seconds = []
    for obs in observations:
        started = time.perf_counter()
        policy.act(obs)
        seconds.append(time.perf_counter() - started)
    return seconds


def _result(seconds: np.ndarray) -> dict[str, Any]:
    p50, p99 = 1000.0 * np.percentile(seconds, [50, 99])
    return {
        "calls": seconds.size,
        "p50_ms": round(float(p50), 4),
        "p99_ms": round(float(p99), 4),
        "block_p50_ms": measure.spread(np.median(seconds, axis=1)),
    }


if __name__ == "__main__":
    main()
