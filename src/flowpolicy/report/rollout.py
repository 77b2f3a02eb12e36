"""Records what a report shows: an episode of a policy, and what its flow does to noise.

Knows neither agents nor environments by name: a policy is a function of the observation that
gives one action a call, an environment whatever can be reset, stepped and drawn.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from flowpolicy.envs.base import Step
from flowpolicy.errors import InvalidData
from flowpolicy.report.material import FlowPicture, Rollout
from flowpolicy.types import Observation

Track = Callable[[Observation], Mapping[str, np.ndarray]]
Positions = dict[str, Float[np.ndarray, "time axes"]]


@runtime_checkable
class Act(Protocol):
    """A policy at work in one episode; it may plan a chunk and hand it out action by action."""

    def __call__(self, obs: Observation, /) -> np.ndarray:
        """The next action, in [-1, 1], for one observation."""
        ...


@runtime_checkable
class Session(Protocol):
    """Begins a session: nothing of an earlier episode is remembered."""

    def __call__(self, seed: int, /) -> Act:
        """A fresh policy for the episode ``seed``; its noise may depend on that seed alone."""
        ...


@runtime_checkable
class Stage(Protocol):
    """What is asked of an environment here: a part of ``envs.base.Env``."""

    @property
    def max_steps(self) -> int:
        """Steps after which an episode is truncated."""
        ...

    def reset(self, seed: int) -> Observation:
        """Starts the episode that ``seed`` names; the same seed starts the same episode."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Executes one action in [-1, 1]."""
        ...

    def render(self) -> np.ndarray | None:
        """An RGB frame (height, width, 3), uint8, or None where this machine cannot draw."""
        ...


class _Episode(NamedTuple):
    actions: tuple[np.ndarray, ...]
    success_step: int | None
    reward: float


def record_rollout(
    session: Session,
    env: Stage,
    *,
    seeds: Sequence[int],
    track: Track | None = None,
    frame_every: int = 4,
    max_frames: int = 40,
) -> Rollout:
    """Plays the episodes ``seeds`` until one succeeds, then plays its actions again and records.

    Drawing is slow without a graphics card, so nothing is drawn while a success is looked for:
    the chosen actions are executed once more from the same reset, drawn every ``frame_every``
    steps or less often, so that at most ``max_frames`` are drawn. If none succeeds, the episode
    of highest return is recorded. ``track`` names positions in an observation, in metres, as in
    ``{"gripper": xyz}``; they are recorded whether or not the environment can draw.
    """
    _check(seeds, frame_every, max_frames)
    tried: dict[int, _Episode] = {}
    for seed in seeds:
        tried[seed] = _play(session(seed), env, seed)
        if tried[seed].success_step is not None:
            break
    solved = tuple(s for s, episode in tried.items() if episode.success_step is not None)
    chosen = solved[0] if solved else max(tried, key=lambda s: tried[s].reward)
    return _recorded(env, chosen, tried, track, frame_every, max_frames)


def record_examples(
    session: Session,
    env: Stage,
    *,
    seeds: Sequence[int],
    track: Track | None = None,
    frame_every: int = 4,
    max_frames: int = 40,
) -> tuple[Rollout | None, Rollout | None]:
    """The first solved and the first unsolved episode among ``seeds``; None where there is none.

    Recorded as by ``record_rollout``; no more episodes are played once there is one of each.
    """
    _check(seeds, frame_every, max_frames)
    tried: dict[int, _Episode] = {}
    kinds: dict[bool, int] = {}
    for seed in seeds:
        tried[seed] = _play(session(seed), env, seed)
        kinds.setdefault(tried[seed].success_step is not None, seed)
        if len(kinds) == 2:
            break
    success, failure = (
        _recorded(env, kinds[kind], tried, track, frame_every, max_frames)
        if kind in kinds
        else None
        for kind in (True, False)
    )
    return success, failure


def _check(seeds: Sequence[int], frame_every: int, max_frames: int) -> None:
    if not seeds or frame_every < 1 or max_frames < 2:
        raise InvalidData("need at least one seed, frame_every >= 1 and max_frames >= 2")


def _recorded(
    env: Stage,
    chosen: int,
    tried: Mapping[int, _Episode],
    track: Track | None,
    frame_every: int,
    max_frames: int,
) -> Rollout:
    first = tried[chosen]
    every = max(frame_every, math.ceil(len(first.actions) / (max_frames - 1)))
    again, frames, frame_steps, paths = _replay(env, chosen, first.actions, track, every)
    same = again.success_step == first.success_step and math.isclose(again.reward, first.reward)
    note = "" if same else "Played again for recording, the episode ended differently."
    return Rollout(
        seed=chosen,
        length=len(again.actions),
        success_step=again.success_step,
        reward=again.reward,
        tried=tuple(tried),
        solved=tuple(s for s, episode in tried.items() if episode.success_step is not None),
        frames=tuple(frames),
        frame_steps=tuple(frame_steps),
        paths=paths,
        note=note,
    )


def trace_flow(
    advance: Callable[[float, float, np.ndarray], np.ndarray],
    jump: Callable[[np.ndarray], np.ndarray],
    value: Callable[[np.ndarray], np.ndarray],
    noise: Float[np.ndarray, "n d"],
    *,
    steps: int = 16,
    axes: tuple[int, int] = (0, 1),
    labels: tuple[str, str] = ("first action, dx", "first action, dy"),
    state: str = "one state",
) -> FlowPicture:
    """Follows ``noise`` to actions in ``steps`` equal steps and, beside it, in one jump.

    ``advance(r, t, a)`` moves (n, d) points from time r to t, ``jump`` moves them from 0 to 1,
    ``value`` gives the critic's value of each; all at the same state.
    """
    if steps < 1:
        raise InvalidData(f"steps must be at least 1, got {steps}")
    times = np.linspace(0.0, 1.0, steps + 1)
    points = [np.asarray(noise)]
    for r, t in itertools.pairwise(times):
        points.append(np.asarray(advance(float(r), float(t), points[-1])))
    q = np.asarray(value(points[-1]))
    ends = np.asarray(jump(points[0]))
    return FlowPicture(times, np.stack(points), ends, q, axes, labels, state)


def _play(act: Act, env: Stage, seed: int) -> _Episode:
    obs = env.reset(seed)
    actions, success_step, reward = [], None, 0.0
    for step in range(1, env.max_steps + 1):
        actions.append(np.array(act(obs)))
        outcome = env.step(actions[-1])
        obs, reward = outcome.obs, reward + float(outcome.reward)
        if outcome.success and success_step is None:
            success_step = step
        if outcome.terminated or outcome.truncated:
            break
    return _Episode(tuple(actions), success_step, reward)


def _replay(
    env: Stage, seed: int, actions: Sequence[np.ndarray], track: Track | None, every: int
) -> tuple[_Episode, list[UInt8[np.ndarray, "height width 3"]], list[int], Positions]:
    frames, frame_steps = [], []
    positions: dict[str, list[np.ndarray]] = {}

    def look(obs: Observation, step: int, last: bool) -> None:
        for name, place in (track(obs) if track else {}).items():
            positions.setdefault(name, []).append(np.array(place, np.float64))
        # Once the machine has said that it cannot draw, it is not asked again.
        asked = step == 0 or (frames and (last or step % every == 0))
        frame = env.render() if asked else None
        if frame is not None:
            frames.append(np.array(frame))
            frame_steps.append(step)

    look(env.reset(seed), 0, False)
    done, success_step, reward = 0, None, 0.0
    for done, action in enumerate(actions, start=1):
        outcome = env.step(action)
        reward += float(outcome.reward)
        if outcome.success and success_step is None:
            success_step = done
        ended = outcome.terminated or outcome.truncated or done == len(actions)
        look(outcome.obs, done, ended)
        if ended:
            break
    paths = {name: np.stack(places) for name, places in positions.items()}
    return _Episode(tuple(actions[:done]), success_step, reward), frames, frame_steps, paths
