"""The compiled programs of training: blocks of updates over the seed axis.

jit stands here and in ``act``, nowhere below. A program is traced once per phase; everything that
changes between calls is an argument.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flowpolicy.agents.base import Agent, Memory
from flowpolicy.data.augment import Augment
from flowpolicy.data.chunk import View
from flowpolicy.data.host import Windows
from flowpolicy.data.replay import Draw, Ring, choose, made, sample
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets.product import exactly
from flowpolicy.train.devices import Devices
from flowpolicy.train.guards import Bounds, Guard, Report, examine
from flowpolicy.train.hardware import Hardware
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.source import batch_and_update, source
from flowpolicy.types import Key, Keys, Metrics, Observation, Rows, Transition

AUGMENT = 1
"""Folded into a batch's key for the keys of its augmentation."""


def over_seeds(
    function: Callable[..., Any],
    axes: tuple[int | None, ...],
    seeds: int,
    devices: Devices | None = None,
) -> Callable[..., Any]:
    """``function`` mapped over the leading seed axis of the arguments marked 0.

    With one seed the axis is taken off and put back. On one CPU seeds are computed one after the
    other, in one program: a batched matrix product takes a quarter longer there than plain ones.
    """
    name = None if devices is None else devices.seed_axis
    if seeds > 1 and (name is not None or jax.default_backend() != "cpu"):
        return jax.vmap(function, in_axes=axes, spmd_axis_name=name)
    if seeds > 1:
        return _in_turn(function, axes)

    def alone(*arguments: Any) -> Any:
        taken = [
            jax.tree.map(lambda x: x[0], value) if axis == 0 else value
            for value, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], function(*taken))

    return alone


def _in_turn(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    def every(*arguments: Any) -> Any:
        def one(own: list[Any]) -> Any:
            left = iter(own)
            return function(
                *(next(left) if axis == 0 else x for x, axis in zip(arguments, axes, strict=True))
            )

        return jax.lax.map(one, [x for x, axis in zip(arguments, axes, strict=True) if axis == 0])

    return every


class Block(eqx.Module):
    """What came of a block of updates beside the agents.

    metrics: per seed, each metric's mean over the good updates; ``guard/good`` is their share
    report:  what the guards saw; None without guards, where every update counts as good
    """

    metrics: Metrics
    report: Report | None


class Updater:
    """Blocks of updates with sampling in the graph: one dispatch for many updates.

    offline rows are shared by all seeds and never copied; agents and rings carry the seed axis,
    and their buffers are donated.
    """

    def __init__(
        self,
        *,
        offline: Rows | None,
        normaliser: Normaliser,
        view: View,
        draw: Draw,
        batch: int,
        seeds: int,
        guard: Guard | None = None,
        precision: str = "float32",
        devices: Devices | None = None,
        on_host: bool = False,
        augment: Augment | None = None,
    ) -> None:
        """Moves the offline rows to the device, unless they are to stay on the host.

        precision: of the updates' matrix products, see ``RunConfig``
        """
        self._devices = devices or Devices(Hardware(), seeds, batch)
        self._precision = precision
        self._offline, self._made_source = offline, functools.partial(
            source, devices=self._devices,
            on_host=on_host, seeds=seeds, horizon=view.horizon, batch=batch, draw=draw,
        )  # fmt: skip
        self._source = self._made_source(offline)
        self._normaliser = normaliser
        self._view, self._draw, self._batch, self._seeds = view, draw, batch, seeds
        self._guard, self._augment = guard, augment
        self._update = jax.jit(self._block, static_argnames="count", donate_argnums=0)
        self._insert = jax.jit(self._insert_rows, donate_argnums=0)
        self._cut = jax.jit(self._cut_rings, donate_argnums=0)

    def replace(self, offline: Rows) -> bool:
        """``offline`` are the rows from now on, of the same shapes; whether they are other ones."""
        if offline is self._offline:
            return False
        self._source.close()
        self._offline, self._source = offline, self._made_source(offline)
        return True

    def update(
        self,
        agents: Agent,
        rings: Ring | None,
        keys: Keys,
        first: np.ndarray,
        alive: np.ndarray,
        *,
        count: int,
        bounds: Bounds | None = None,
    ) -> tuple[Agent, Block]:
        """``count`` updates, each seed's numbered from its ``first``; seeds that are not alive
        keep their agent. Both have the shape (seeds,).

        ``bounds``, one per seed, is what guards need to know. ``InvalidConfig`` where the device's
        memory does not suffice.
        """
        arguments = self._arguments(agents, rings, keys, first, alive, bounds, count)
        try:
            return self._update(*arguments, count=count)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            # The estimate before training knows nothing of intermediate results.
            raise InvalidConfig(
                f"the device's memory does not hold the updates of {self._seeds} seeds with "
                f"batches of {self._batch}: fewer seeds, a smaller batch, more devices or rows on "
                f"the host (hardware.host_rows) need less. {str(error).splitlines()[0][:200]}"
            ) from None

    def lower(
        self,
        agents: Agent,
        rings: Ring | None,
        keys: Keys,
        first: np.ndarray,
        alive: np.ndarray,
        *,
        count: int,
    ) -> tuple[Any, tuple[Any, ...]]:
        """The program of ``update``, not compiled yet, and what to call it with."""
        arguments = self._arguments(agents, rings, keys, first, alive, None, count)
        return self._update.lower(*arguments, count=count), arguments

    def _arguments(
        self,
        agents: Agent,
        rings: Ring | None,
        keys: Keys,
        first: np.ndarray,
        alive: np.ndarray,
        bounds: Bounds | None,
        count: int,
    ) -> tuple[Any, ...]:
        windows = self._source.windows(keys, first, count, rings)
        numbers, alive_there = jnp.asarray(first, jnp.int32), jnp.asarray(alive)
        rows, normaliser = self._source.rows, self._normaliser
        return agents, rings, rows, windows, normaliser, keys, numbers, alive_there, bounds

    def insert(self, rings: Ring, rows: Rows, counts: np.ndarray) -> Ring:
        """Appends the first ``counts`` (seeds,) of each seed's ``rows`` to its ring."""
        return self._insert(rings, *jax.device_put((rows, counts.astype(np.int32))))

    def cut(self, rings: Ring, which: np.ndarray) -> Ring:
        """No chunk goes on beyond the newest row of the seeds that ``which`` (seeds,) names."""
        return self._cut(rings, jnp.asarray(which))

    def ring(self, like: Rows, capacity: int) -> Ring:
        """Empty rings, one per seed."""
        ring = Ring.create(like, capacity)
        many = jax.tree.map(lambda x: jnp.repeat(x[None], self._seeds, axis=0), ring)
        return self._devices.by_seed(many)

    def _insert_rows(self, rings: Ring, rows: Rows, counts: Int[Array, "seeds"]) -> Ring:
        return over_seeds(Ring.insert, (0, 0, 0), self._seeds)(rings, rows, counts)

    def close(self) -> None:
        """Ends the threads that gather rows on the host, if there are any."""
        self._source.close()

    def _cut_rings(self, rings: Ring, which: Bool[Array, "seeds"]) -> Ring:
        def one(ring: Ring, which: Bool[Array, ""]) -> Ring:
            return jax.tree.map(lambda new, old: jnp.where(which, new, old), ring.cut(), ring)

        return over_seeds(one, (0, 0), self._seeds)(rings, which)

    def _block(
        self,
        agents: Agent,
        rings: Ring | None,
        offline: Rows | None,
        windows: Windows | None,
        normaliser: Normaliser,
        keys: Keys,
        first: Int[Array, "seeds"],
        alive: Bool[Array, "seeds"],
        bounds: Bounds | None,
        *,
        count: int,
    ) -> tuple[Agent, Block]:
        def one_seed(
            agent: Agent,
            ring: Ring | None,
            windows: Windows | None,
            key: Key,
            first: Int[Array, ""],
            alive: Bool[Array, ""],
            bounds: Bounds | None,
        ) -> tuple[Agent, Block]:
            def drawn(i: Int[Array, ""]) -> tuple[Transition, Key]:
                key_batch, key_update = batch_and_update(key, first + i)
                old = jax.tree.map(lambda x: x[i], windows)
                batch = self._transitions(
                    key_batch, offline=offline, windows=old, ring=ring, normaliser=normaliser
                )
                return batch, key_update

            def step(agent: Agent, i: Int[Array, ""]) -> tuple[Agent, Any]:
                batch, key_update = drawn(i)
                with jax.default_matmul_precision(self._precision):
                    agent, metrics = agent.update(key_update, batch)
                if self._guard is None or bounds is None:
                    return agent, (metrics, jnp.int32(0))
                agent, metrics, faults = examine(self._guard, bounds, agent, batch, metrics)
                return agent, (metrics, faults)

            after, (metrics, faults) = jax.lax.scan(step, agent, jnp.arange(count))
            kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, agent)
            if self._guard is None:
                return kept, Block(jax.tree.map(jnp.mean, metrics), None)
            faults = jnp.where(alive, faults, 0)
            return kept, _block_of(metrics, faults, lambda i: drawn(i)[0])

        arguments = agents, rings, windows, keys, first, alive, bounds
        axes = tuple(None if value is None else 0 for value in arguments)
        return over_seeds(one_seed, axes, self._seeds, self._devices)(*arguments)

    def _transitions(
        self,
        key: Key,
        *,
        offline: Rows | None,
        windows: Windows | None,
        ring: Ring | None,
        normaliser: Normaliser,
    ) -> Transition:
        keys = jax.random.split(key, self._batch)
        if windows is None:
            batch = jax.vmap(lambda k: sample(k, offline, ring, self._view, self._draw))(keys)
        else:
            batch = jax.vmap(lambda k, old: self._given(k, old, ring))(keys, windows)
        if self._augment is not None:
            # Folded in, so that what is drawn does not depend on what is then done to it.
            own = jax.random.split(jax.random.fold_in(key, AUGMENT), self._batch)
            batch = jax.vmap(self._augment)(own, batch)
        batch = self._devices.by_sample(batch)
        return Transition(
            normaliser(batch.obs),
            batch.action,
            batch.reward,
            batch.discount,
            normaliser(batch.next_obs),
            batch.mask,
            batch.weight,
        )

    def _given(self, key: Key, old: Windows, ring: Ring | None) -> Transition:
        """One sample whose window of the data set was gathered on the host."""
        online = None if ring is None else (ring.oldest, ring.written - ring.oldest)
        drawn = choose(key, self._source.size, online, self._draw)
        return made(drawn, (old.rows, jnp.asarray(old.exists)), ring, self._view)


def _block_of(
    metrics: Metrics, faults: Int[Array, "count"], batch: Callable[[Array], Transition]
) -> Block:
    """One seed's block: means over its good updates, and the first bad one, drawn again."""
    good = faults == 0
    many = jnp.sum(good.astype(jnp.float32))

    def mean(values: Float[Array, "count"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(good, values, 0.0)) / jnp.maximum(many, 1.0)

    first = jnp.argmax(~good).astype(jnp.int32)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(batch, first))
    # Under vmap both branches are computed: one more batch is drawn in a block of several seeds.
    found = jax.lax.cond(good.all(), lambda: blank, lambda: batch(first))
    at_first = jax.tree.map(lambda values: values[first], metrics)
    means = jax.tree.map(mean, metrics) | {"guard/good": many / good.shape[0]}
    return Block(means, Report(faults, first, at_first, found))


Act = Callable[[Key, Observation, Memory], tuple[Float[Array, "d"], Memory]]


def acting(
    agent_act: Callable[[Agent], Act], normaliser: Normaliser, seeds: int
) -> Callable[..., Any]:
    """A compiled policy call for several environments of each of several agents.

    ``agent_act`` picks what to call: ``lambda agent: agent.explore``, or a refiner in its place.
    The result is called as ``call(agents, keys, obs, memory)``; all carry an axis of seeds, and
    keys, obs and memory one of environments after it.
    """

    @exactly
    def one(agent: Agent, keys: Keys, obs: Observation, memory: Memory) -> Any:
        return jax.vmap(lambda k, o, m: agent_act(agent)(k, normaliser(o), m))(keys, obs, memory)

    return jax.jit(over_seeds(one, (0, 0, 0, 0), seeds))
