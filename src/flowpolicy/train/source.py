"""Where a batch's offline rows come from: the device, or the host a block ahead."""

import functools
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from flowpolicy.data.ahead import Ahead
from flowpolicy.data.host import Asked, HostWindows, Windows, asked
from flowpolicy.data.replay import Draw, Ring
from flowpolicy.train.devices import Devices
from flowpolicy.types import Key, Keys, Rows


@runtime_checkable
class Source(Protocol):
    """Offline rows for programs that update."""

    @property
    def rows(self) -> Rows | None:
        """All of them, where they lie on the device."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def windows(
        self, keys: Keys, first: np.ndarray, count: int, rings: Ring | None
    ) -> Windows | None:
        """Those that ``count`` updates of every seed will draw, where they do not lie there."""
        ...

    def close(self) -> None:
        """Ends what gathers them."""
        ...


class OnDevice:
    """Rows on the device, or none at all: programs draw from them in the graph."""

    def __init__(self, rows: Rows | None, devices: Devices) -> None:
        """Moves the rows."""
        self.rows = None
        if rows is not None:
            self.rows = devices.everywhere(jax.tree.map(jnp.asarray, rows))
        self.size = 0 if rows is None else len(rows.reward)

    def windows(
        self, keys: Keys, first: np.ndarray, count: int, rings: Ring | None
    ) -> Windows | None:
        """None."""
        del keys, first, count, rings

    def close(self) -> None:
        """Nothing does."""


class OnHost:
    """Rows in the host's memory, or in mapped files. The batches are those of ``OnDevice``.

    Offline, the windows of the next block are gathered by a thread while one is computed. Online
    they cannot be: which rows are drawn depends on how many there are by then.
    """

    rows = None

    def __init__(
        self, rows: Rows, devices: Devices, *, seeds: int, horizon: int, batch: int, draw: Draw
    ) -> None:
        """Reads nothing yet."""
        self.size, self._devices = len(rows.reward), devices
        self._guess: list[Asked | None] = [None] * seeds
        draws = HostWindows(rows, horizon=horizon, batch=batch, draw=draw)
        self._ahead = [Ahead(draws, lambda _, i=i: self._guess[i]) for i in range(seeds)]

    def windows(
        self, keys: Keys, first: np.ndarray, count: int, rings: Ring | None
    ) -> Windows | None:
        """(seeds, updates, batch, h)."""
        online = [None] * len(first) if rings is None else _held(rings)
        found = []
        for i, (ahead, start, held) in enumerate(zip(self._ahead, first, online, strict=True)):
            wanted = asked(_batch_keys(keys[i], jnp.int32(start), count), held)
            later = _batch_keys(keys[i], jnp.int32(start + count), count)
            self._guess[i] = None if held is not None else asked(later)
            found.append(ahead(wanted))
        return self._devices.by_seed(jax.tree.map(lambda *xs: jnp.stack(xs), *found))

    def close(self) -> None:
        """Ends the threads."""
        for ahead in self._ahead:
            ahead.close()


def _held(rings: Ring) -> list[tuple[int, int]]:
    """Of every seed, the number of the oldest online row and how many there are."""
    capacity = rings.rows.reward.shape[1]
    written = np.asarray(rings.written).tolist()
    return [(max(w - capacity, 0), min(w, capacity)) for w in written]


@functools.partial(jax.jit, static_argnums=2)
def _batch_keys(key: Key, first: Int[Array, ""], count: int) -> Keys:
    """The keys that the batches of ``count`` updates are drawn by; see ``updates``."""
    numbers = first + jnp.arange(count)
    return jax.vmap(lambda n: batch_and_update(key, n)[0])(numbers)


def batch_and_update(key: Key, number: Int[Array, ""]) -> Keys:
    """Two keys of one update: by which its batch is drawn, and its own."""
    return jax.random.split(jax.random.fold_in(key, number))


def source(
    rows: Rows | None,
    devices: Devices,
    *,
    on_host: bool,
    seeds: int,
    horizon: int,
    batch: int,
    draw: Draw,
) -> Source:
    """On the host where that is asked for, or where the rows are mapped files; else the device."""
    if rows is None or not (on_host or mapped(rows)):
        return OnDevice(rows, devices)
    return OnHost(rows, devices, seeds=seeds, horizon=horizon, batch=batch, draw=draw)


def mapped(rows: Rows) -> bool:
    """Whether any array of ``rows`` is a mapped file."""
    return any(isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(rows))
