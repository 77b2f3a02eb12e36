"""Streaming against chunks on demonstrations of two ways: ``python -m benchmarks.streaming``.

Three streaming flow policies (deterministic with and without the gain, and with a latent) and a
chunk flow policy of 10 Euler steps, all with the same trunk, samples and updates, clone scripted
demonstrations of two ways around an obstacle (``envs/ways.py``). Measured: success, the share that
goes above, the time to the first action, and, after a push off the way, success again and how far
off the point still is.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from flowpolicy.agents import BC
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import flow_matching_terms
from flowpolicy.data.replay import UniformDraw, sample
from flowpolicy.envs.ways import STEPS, TwoWays, way
from flowpolicy.flows import Integrated, Stabilised
from flowpolicy.nets import MLPVelocity
from flowpolicy.refine import OneStep
from flowpolicy.runs.streaming import WAYS_TUBES, chunked, streaming
from flowpolicy.runs.tasks import TwoWaysTask
from flowpolicy.types import Spec

EPISODES, BATCH, EULER = 100, 128, 10
PUSH, PUSHED_AT, LATER = 0.12, 8, 6
"""How far up or down, before which action (where a trajectory begins), and when one looks again."""
COLUMNS = (
    "policy", "success", "above", "first_action_us", "first_action_large_us", "pushed_success",
    "still_off",
)  # fmt: skip
SMALL, LARGE = MLPVelocity(width=64, depth=3), MLPVelocity(width=512, depth=4)
"""The trunk that is trained, and one at the papers' size, whose first action alone is timed."""
Act = Callable[..., Any]


def policies(trunk: MLPVelocity = SMALL) -> dict[str, AgentConfig]:
    """By name; all with the same trunk."""
    tubes = WAYS_TUBES | {"sfp, gain 0": Stabilised(0.05, 0.0)}
    agents: dict[str, AgentConfig] = {
        name: dataclasses.replace(streaming(t), actor=trunk) for name, t in tubes.items()
    }
    chunks = dataclasses.replace(chunked(), terms=flow_matching_terms(), actor=trunk)
    return agents | {"chunk flow": chunks}


def main(arguments: list[str] | None = None) -> None:
    """Trains, plays, times, writes the results and prints them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming")
    parser.add_argument("--updates", type=int, default=3_000)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    machine, begun = measure.machine(), time.process_time()
    made = {name: trained(config, options.updates) for name, config in policies().items()}
    calls = {name: acting(policies()[name], agent) for name, agent in made.items()}
    small, large = first_action(untrained(SMALL)), first_action(untrained(LARGE))
    rows = []
    for name, call in calls.items():
        free, pushed = (play(call, made[name], push) for push in (0.0, PUSH))
        many = policies()[name].view.chunk
        rows.append(
            {
                "policy": name,
                "success": free["success"],
                "above": free["above"],
                "first_action_us": small[name]["least"],
                "first_action_large_us": large[name]["least"],
                "first_action_medians_us": [small[name]["median"], large[name]["median"]],
                "actions_a_call": many,
                "pushed_success": pushed["success"],
                "still_off": pushed["still_off"],
            }
        )
    content = {"machine": machine, "updates": options.updates, "episodes": EPISODES, "rows": rows}
    content |= {"push": PUSH, "cpu_seconds": round(time.process_time() - begun, 1)}
    if not options.dry:
        measure.write("streaming", content)
    shown = [tuple(_short(row[column]) for column in COLUMNS) for row in rows]
    measure.show(f"two ways; {content['cpu_seconds']} CPU seconds", COLUMNS, shown)


def trained(config: AgentConfig, updates: int) -> Any:
    """An agent after ``updates`` updates on the demonstrations."""
    rows = jax.tree.map(jnp.asarray, TwoWaysTask().dataset().rows)
    agent = config.init(jax.random.key(0), Spec((2,), 2, updates))

    def step(agent: Any, key: jax.Array) -> tuple[Any, None]:
        key_data, key_update = jax.random.split(key)
        keys = jax.random.split(key_data, BATCH)
        batch = jax.vmap(lambda k: sample(k, rows, None, config.view, UniformDraw()))(keys)
        return agent.update(key_update, batch)[0], None

    keys = jax.random.split(jax.random.key(1), updates)
    return jax.block_until_ready(jax.jit(lambda a: jax.lax.scan(step, a, keys)[0])(agent))


def untrained(trunk: MLPVelocity) -> dict[str, tuple[Any, Act]]:
    """Agents as they are built, and how they act."""
    ways = {}
    for name, config in policies(trunk).items():
        agent = jax.jit(lambda key, config=config: config.init(key, Spec((2,), 2)))(
            jax.random.key(0)
        )
        ways[name] = agent, acting(config, agent)
    return ways


def acting(config: AgentConfig, agent: Any) -> Act:
    """``(agent, key, obs, memory)`` to a chunk and memory: the chunk flow by its Euler steps."""
    if not isinstance(config, BC):
        return lambda agent, key, obs, memory: agent.act(key, obs, memory)

    def euler(agent: Any, key: jax.Array, obs: jax.Array, memory: Any) -> Any:
        flow = Integrated(agent.actor.model, EULER)
        return OneStep()(key, flow, lambda a: jnp.zeros(()), obs), memory

    return euler


def first_action(
    ways: dict[str, tuple[Any, Act]], calls: int = 300, obs_size: int = 2
) -> dict[str, dict[str, float]]:
    """Microseconds from an observation to the first action on the host, taken in turns so that all
    see the same machine; on a busy one the median tells of other jobs, and the least of this one.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    compiled = {name: jax.jit(call) for name, (_, call) in ways.items()}
    memories = {name: agent.memory() for name, (agent, _) in ways.items()}
    keys, obs = jax.random.split(jax.random.key(2), calls), np.zeros(obs_size, np.float32)
    for i in range(calls):
        for name, (agent, _) in ways.items():
            begun = time.perf_counter()
            np.asarray(compiled[name](agent, keys[i], obs, memories[name])[0])
            found[name].append(1e6 * (time.perf_counter() - begun))
    return {
        name: {"least": round(min(times), 1), "median": round(float(np.median(times[5:])), 1)}
        for name, times in found.items()
    }


def play(call: Act, agent: Any, push: float) -> dict[str, float]:
    """Episodes side by side: share of successes, share that went above, and, ``LATER`` steps after
    a push, how far from the nearest point of either way they are on average.
    """
    envs = [TwoWays() for _ in range(EPISODES)]
    obs = np.stack([env.reset(i) for i, env in enumerate(envs)])
    sides = np.random.default_rng(0).choice([-1.0, 1.0], EPISODES)
    act = jax.jit(jax.vmap(call, in_axes=(None, 0, 0, 0)))
    memory = jax.tree.map(lambda x: jnp.stack([x] * EPISODES), agent.memory())
    done, success = np.zeros(EPISODES, bool), np.zeros(EPISODES, bool)
    top, off, plan = np.zeros(EPISODES), np.full(EPISODES, np.nan), []
    for n in range(TwoWays.max_steps):
        if n == PUSHED_AT and push:
            moved = [
                env.push(np.array([0.0, push * s])) for env, s in zip(envs, sides, strict=True)
            ]
            obs = np.stack(moved)
        if not plan:
            keys = jax.random.split(jax.random.fold_in(jax.random.key(3), n), EPISODES)
            chunk, memory = act(agent, keys, obs, memory)
            plan = list(np.asarray(chunk).reshape(EPISODES, -1, 2).swapaxes(0, 1))
        action = plan.pop(0)
        for i in np.flatnonzero(~done):
            step = envs[i].step(action[i])
            obs[i], success[i] = step.obs, step.success
            done[i] = step.terminated or step.truncated
            top[i] = max(top[i], step.obs[1], key=abs)
            if n == PUSHED_AT + LATER - 1:
                off[i] = distance(step.obs)
    return {
        "success": float(success.mean()),
        "above": float((top > 0).mean()),
        "still_off": float(np.nanmean(off)),
    }


def distance(at: np.ndarray) -> float:
    """To the nearest point of either way."""
    points = np.concatenate([way(np.linspace(0, 1, 20 * STEPS), np.array(s)) for s in (-1.0, 1.0)])
    return float(np.linalg.norm(points - at, axis=-1).min())


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


if __name__ == "__main__":
    main()
