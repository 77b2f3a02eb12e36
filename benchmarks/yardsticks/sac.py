"""SAC of another library on the environments of FPMD's small runs: a yardstick, not a rival.

It runs in an environment of its own (``requirements.txt`` beside it), imports nothing of this
library, and has SBX's defaults but for the random steps, which are FPMD's:

    python sac.py Hopper-v5 --steps 30000 --out ../results/yardstick_sac.csv

Evaluations are the mean action's, every fifth of the steps, 5 episodes and 10 at the end.
"""

import argparse
import csv
import time
from pathlib import Path

import gymnasium
import numpy as np
import sbx

COLUMNS = ("method", "environment", "seed", "step", "episodes", "return", "seconds")
RANDOM = 500


def main() -> None:
    """Trains in five parts and writes a row after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("environment")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    name, steps, seed = options.environment, options.steps, options.seed
    model = sbx.SAC("MlpPolicy", gymnasium.make(name), learning_starts=RANDOM, seed=seed)
    began = time.perf_counter()
    for part in range(1, 6):
        model.learn(steps // 5, reset_num_timesteps=part == 1)
        episodes = 10 if part == 5 else 5
        earned = evaluate(model, name, episodes)
        seconds = round(time.perf_counter() - began, 1)
        row = ("sac", name, seed, part * steps // 5, episodes, round(earned, 2), seconds)
        print(*row, flush=True)
        append(options.out, row)


def evaluate(model: sbx.SAC, name: str, episodes: int) -> float:
    """Mean return of episodes with seeds of their own."""
    env, returns = gymnasium.make(name), []
    for i in range(episodes):
        obs, _ = env.reset(seed=1_000_000 + i)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def append(path: Path, row: tuple[object, ...]) -> None:
    """One line more; the columns stand above the first."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, row] if new else [row])


if __name__ == "__main__":
    main()
