"""Several environments of one task, stepped together."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flowpolicy.envs.base import Env, Step
from flowpolicy.types import Observation, byte_fields


class Shape(NamedTuple):
    """What the environments of a fleet have in common; see ``Env``, and ``Spec`` of ``frames``."""

    name: str
    obs: Any
    action: int
    frames: tuple[str, ...] = ()


@runtime_checkable
class Fleet(Protocol):
    """Environments by number, from 0; each is made when it is first used."""

    @property
    def repeats(self) -> bool:
        """Whether episodes can be played side by side, and again; those of a robot cannot."""
        ...

    def shape(self) -> Shape:
        """What they have in common."""
        ...

    @property
    def trouble(self) -> str:
        """Why the fleet must not be used any more; empty as long as it may."""
        ...

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Observation]:
        """Starts an episode in every environment that is named; its first observation."""
        ...

    def play(self, actions: Mapping[int, np.ndarray]) -> dict[int, list[Step] | None]:
        """Executes actions (k, size) in every environment that is named, up to the episode's end.

        None where the environment was lost on the way, with its episode: nothing of these actions
        counts, and the next call for it must be ``reset``.
        """
        ...

    def close(self) -> None:
        """Frees what the environments hold."""
        ...


def play_one(env: Env, actions: np.ndarray) -> list[Step]:
    """Executes ``actions`` (k, size) one after the other, up to the episode's end."""
    steps: list[Step] = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1].terminated or steps[-1].truncated:
            break
    return steps


def _frames(env: Env) -> tuple[str, ...]:
    """Fields of bytes: which they are is seen in an observation, if some look like frames."""
    shape = env.obs_shape
    shapes = shape.values() if isinstance(shape, Mapping) else [shape]
    return byte_fields(env.reset(0)) if any(len(s) == 3 for s in shapes) else ()


class Local:
    """Environments in this process, one after the other."""

    trouble, repeats = "", True

    def __init__(self, make: Callable[[], Env]) -> None:
        """``make`` gives a new environment."""
        self._make = make
        self._envs: dict[int, Env] = {}
        self._shape: Shape | None = None

    def env(self, i: int) -> Env:
        """The i-th."""
        if i not in self._envs:
            self._envs[i] = self._make()
        return self._envs[i]

    def shape(self) -> Shape:
        """What they have in common; the first one is made for it, and asked once, because frames
        are looked at in an episode of their own."""
        if self._shape is None:
            env = self.env(0)
            self._shape = Shape(env.name, env.obs_shape, env.action_size, _frames(env))
        return self._shape

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Observation]:
        """See ``Fleet``."""
        return {i: self.env(i).reset(seed) for i, seed in seeds.items()}

    def play(self, actions: Mapping[int, np.ndarray]) -> dict[int, list[Step] | None]:
        """See ``Fleet``; none is ever lost."""
        return {i: play_one(self.env(i), some) for i, some in actions.items()}

    def close(self) -> None:
        """Closes all that were made."""
        for env in self._envs.values():
            env.close()
        self._envs = {}


class Single:
    """An environment that is there once, as a robot is, under whatever number it is asked for."""

    trouble, repeats = "", False

    def __init__(self, make: Callable[[], Env]) -> None:
        """``make`` gives it, and is called once."""
        self._inner = Local(make)

    def shape(self) -> Shape:
        """Its own."""
        return self._inner.shape()

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Observation]:
        """See ``Fleet``; one at a time."""
        return {number: self._inner.env(0).reset(seed) for number, seed in seeds.items()}

    def play(self, actions: Mapping[int, np.ndarray]) -> dict[int, list[Step] | None]:
        """See ``Fleet``; one at a time."""
        return {number: play_one(self._inner.env(0), some) for number, some in actions.items()}

    def close(self) -> None:
        """Closes it."""
        self._inner.close()
