"""The replay: offline rows, shared and never overwritten, and a ring of online rows per seed."""

import dataclasses
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from flowpolicy.data.chunk import View
from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register
from flowpolicy.types import Key, Rows, Transition


class Ring(eqx.Module):
    """Online rows of one seed; row number i lives at i modulo the capacity.

    written: rows ever written; the newest ``capacity`` of them are here.
    """

    rows: Rows
    written: Int[Array, ""]

    @classmethod
    def create(cls, like: Rows, capacity: int) -> "Ring":
        """An empty ring for rows shaped like those of ``like`` (which has a leading axis)."""
        if capacity < 1:
            raise InvalidConfig(f"ring capacity must be at least 1, got {capacity}")
        rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), like)
        return cls(rows, jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        """Rows it can hold."""
        return self.rows.reward.shape[0]

    def insert(self, rows: Rows, count: Int[Array, ""]) -> "Ring":
        """Writes the first ``count`` of ``rows`` after the newest row."""
        offsets = jnp.arange(rows.reward.shape[0])
        # Of more rows than fit the newest stay: no place may be written twice.
        stays = (offsets < count) & (offsets >= count - self.capacity)
        # An index past the end is dropped, so padding rows leave no trace.
        places = jnp.where(stays, (self.written + offsets) % self.capacity, self.capacity)
        kept = jax.tree.map(
            lambda old, new: old.at[places].set(jnp.asarray(new), mode="drop"), self.rows, rows
        )
        return Ring(kept, self.written + count)

    def cut(self) -> "Ring":
        """No chunk goes on beyond the newest row: its episode is over, though it did not end."""
        place = (self.written - 1) % self.capacity
        before = jnp.asarray(self.rows.ended)
        ended = before.at[place].set(before[place] | (self.written > 0))
        return Ring(dataclasses.replace(self.rows, ended=ended), self.written)

    @property
    def oldest(self) -> Int[Array, ""]:
        """Number of the oldest row still here."""
        return jnp.maximum(self.written - self.capacity, 0)

    def window(self, start: Int[Array, ""], horizon: int) -> tuple[Rows, Bool[Array, "h"]]:
        """Rows ``start`` to ``start + horizon``, by number, and which of them were written."""
        numbers = start + jnp.arange(horizon)
        return jax.tree.map(lambda x: x[numbers % self.capacity], self.rows), (
            numbers < self.written
        )


def offline_window(
    rows: Rows, start: Int[Array, ""], horizon: int
) -> tuple[Rows, Bool[Array, "h"]]:
    """Rows ``start`` to ``start + horizon`` of a data set, and which of them exist."""
    size = rows.reward.shape[0]
    places = start + jnp.arange(horizon)
    return jax.tree.map(lambda x: x[jnp.minimum(places, size - 1)], rows), places < size


@runtime_checkable
class Draw(Protocol):
    """Chooses between offline and online rows for one sample."""

    def __call__(
        self, key: Key, offline: int, online: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        """(whether offline, position within the chosen side)."""
        ...


@register("uniform_draw")
@dataclasses.dataclass(frozen=True)
class UniformDraw:
    """One uniform draw over the union of offline and online rows (QC, FMQ)."""

    def __call__(
        self, key: Key, offline: int, online: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        """(whether offline, position within the chosen side)."""
        place = jax.random.randint(key, (), 0, offline + online)
        return place < offline, jnp.where(place < offline, place, place - offline)


@register("offline_share")
@dataclasses.dataclass(frozen=True)
class OfflineShare:
    """A fixed share of offline rows, as long as there are online rows (RLPD: 0.5)."""

    share: float = 0.5
    """Probability of an offline row, in [0, 1]."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.share <= 1:
            raise InvalidConfig(f"offline_share.share must be in [0, 1], got {self.share}")

    def __call__(
        self, key: Key, offline: int, online: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        """(whether offline, position within the chosen side)."""
        key_side, key_place = jax.random.split(key)
        from_offline = jax.random.bernoulli(key_side, self.share) | (online == 0)
        size = jnp.where(from_offline, offline, online)
        return from_offline, jax.random.randint(key_place, (), 0, jnp.maximum(size, 1))


class Drawn(eqx.Module):
    """Where one sample begins: on which side, at which row of the data set, at which online row."""

    from_offline: Bool[Array, ""]
    old: Int[Array, ""]
    new: Int[Array, ""]


def choose(
    key: Key, offline: int, online: tuple[Int[Array, ""], Int[Array, ""]] | None, draw: Draw
) -> Drawn:
    """Where the sample of ``key`` begins.

    offline: rows of the data set, 0 where there is none
    online:  number of the oldest online row and how many there are, or None without a ring
    """
    if online is None and not offline:
        raise InvalidConfig("a replay needs offline rows, a ring of online rows, or both")
    none = jnp.zeros((), jnp.int32)
    if online is None:
        return Drawn(jnp.ones((), bool), jax.random.randint(key, (), 0, offline), none)
    oldest, held = online
    if not offline:
        place = jax.random.randint(key, (), 0, jnp.maximum(held, 1))
        return Drawn(jnp.zeros((), bool), none, oldest + place)
    from_offline, place = draw(key, offline, held)
    old = jnp.where(from_offline, place, 0)
    return Drawn(from_offline, old, oldest + jnp.where(from_offline, 0, place))


def made(
    drawn: Drawn, old: tuple[Rows, Bool[Array, "h"]] | None, ring: Ring | None, view: View
) -> Transition:
    """What ``view`` makes of the window at ``drawn``; ``old`` is that of the data set."""
    if ring is None:
        if old is None:
            raise InvalidConfig("a replay needs offline rows, a ring of online rows, or both")
        return view(*old)
    new, new_exists = ring.window(drawn.new, view.horizon)
    if old is None:
        return view(new, new_exists)
    window = jax.tree.map(lambda a, b: jnp.where(drawn.from_offline, a, b), old[0], new)
    return view(window, jnp.where(drawn.from_offline, old[1], new_exists))


def sample(key: Key, offline: Rows | None, ring: Ring | None, view: View, draw: Draw) -> Transition:
    """One transition: a start drawn by ``draw``, its window, and what ``view`` makes of it.

    Windows never cross the end of the data set, nor the ring's write head.
    """
    size = 0 if offline is None else offline.reward.shape[0]
    online = None if ring is None else (ring.oldest, ring.written - ring.oldest)
    drawn = choose(key, size, online, draw)
    old = None if offline is None else offline_window(offline, drawn.old, view.horizon)
    return made(drawn, old, ring, view)
