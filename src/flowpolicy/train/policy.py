"""``Policy``: a trained agent for users. It needs neither environment nor data set, and, from a
package, not even JAX."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flowpolicy.deploy.files import is_package
from flowpolicy.deploy.numpy_actor import NumpyActor
from flowpolicy.deploy.package import read_package
from flowpolicy.deploy.units import ActionUnits, action_units
from flowpolicy.errors import InvalidConfig, InvalidData, unknown_name

BACKENDS = ("jax", "numpy")


@runtime_checkable
class Actor(Protocol):
    """A back end: what acts for a ``Policy``. ``JaxActor`` and ``NumpyActor`` are two.

    obs_shape, action_size, horizon: as of ``Policy``
    """

    obs_shape: Any
    action_size: int
    horizon: int

    def inside(self) -> tuple[Any, Any]:
        """Agent and normaliser, where JAX is; ``InvalidConfig`` otherwise."""
        ...

    def memory(self) -> Any:
        """The memory before the first observation of an episode."""
        ...

    def __call__(self, number: int, obs: Any, memory: Any) -> tuple[np.ndarray, Any]:
        """The flat chunk of call ``number`` and the memory after it."""
        ...


class Policy:
    """Observations in, actions out: normalises, checks, draws noise, cuts chunks.

    obs_shape: shape of an observation, or a mapping from field to shape
    action_size, horizon: an action's size, and actions in a chunk
    """

    def __init__(self, actor: Actor, units: ActionUnits | None = None) -> None:
        """Acts with ``actor``; ``Policy.load`` makes one of a folder. ``units`` are the robot's;
        where None, actions are in [-1, 1].
        """
        self._units = None if units is None or units.change_nothing else units
        self.obs_shape, self.action_size = actor.obs_shape, actor.action_size
        self.horizon = actor.horizon
        self._actor, self._memory, self._calls = actor, actor.memory(), 0
        self._episode = 0

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backend: str = "jax",
        seed_index: int = 0,
        refiner: Any = None,
        seed: int = 0,
        best: bool = False,
    ) -> "Policy":
        """The policy of a run folder's newest checkpoint, or of a package.

        backend:    "jax", or "numpy" for a package, which then runs without JAX; both draw the
                    same noise and act alike to rounding
        seed_index: which of the run's seeds; a package holds one
        refiner:    acts in the place of the agent's own, or of the package's; with "jax" alone
        seed:       decides all noise
        best:       of a run, the state whose evaluation was the best in the newest one's place

        Raises ``MissingData`` or ``CorruptFile`` naming the file; nets and agents of your own must
        be registered before they are loaded with "jax".
        """
        if backend not in BACKENDS:
            raise unknown_name("backend", backend, BACKENDS)
        folder = Path(folder)
        if not is_package(folder):
            if backend == "numpy":
                raise InvalidConfig(
                    f"backend='numpy' runs packages, and {folder} is none; "
                    "`flowpolicy package` makes one of a run"
                )
            from flowpolicy.train.jax_actor import JaxActor  # imports JAX

            actor = JaxActor.of_run(folder, seed_index, refiner, seed, best=best)
            return cls(actor, action_units(folder))
        if seed_index != 0:
            raise InvalidConfig(f"seed_index must be 0 for a package, got {seed_index}")
        if best:
            raise InvalidConfig(
                "best must be False for a package, which holds one state; package the run again "
                "with best=True"
            )
        package = read_package(folder)
        if backend == "jax":
            from flowpolicy.train.jax_actor import JaxActor

            return cls(JaxActor.of_package(package, refiner, seed), action_units(folder))
        if refiner is not None:
            raise InvalidConfig(
                "backend='numpy' acts with the refiner that was packaged; "
                "package the run again with another one"
            )
        return cls(NumpyActor(package, seed), action_units(folder))

    def in_box(self) -> "Policy":
        """The same policy with actions in [-1, 1], as environments of a run take them."""
        return Policy(self._actor)

    @property
    def agent(self) -> Any:
        """The agent inside; ``InvalidConfig`` with the numpy back end, which has none."""
        return self._actor.inside()[0]

    @property
    def normaliser(self) -> Any:
        """What is done to observations before the agent sees them; as ``agent``."""
        return self._actor.inside()[1]

    def act(self, obs: Any) -> np.ndarray:
        """The chunk for one observation, (horizon, action_size), in the units of the actions it was
        trained on (``action_units``): [-1, 1] unless the data say otherwise.

        Successive calls draw fresh noise; the array is the caller's to change. Raises
        ``InvalidData`` for a wrong shape, or a value that is not finite.
        """
        chunk, self._memory = self._actor(self._calls, self._checked(obs), self._memory)
        self._calls += 1
        # A copy: what an actor returns may be its memory, or JAX's and read-only.
        chunk = np.array(chunk).reshape(self.horizon, self.action_size)
        return chunk if self._units is None else self._units.to_robot(chunk)

    def reset(self) -> None:
        """Forgets the episode: the memory becomes that before a first observation, and the rest
        of a session's chunk is dropped.
        """
        self._memory = self._actor.memory()
        self._episode += 1

    def warm_up(self) -> float:
        """Compiles, so that no later call waits for it; returns the seconds it took."""
        started = time.perf_counter()
        self._actor(0, self._blank(), self._memory)
        return time.perf_counter() - started

    def latencies(self, calls: int = 1_000) -> np.ndarray:
        """Wall seconds of each of ``calls`` calls of ``act`` on zeros, after ``warm_up``.

        Nothing is played and nothing moves. It begins an episode.
        """
        if calls < 1:
            raise InvalidConfig(f"calls must be at least 1, got {calls}")
        self.warm_up()
        self.reset()
        obs = self._blank()
        return latencies(lambda: self.act(obs), calls)

    def session(self, execute_horizon: int | None = None) -> "Session":
        """One action a call: a chunk is planned when due.

        ``execute_horizon`` actions of each chunk are executed before the next is planned; the
        whole chunk where it is None, as in training. It begins an episode; one may run at a time.
        """
        wanted = self.horizon if execute_horizon is None else execute_horizon
        if not 1 <= wanted <= self.horizon:
            raise InvalidConfig(
                f"execute_horizon must be in 1 .. {self.horizon} (the chunk), got {wanted}"
            )
        self.reset()
        return Session(self, wanted)

    def stream(self, observe: Callable[[], Any]) -> Iterator[np.ndarray]:
        """Actions without end, (action_size,) each, every one as soon as it exists.

        ``observe()`` gives the newest observation; it is asked for one before every action, and not
        earlier. An iterator is an episode: its memory begins anew, and one may run at a time. Units
        and errors are those of ``act``; ``InvalidConfig`` where the policy executes chunks.
        """
        if self.horizon != 1:
            raise InvalidConfig(
                f"this policy does not stream: it executes chunks of {self.horizon} actions, and "
                "the first waits for the whole chunk; policy.session() gives its actions one a call"
            )
        self.reset()
        return (self.act(observe())[0] for _ in itertools.count())

    def _blank(self) -> Any:
        if isinstance(self.obs_shape, dict):
            return {k: np.zeros(s, np.float32) for k, s in self.obs_shape.items()}
        return np.zeros(self.obs_shape, np.float32)

    def _checked(self, obs: Any) -> Any:
        if isinstance(self.obs_shape, dict):
            if not isinstance(obs, dict) or set(obs) != set(self.obs_shape):
                raise InvalidData(f"obs must be a mapping with fields {sorted(self.obs_shape)}")
            return {k: _check(f"obs[{k!r}]", obs[k], s) for k, s in self.obs_shape.items()}
        return _check("obs", obs, self.obs_shape)


class Session:
    """A policy as a function from one observation to one action; made by ``Policy.session``."""

    def __init__(self, policy: Policy, execute_horizon: int) -> None:
        """Nothing is planned yet."""
        self._policy, self._execute = policy, execute_horizon
        self._left: list[np.ndarray] = []
        self._episode = policy._episode

    def __call__(self, obs: Any) -> np.ndarray:
        """The next action, (action_size,). Every observation is checked, also unused ones."""
        if not self._left or self._episode != self._policy._episode:
            self._left = list(self._policy.act(obs)[: self._execute])
            self._episode = self._policy._episode
        else:
            self._policy._checked(obs)
        return self._left.pop(0)

    def reset(self) -> None:
        """A new episode: the rest of the chunk is dropped."""
        self._policy.reset()


def latencies(act: Callable[[], Any], calls: int) -> np.ndarray:
    """Wall seconds of each of ``calls`` calls."""
    seconds = np.zeros(calls)
    for i in range(calls):
        began = time.perf_counter()
        act()
        seconds[i] = time.perf_counter() - began
    return seconds


def _check(name: str, value: Any, shape: Any) -> np.ndarray:
    try:
        array = np.array(value, np.float32)  # a copy: a memory may keep it
    except (TypeError, ValueError):
        raise InvalidData(f"{name} must be numbers of shape {tuple(shape)}") from None
    if array.shape != tuple(shape):
        raise InvalidData(f"{name} must have shape {tuple(shape)}, got {array.shape}")
    if not np.isfinite(array).all():
        where = np.flatnonzero(~np.isfinite(array.reshape(-1)))[:5].tolist()
        raise InvalidData(f"{name} must be finite; entries {where} are not")
    return array
