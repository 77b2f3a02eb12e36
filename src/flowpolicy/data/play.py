"""OGBench's data, one episode at a time; run as a file, a worker of ``collect``.

This file imports neither flowpolicy nor JAX: a worker starts in the time that ``ogbench`` needs,
and owns its process's global numpy generator, from which the oracles and the mazes draw.

Follows the authors' generator and the commands they published. Play data: scripted plan oracles
with noise 0.1, smoothed 0.5. Noisy data: closed-loop oracles whose actions get Gaussian noise of a
level that is drawn once an episode, and a share of actions that are uniform. Point mazes: the
maze's own breadth-first oracle with action noise 0.5, a new goal whenever one is reached
("navigate") or one goal four cells away ("stitch"). Unlike it, an episode's randomness is a
function of the seed, the split and the episode's number.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

PLAN_NOISE = 0.1
PLAN_NOISE_SMOOTHING = 0.5
MAZE_NOISE = 0.5

NOISE = 0.1
"""Noisy data: an episode's level is uniform up to this; times these for x, y, z, yaw, grip."""
NOISE_SCALES = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
RANDOM_ACTIONS = {"cube": 0.1, "scene": 0.1, "puzzle": 0.2}
"""Share of uniform actions in noisy data."""
LEAST_DISTANCE = 0.4
"""What the closed-loop oracles lengthen shorter ways to, so that they do not creep."""
STITCH_CELLS = 4
"""Cells from the start to the goal in short walks."""

# Probability of stacking, drawn once an episode from these ranges; elsewhere 0.5.
STACK_RANGES = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}

Arrays = dict[str, np.ndarray]
Act = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""From a call that asks the oracle to the action that is executed."""


class Player(NamedTuple):
    """Plays one environment. ``episode(reset_seed)`` draws the rest from numpy's generator."""

    episode: Callable[[int], Arrays]
    healthy: Callable[[Arrays], bool]


def make_player(name: str, kind: str, episode_steps: int) -> Player:
    """A player of ``kind`` (play, noisy, navigate, stitch) in the environment ``name``, such as
    ``cube-single``, ``visual-cube-single`` or ``pointmaze-medium``."""
    spec = gymnasium.spec(f"{name}-v0")
    if not isinstance(spec.entry_point, str):
        raise TypeError(f"{name}: entry point {spec.entry_point!r} is not text")
    creator: Any = load_env_creator(spec.entry_point)
    if name.startswith("pointmaze"):
        env = creator(terminate_at_goal=False, **spec.kwargs)
        cells = _Cells.of(env.maze_map)
        walk = {"navigate": _navigate, "stitch": _stitch}[kind]
        return Player(lambda seed: walk(env, cells, seed, episode_steps), _always)
    plain = name.removeprefix("visual-")
    # What is seen in frames must be painted.
    made = _quick(creator) if plain == name else creator
    env = made(terminate_at_goal=False, mode="data_collection", **spec.kwargs)
    oracles = {"play": _plan_oracles, "noisy": _markov_oracles}[kind](plain, env)
    share = RANDOM_ACTIONS[plain.partition("-")[0]]
    law = _as_planned if kind == "play" else lambda: _disturbed(share)
    stack = STACK_RANGES.get(plain, (0.5, 0.5))
    healthy = _cube_in_sight if plain == "scene" else _always
    return Player(lambda seed: _play(env, oracles, law, stack, seed, episode_steps), healthy)


def play_episode(player: Player, seed: int, split: int, index: int) -> tuple[Arrays, int]:
    """Episode ``index`` of ``split`` and how many unhealthy ones came before it."""
    attempt = 0
    while True:
        words = np.random.SeedSequence(seed, spawn_key=(split, index, attempt)).generate_state(5)
        np.random.seed(words[1:])
        arrays = player.episode(int(words[0]))
        if player.healthy(arrays):
            return arrays, attempt
        attempt += 1


def _always(arrays: Arrays) -> bool:
    return True


def _cube_in_sight(arrays: Arrays) -> bool:
    """Whether the cube of a scene stays visible, or in the drawer (the authors' check)."""
    xyz = arrays["qpos"][:, 14:17]
    too_far_right = xyz[:, 1] >= 0.29
    outside_drawer = (xyz[:, 2] < 0.06) | (xyz[:, 2] > 0.08)
    return not (too_far_right | ((xyz[:, 1] <= -0.3) & outside_drawer)).any()


def _quick(base: Any) -> Any:
    """The arm environment ``base`` without work that no state observation depends on.

    It computes the same dictionary of measurements three times a step; here once. And it paints
    objects by their success.
    """

    class Quick(base):
        measured: Any = None

        def reset(self, *args: Any, **kwargs: Any) -> Any:
            self.measured = None
            return base.reset(self, *args, **kwargs)

        def set_new_target(self, *args: Any, **kwargs: Any) -> Any:
            self.measured = None
            return base.set_new_target(self, *args, **kwargs)

        def post_step(self) -> None:
            self.measured = None
            base.post_step(self)

        def compute_ob_info(self) -> Any:
            if self.measured is None:
                self.measured = base.compute_ob_info(self)
            return self.measured

        def post_compilation_objects(self) -> None:
            base.post_compilation_objects(self)
            for painted in ("_cube_geom_ids_list", "_cube_target_geom_ids_list"):
                if painted in vars(self):
                    setattr(self, painted, [[] for _ in getattr(self, painted)])
            if "_button_geom_ids_list" in vars(self):
                self._button_geom_ids_list = [[] for _ in self._button_geom_ids_list]

    return Quick


def _plan_oracles(name: str, env: Any) -> dict[str, Any]:
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    noise = {"env": env, "noise": PLAN_NOISE, "noise_smoothing": PLAN_NOISE_SMOOTHING}
    if name.startswith("cube"):
        return {"cube": CubePlanOracle(**noise)}
    if name.startswith("puzzle"):
        return {"button": ButtonPlanOracle(gripper_always_closed=True, **noise)}
    return {
        "cube": CubePlanOracle(**noise),
        "button": ButtonPlanOracle(**noise),
        "drawer": DrawerPlanOracle(**noise),
        "window": WindowPlanOracle(**noise),
    }


def _markov_oracles(name: str, env: Any) -> dict[str, Any]:
    from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
    from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
    from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

    way = {"env": env, "min_norm": LEAST_DISTANCE}
    if name.startswith("cube"):
        return {"cube": CubeMarkovOracle(**way)}
    if name.startswith("puzzle"):
        return {"button": ButtonMarkovOracle(gripper_always_closed=True, **way)}
    return {
        "cube": CubeMarkovOracle(**way),
        "button": ButtonMarkovOracle(**way),
        "drawer": DrawerMarkovOracle(**way),
        "window": WindowMarkovOracle(**way),
    }


def _as_planned() -> Act:
    return lambda ask: ask()


def _disturbed(share: float) -> Act:
    """An episode's noise: of a level drawn here, and uniform actions with probability ``share``."""
    scales = np.random.uniform(0, NOISE) * NOISE_SCALES

    def act(ask: Callable[[], np.ndarray]) -> np.ndarray:
        if np.random.uniform() < share:
            return np.random.uniform(-1, 1, scales.shape)
        return ask() + np.random.normal(0, scales)

    return act


def _play(
    env: Any,
    oracles: Mapping[str, Any],
    law: Callable[[], Act],
    stack_range: tuple[float, float],
    seed: int,
    steps: int,
) -> Arrays:
    obs, info = env.reset(seed=seed)
    p_stack = np.random.uniform(*stack_range)
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(obs, info)
    act = law()
    rows = _Recorder(steps)
    for _ in range(steps):
        ask = functools.partial(oracle.select_action, obs, info)
        action = np.clip(act(ask), -1, 1)
        buttons = {"button_states": info["button_states"]} if "button_states" in info else {}
        data = env.data
        rows.add(observations=obs, actions=action, qpos=data.qpos, qvel=data.qvel, **buttons)
        obs, _, _, _, info = env.step(action)
        if oracle.done:
            target_obs, target_info = env.set_new_target(p_stack=p_stack)
            oracle = oracles[target_info["privileged/target_task"]]
            oracle.reset(target_obs, target_info)
    return rows.arrays()


class _Cells(NamedTuple):
    """Free cells of a maze, and those among them that are no corridor: goals lie there."""

    free: list[tuple[int, int]]
    goals: list[tuple[int, int]]

    @staticmethod
    def of(walls: np.ndarray) -> "_Cells":
        free = [(int(i), int(j)) for i, j in np.argwhere(walls == 0)]
        goals = []
        for i, j in free:
            rows = [int(walls[i - 1, j]), int(walls[i + 1, j])]
            columns = [int(walls[i, j - 1]), int(walls[i, j + 1])]
            if (rows, columns) not in (([0, 0], [1, 1]), ([1, 1], [0, 0])):
                goals.append((i, j))
        return _Cells(free, goals)

    def at_distance(self, start: tuple[int, int], steps: int) -> list[tuple[int, int]]:
        """Free cells whose shortest way from ``start`` has that many steps."""
        seen, ring = {start}, [start]
        for _ in range(steps):
            around = [
                (i + di, j + dj) for i, j in ring for di, dj in ((-1, 0), (0, -1), (1, 0), (0, 1))
            ]
            ring = [
                cell for cell in dict.fromkeys(around) if cell in self.free and cell not in seen
            ]
            seen.update(ring)
        return ring


def _navigate(env: Any, cells: _Cells, seed: int, steps: int) -> Arrays:
    start = cells.free[np.random.randint(len(cells.free))]
    goal = cells.goals[np.random.randint(len(cells.goals))]

    def reached() -> None:
        xy = env.ij_to_xy(cells.goals[np.random.randint(len(cells.goals))])
        env.set_goal(goal_xy=env.add_noise(xy))

    return _walk(env, start, goal, reached, seed, steps)


def _stitch(env: Any, cells: _Cells, seed: int, steps: int) -> Arrays:
    start = cells.free[np.random.randint(len(cells.free))]
    near = cells.at_distance(start, STITCH_CELLS) or [start]
    goal = near[np.random.randint(len(near))]
    return _walk(env, start, goal, lambda: None, seed, steps)


def _walk(
    env: Any,
    start: tuple[int, int],
    goal: tuple[int, int],
    reached: Callable[[], None],
    seed: int,
    steps: int,
) -> Arrays:
    # The reset takes a few random actions from this space's own generator.
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed, options={"task_info": {"init_ij": start, "goal_ij": goal}})
    rows = _Recorder(steps)
    for _ in range(steps):
        xy = env.get_xy()
        subgoal, _ = env.get_oracle_subgoal(xy, env.cur_goal_xy)
        direction = (subgoal - xy) / (np.linalg.norm(subgoal - xy) + 1e-6)
        action = np.clip(direction + np.random.normal(0, MAZE_NOISE, direction.shape), -1, 1)
        rows.add(observations=obs, actions=action, qpos=env.data.qpos, qvel=env.data.qvel)
        obs, _, _, _, info = env.step(action)
        if info["success"]:
            reached()
    return rows.arrays()


class _Recorder:
    """Collects rows in OGBench's layout and dtypes."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, **row: np.ndarray) -> None:
        for name, value in row.items():
            kept = np.asarray(value).dtype == np.uint8
            dtype = np.uint8 if kept else np.int64 if name == "button_states" else np.float32
            self._rows.setdefault(name, []).append(np.array(value, dtype))

    def arrays(self) -> Arrays:
        arrays = {name: np.stack(values) for name, values in self._rows.items()}
        arrays["terminals"] = np.arange(self._steps) == self._steps - 1
        return arrays


def main() -> None:
    """Worker: reads ``{"split", "index"}`` lines from stdin, answers with one line for each.

    The arguments are the environment's name, the kind of data, the steps of an episode, the seed,
    and the folder into which episodes are written. It ends when its stdin does, so never outlives
    its parent.
    """
    name, kind, steps, seed, folder = sys.argv[1:]
    # Third-party code may print; the answers keep the real stdout to themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import ogbench  # noqa: F401  registers the environments

    player = make_player(name, kind, int(steps))
    for line in sys.stdin:
        task = json.loads(line)
        arrays, retries = play_episode(player, int(seed), task["split"], task["index"])
        path = Path(folder) / f"{task['split']}-{task['index']}.npz"
        np.savez(path, **dict[str, Any](arrays))
        answers.write(json.dumps({"rows": len(arrays["terminals"]), "retries": retries}) + "\n")


if __name__ == "__main__":
    main()
