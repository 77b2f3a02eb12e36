"""Where the online loop's time goes, on a short run of a real task."""

from pathlib import Path
from typing import Any

import jax

from flowpolicy import api
from flowpolicy.data.collect import collect
from flowpolicy.runs import OGBench
from flowpolicy.train.clock import PARTS
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.phases import Evaluation, Offline, Online

RUN, ENVIRONMENT, ROWS, WARM = "mini/fmq/cube-single-task1", "cube-single", 2_000, 100
SHARES = (*PARTS, "rest")


def shares(
    folder: Path,
    *,
    steps: int,
    repeats: int,
    seeds: int = 1,
    hardware: Hardware | None = None,
) -> list[dict[str, Any]]:
    """The shares that a run in ``folder`` writes, one line for each of ``repeats`` online phases.

    ``RUN`` on ``ROWS`` rows that are collected first; ``WARM`` steps to compile are left out.
    """
    # Every phase compiles its collecting policy; found in a cache, that takes no time.
    cache_programs(folder / "compiled")
    file = folder / "play.npz"
    if not file.exists():
        collect(ENVIRONMENT, ROWS, file, episode_steps=200)
    run = api.train(
        RUN,
        task=OGBench("cube-single-task1", file=str(file)),
        seeds=range(seeds),
        phases=[
            Offline(20),
            Online(WARM, start_after=0),
            *[Online(steps, start_after=0)] * repeats,
        ],
        evaluation=Evaluation(every=0, final_episodes=0),
        checkpoint_every=1_000_000,
        out=_free(folder),
        hardware=hardware,
    )
    jax.config.update("jax_compilation_cache_dir", None)
    lines = [line for line in run.metrics() if "time/rest" in line and line["phase"] == "online"]
    return lines[1:]


def _free(folder: Path) -> Path:
    return next(p for i in range(10_000) if not (p := folder / f"run{i}").exists())


def cache_programs(folder: Path) -> None:
    """From here on every program that is compiled is kept in ``folder`` and found there again."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
