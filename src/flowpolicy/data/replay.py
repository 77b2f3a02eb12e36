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


def sample(key: Key, offline: Rows | None, ring: Ring | None, view: View, draw: Draw) -> Transition:
    """One transition: a start drawn by ``draw``, its window, and what ``view`` makes of it.

    Windows never cross the end of the data set, nor the ring's write head.
    """
    if ring is None or offline is None:
        return _one_sided(key, offline, ring, view)
    held = ring.written - ring.oldest
    from_offline, place = draw(key, offline.reward.shape[0], held)
    old, old_exists = offline_window(offline, jnp.where(from_offline, place, 0), view.horizon)
    number = ring.oldest + jnp.where(from_offline, 0, place)
    new, new_exists = ring.window(number, view.horizon)
    window = jax.tree.map(lambda a, b: jnp.where(from_offline, a, b), old, new)
    return view(window, jnp.where(from_offline, old_exists, new_exists))


def _one_sided(key: Key, offline: Rows | None, ring: Ring | None, view: View) -> Transition:
    if offline is not None:
        start = jax.random.randint(key, (), 0, offline.reward.shape[0])
        return view(*offline_window(offline, start, view.horizon))
    if ring is None:
        raise InvalidConfig("a replay needs offline rows, a ring of online rows, or both")
    held = jnp.maximum(ring.written - ring.oldest, 1)
    start = ring.oldest + jax.random.randint(key, (), 0, held)
    return view(*ring.window(start, view.horizon))
