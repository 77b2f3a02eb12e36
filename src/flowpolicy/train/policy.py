"""``Policy``: a trained agent for users. It needs neither environment nor data set."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowpolicy.agents.base import Agent
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.refine import Refiner
from flowpolicy.train.evaluate import own, refined
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.random import Stream, stream_key
from flowpolicy.types import Observation, Spec


class Policy:
    """Observations in, actions out: normalises, checks, draws noise, cuts chunks.

    obs_shape: shape of an observation, or a mapping from field to shape
    action_size, horizon: an action's size, and actions in a chunk
    """

    def __init__(
        self,
        agent: Agent,
        normaliser: Normaliser,
        spec: Spec,
        horizon: int,
        *,
        refiner: Refiner | None = None,
        seed: int = 0,
    ) -> None:
        """``refiner`` acts in the place of the agent's own; ``seed`` decides all noise."""
        self.obs_shape, self.action_size, self.horizon = spec.obs, spec.action, horizon
        self.agent, self.normaliser = agent, normaliser
        choose = own if refiner is None else refined(refiner)
        state = (agent, normaliser, stream_key(seed, Stream.POLICY))

        def call(state: Any, number: Any, obs: Observation, memory: Any) -> Any:
            agent, normaliser, key = state
            return choose(agent)(jax.random.fold_in(key, number), normaliser(obs), memory)

        self._memory, self._calls = agent.memory(), 0
        inputs = (np.int32(0), self._blank(), self._memory)
        # A flat list of what is read: every other leaf would lengthen every call's dispatch.
        self._leaves, call = _only_what_is_read(call, state, *inputs)
        self._call = jax.jit(call)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        seed_index: int = 0,
        refiner: Refiner | None = None,
        seed: int = 0,
    ) -> "Policy":
        """The policy of a run folder's newest checkpoint.

        ``seed_index`` says which of the run's seeds. Raises ``MissingData`` or ``CorruptFile``
        naming the file; nets and agents of your own must be registered before.
        """
        run = RunFolder(folder)
        trained, _ = run.load()
        count = len(run.config().seeds)
        if not 0 <= seed_index < count:
            raise InvalidConfig(f"seed_index must be in 0 .. {count - 1}, got {seed_index}")
        agent = jax.tree.map(lambda x: x[seed_index], trained.agents)
        chunk = run.config().agent.view.chunk
        return cls(agent, trained.normaliser, run.spec(), chunk, refiner=refiner, seed=seed)

    def act(self, obs: Observation) -> np.ndarray:
        """The chunk for one observation, (horizon, action_size), every entry in [-1, 1].

        Successive calls draw fresh noise. Raises ``InvalidData`` for a wrong shape, or a value
        that is not finite.
        """
        chunk, self._memory = self._call(
            self._leaves, np.int32(self._calls), self._checked(obs), self._memory
        )
        self._calls += 1
        return np.asarray(chunk).reshape(self.horizon, self.action_size)

    def reset(self) -> None:
        """Forgets the episode: the memory becomes that before a first observation."""
        self._memory = self.agent.memory()

    def warm_up(self) -> float:
        """Compiles, so that no later call waits for it; returns the seconds it took."""
        started = time.perf_counter()
        self._call(self._leaves, np.int32(0), self._blank(), self._memory)[0].block_until_ready()
        return time.perf_counter() - started

    def session(self, execute_horizon: int | None = None) -> "Session":
        """One action a call: a chunk is planned when due.

        ``execute_horizon`` actions of each chunk are executed before the next is planned; the
        whole chunk where it is None, as in training.
        """
        wanted = self.horizon if execute_horizon is None else execute_horizon
        if not 1 <= wanted <= self.horizon:
            raise InvalidConfig(
                f"execute_horizon must be in 1 .. {self.horizon} (the chunk), got {wanted}"
            )
        return Session(self, wanted)

    def _blank(self) -> Observation:
        return jax.tree.map(lambda s: np.zeros(s, np.float32), self.obs_shape, is_leaf=_is_shape)

    def _checked(self, obs: Observation) -> Observation:
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
        self._chunk: np.ndarray | None = None
        self._used = 0

    def __call__(self, obs: Observation) -> np.ndarray:
        """The next action, (action_size,). Every observation is checked, also unused ones."""
        if self._chunk is None or self._used == self._execute:
            self._chunk, self._used = self._policy.act(obs), 0
        else:
            self._policy._checked(obs)
        self._used += 1
        return self._chunk[self._used - 1]

    def reset(self) -> None:
        """A new episode: the rest of the chunk is dropped."""
        self._chunk = None
        self._policy.reset()


def _only_what_is_read(
    call: Callable[..., Any], state: Any, *inputs: Any
) -> tuple[list[Any], Callable[..., Any]]:
    """The leaves of ``state`` that ``call(state, *inputs)`` reads, and ``call`` as a function of
    these and of the inputs. Optimisers and target networks are not among them.
    """
    leaves, structure = jax.tree.flatten(state)
    if jax.config.values["jax_disable_jit"]:  # debugging: nothing is traced
        return leaves, lambda leaves, *inputs: call(jax.tree.unflatten(structure, leaves), *inputs)
    program = jax.make_jaxpr(call)(state, *inputs).jaxpr
    read = {id(v) for equation in program.eqns for v in equation.invars}
    read |= {id(v) for v in program.outvars}
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    places = [i for i in range(len(leaves)) if id(program.invars[i]) in read]

    def short(used: list[Any], *inputs: Any) -> Any:
        every: list[Any] = list(shapes)
        for i, leaf in zip(places, used, strict=True):
            every[i] = leaf
        return call(jax.tree.unflatten(structure, every), *inputs)

    return [leaves[i] for i in places], short


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple)


def _check(name: str, value: Any, shape: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise InvalidData(f"{name} must be numbers of shape {tuple(shape)}") from None
    if array.shape != tuple(shape):
        raise InvalidData(f"{name} must have shape {tuple(shape)}, got {array.shape}")
    if not np.isfinite(array).all():
        where = np.flatnonzero(~np.isfinite(array.reshape(-1)))[:5].tolist()
        raise InvalidData(f"{name} must be finite; entries {where} are not")
    return array
