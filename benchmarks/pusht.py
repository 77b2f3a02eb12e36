"""Streaming against chunks on Push-T: ``python -m benchmarks.pusht``; needs the extra pusht.

SFP with and without the gain, with a latent, and of one observation (as the chunk flow) for two,
and a chunk flow policy of 10 Euler steps with the same trunk, batches and updates, clone
demonstrations of the scripted finger (collected where they are missing). Measured: success, the
share of the outline covered at best, the time to the first action; and the same where the finger is
put ``PUSH`` pixels aside before every 40th action, when all look at it again. Actions are
positions, as in SFP's released code; with ``--aims`` they are what the script told the finger
(``PushT.positions``). A finished training is not run again.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import flowpolicy as fp
from benchmarks import measure
from benchmarks.streaming import Act, acting, first_action
from flowpolicy import runs
from flowpolicy.agents import BC
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.cloning import flow_matching_terms
from flowpolicy.envs.pusht import PushTEnv
from flowpolicy.flows import Stabilised
from flowpolicy.nets import Fourier, MLPVelocity
from flowpolicy.runs.pusht import demonstrate_pusht
from flowpolicy.types import Spec

ROOT = Path(__file__).parent.parent
TRUNK = MLPVelocity(width=256, depth=3, embed=Fourier())
EPISODES, FULL = 100, 0.95
"""Of a figure; coverage at which the reward is 1."""
PUSH, EVERY = 30.0, 40
ROWS = 50_000
COLUMNS = (
    "policy", "success", "covered", "pushed_success", "pushed_covered", "first_action_us",
)  # fmt: skip


def policies() -> dict[str, AgentConfig]:
    """By name; all with the same trunk and optimiser, and 4 actions from one observation."""
    sfp, latent = (runs.get(f"mini/{name}/pusht").config.agent for name in ("sfp", "sfp-latent"))
    chunks = runs.get("mini/bc/pusht").config.agent
    assert isinstance(chunks, BC)
    return {
        "sfp": sfp,
        "sfp, gain 0": dataclasses.replace(sfp, tube=Stabilised(0.1, 0.0)),  # pyright: ignore
        "sfp, one observation": dataclasses.replace(sfp, history=1),  # pyright: ignore
        "sfp, latent": latent,
        "chunk flow": dataclasses.replace(chunks, terms=flow_matching_terms(), actor=TRUNK),
    }


def main(arguments: list[str] | None = None) -> None:
    """Trains what is missing, plays, times, writes the results and prints them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pusht")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "pusht")
    parser.add_argument("--aims", action="store_true", help="actions as the script gave them")
    parser.add_argument("--tiny", action="store_true", help="a check of this script, no result")
    options = parser.parse_args(arguments)
    machine = measure.machine()
    out = options.out / ("aims" if options.aims else "positions")
    task = task_of(out, aims=options.aims, tiny=options.tiny)
    agents = {k: trained(k, v, task, out, tiny=options.tiny) for k, v in policies().items()}
    calls = {name: acting(policies()[name], agent) for name, agent in agents.items()}
    times = first_action(untrained(policies()), obs_size=6)
    rows = []
    for name, call in calls.items():
        free, pushed = (play(call, agents[name], task, options.episodes, by) for by in (0.0, PUSH))
        rows.append({"policy": name, **free, **{f"pushed_{k}": v for k, v in pushed.items()}})
        rows[-1] |= {"first_action_us": times[name]["least"], "NFE": 1 if "sfp" in name else 10}
    content = {"machine": machine, "episodes": options.episodes, "push": PUSH, "rows": rows}
    name = "pusht-aims" if options.aims else "pusht"
    measure.write(name, content, options.out if options.tiny else None)
    shown = [tuple(_short(row[column]) for column in COLUMNS) for row in rows]
    measure.show(f"Push-T, {options.episodes} episodes each", COLUMNS, shown)


def task_of(out: Path, *, aims: bool, tiny: bool) -> fp.PushT:
    """Push-T, its demonstrations collected where they are missing."""
    task = fp.PushT(rows=ROWS, positions=not aims)
    if tiny:
        task = dataclasses.replace(task, file=str(out / "play.npz"), rows=0)
    if not task.path.exists():
        demonstrate_pusht(200 if tiny else ROWS, task.path)
    return task


def trained(name: str, agent: AgentConfig, task: fp.PushT, out: Path, *, tiny: bool) -> Any:
    """The agent after its updates on the demonstrations."""
    base = f"mini/{'bc' if isinstance(agent, BC) else 'sfp'}/pusht"
    config = runs.get(base).config
    folder = out / name.replace(", ", "-").replace(" ", "-")
    run, updates = fp.Run(folder), 20 if tiny else config.offline_updates
    if not any(row.step == updates for row in run.evaluations()):
        evaluation = dataclasses.replace(config.evaluation, every=0, final_episodes=2)
        changes = {"agent": agent, "task": task, "evaluation": evaluation}
        changes |= {"phases": (fp.Offline(updates),), "checkpoint_every": updates}
        run = fp.train(base, seeds=[0], out=folder, **changes)
    start, _ = run.load()
    return jax.tree.map(lambda leaf: leaf[0], start.agents)


def untrained(configs: dict[str, AgentConfig]) -> dict[str, tuple[Any, Act]]:
    """Agents as they are built, and how they act."""
    spec, key = Spec((6,), 2), jax.random.key(0)
    return {
        name: (config.init(key, spec), acting(config, None)) for name, config in configs.items()
    }


def play(call: Act, agent: Any, task: fp.PushT, episodes: int, push: float) -> dict[str, float]:
    """Shares of success and of coverage at best, episodes side by side."""
    envs = [cast(PushTEnv, task.env()) for _ in range(episodes)]
    draws, key = np.random.default_rng(0), jax.random.key(1)
    act = jax.jit(jax.vmap(call, in_axes=(None, 0, 0, 0)))
    obs = np.stack([env.reset(500 + i) for i, env in enumerate(envs)])
    memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *x.shape)), agent.memory())
    best, done, chunks = np.zeros(episodes), np.zeros(episodes, bool), None
    for step in range(envs[0].max_steps):
        if push and step and step % EVERY == 0:
            for i in np.flatnonzero(~done):
                obs[i, :2] = aside(envs[i], push * draws.normal(size=2))
        if chunks is None or not chunks.shape[1]:
            key, now = jax.random.split(key)
            found, memory = act(agent, jax.random.split(now, episodes), obs, memory)
            chunks = np.asarray(found).reshape(episodes, -1, 2)
        for i in np.flatnonzero(~done):
            told = envs[i].step(chunks[i, 0])
            obs[i], best[i] = told.obs, max(best[i], told.reward * FULL)
            done[i] = told.terminated
        chunks = chunks[:, 1:]
    return {"success": float(done.mean()), "covered": float(best.mean())}


def aside(env: PushTEnv, by: np.ndarray) -> np.ndarray:
    """Puts the finger elsewhere; where it is then, in units of actions."""
    board = env.board()
    scene = board.scene()
    board.arrange(scene._replace(finger=np.clip(scene.finger + by, 20.0, 490.0)))
    return board.scene().finger / 256.0 - 1.0


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


if __name__ == "__main__":
    main()
