"""Push-T as a task with demonstrations by our scripted finger, and collecting them."""

import dataclasses
import functools
import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.data.collect import FORMAT, Progress, versions, write_text
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.npz import sha256, write_npz
from flowpolicy.data.ogbench import default_path, or_most_rows
from flowpolicy.data.own import load_data
from flowpolicy.envs.base import Env
from flowpolicy.envs.pusher import Pusher, check_pusher
from flowpolicy.envs.pusht import STIFF, PushTEnv, needs_pusht
from flowpolicy.errors import MissingData
from flowpolicy.parts import register
from flowpolicy.randomness import seed_for
from flowpolicy.runs.episodes import check_hope, check_request, in_order
from flowpolicy.runs.own import stamp
from flowpolicy.train.given import check_least
from flowpolicy.train.task import Entry

Arrays = dict[str, np.ndarray]


@register("pusht")
@dataclasses.dataclass(frozen=True)
class PushT:
    """Push-T (``envs.pusht``) with demonstrations of our scripted finger; needs the extra pusht."""

    rows: int = 0
    """Rows of the collected file that is meant; 0 for the one without a number in its name, or else
    the one of most rows."""
    file: str = ""
    """An npz of yours with such rows; empty for the usual place."""
    positions: bool = False
    """Whether actions are positions, as in SFP's released code: of a row where the finger was seen
    next, which that code's stiffer controller reaches. Else they are aims, as the demonstrator gave
    them, which gym-pusht's controller follows with a lag."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_least(self, rows=0)

    @property
    def name(self) -> str:
        """pusht."""
        return "pusht"

    @property
    def playable(self) -> bool:
        """True."""
        return True

    @property
    def path(self) -> Path:
        """Where the demonstrations are looked for."""
        if self.file:
            return Path(self.file)
        usual = pusht_path(self.rows or None)
        return usual if self.rows else or_most_rows(usual)

    def dataset(self) -> Dataset:
        """The demonstrations; ``MissingData`` says how to make them."""
        if not self.path.is_file():
            there = f" --out {shlex.quote(self.file)}" if self.file else ""
            raise MissingData(
                f"no demonstrations at {self.path}; make them with: flowpolicy data demonstrate "
                f"pusht --rows {self.rows or 20_000}{there}"
            )
        given = _load(self.path, stamp(str(self.path)))
        return _positions(given) if self.positions else given

    def env(self) -> Env:
        """A new environment; ``MissingExtra``."""
        return PushTEnv(controller=STIFF) if self.positions else PushTEnv()

    @property
    def control_interval(self) -> float | None:
        """Seconds between two actions."""
        return 0.1

    def fields(self) -> Mapping[str, tuple[Entry, ...]]:
        """What the entries of an observation are."""
        half = "halves of the board from its middle"
        return {
            "obs": (
                Entry("finger: position", 2, half),
                Entry("block: position", 2, half),
                Entry("block: cosine and sine of its angle", 2, "1"),
            )
        }


def pusht_path(rows: int | None = None) -> Path:
    """Where scripted demonstrations of that many rows are kept."""
    return default_path("pusht-scripted", rows)


def demonstrate_pusht(
    rows: int,
    out: str | Path,
    *,
    noise: float = 0.01,
    mistakes: float = 0.0,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes at least ``rows`` steps of solved episodes of Push-T to ``out`` (an npz).

    noise:    standard deviation of the trembling added to every action, in [0, 1]; 0.01 is 2.6
              pixels
    mistakes: probability that a push is any that helps, and not the best, in [0, 1)
    workers:  processes; one a core where None. The rows are a function of everything else

    The arrays have OGBench's names, and rewards are Push-T's. An episode that is not solved in time
    is left out and counted. A ``.json`` beside the file says how it was made, and is returned.
    Raises ``InvalidConfig`` (also where nothing is solved), ``MissingExtra``, ``OSError``.
    """
    out = Path(out)
    check_request(rows, out, seed, ".npz", overwrite=overwrite)
    check_pusher(noise, mistakes)
    needs_pusht()
    play = functools.partial(pusht_episode, noise, mistakes, seed)
    solved: list[Arrays] = []
    done = failed = 0
    with in_order(play, workers) as episodes:
        for episode in episodes:
            if episode is None:
                failed += 1
                check_hope("pusht", failed, len(solved), noise, mistakes)
                continue
            solved.append(episode)
            done += len(episode["rewards"])
            if progress is not None:
                progress(min(done, rows), rows)
            if done >= rows:
                break
    record = {
        "format": FORMAT,
        "source": "flowpolicy demonstrate",
        "environment": "pusht",
        "arguments": {"rows": rows, "seed": seed, "noise": noise, "mistakes": mistakes},
        "rows": done,
        "episodes": len(solved),
        "unsolved_episodes": failed,
        "versions": versions(*PACKAGES),
    }
    _write(out, {k: np.concatenate([e[k] for e in solved]) for k in solved[0]}, record)
    return record


PACKAGES = ("flowpolicy", "gym-pusht", "pymunk", "gymnasium", "numpy", "scipy", "shapely")
"""What the rows depend on."""


def pusht_episode(noise: float, mistakes: float, seed: int, index: int) -> Arrays | None:
    """Episode ``index`` of ``seed``; None where it is not solved in time."""
    env = _env()
    script = Pusher(np.random.default_rng([seed, index]), noise=noise, mistakes=mistakes)
    obs, actions, steps = [env.reset(seed_for(seed, index))], [], []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        actions.append(script.act(env.board().scene()))
        steps.append(env.step(actions[-1]))
        obs.append(steps[-1].obs)
    if not steps[-1].success:
        return None
    return {
        "observations": np.stack(obs[:-1]),
        "actions": np.stack(actions),
        "rewards": np.array([step.reward for step in steps], np.float32),
        "terminals": np.array([step.terminated or step.truncated for step in steps], np.float32),
        "masks": np.array([not step.terminated for step in steps], np.float32),
        "next_observations": np.stack(obs[1:]),
    }


@functools.lru_cache(maxsize=1)
def _env() -> PushTEnv:
    return PushTEnv()


@functools.lru_cache(maxsize=1)
def _load(path: Path, stamp: tuple[int, int]) -> Dataset:
    del stamp
    return load_data(path)


@functools.lru_cache(maxsize=1)
def _positions(given: Dataset) -> Dataset:
    """The same rows, each with the finger's next place for its action."""
    seen = np.clip(given.rows.next_obs[:, :2], -1.0, 1.0)
    rows = dataclasses.replace(given.rows, action=seen)
    return Dataset.from_rows(rows, given.info | {"actions": "positions"})


def _write(out: Path, arrays: Arrays, record: dict[str, Any]) -> None:
    """Both files under names of their own first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demonstrate-", dir=out.parent.resolve()) as folder:
        parts = Path(folder)
        write_npz(parts / ".npz", arrays)
        told = record | {"files": {out.name: {"sha256": sha256(parts / ".npz")}}}
        write_text(parts / ".json", json.dumps(told, indent=1, allow_nan=False) + "\n")
        for suffix in (".json", ".npz"):
            os.replace(parts / suffix, out.with_suffix(suffix))
