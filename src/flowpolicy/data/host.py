"""Offline rows that stay on the host: windows are drawn as ``replay.sample`` draws them, gathered
from arrays that may be mapped files, and sent to the device; ``data.ahead`` does it a block ahead.

The starts are computed by the same function from the same keys, so a batch is, to the bit, the one
of rows on the device. In the graph ``made(choose(...), window, ring, view)`` takes the place of
``sample``.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from flowpolicy.data.replay import Draw, choose
from flowpolicy.types import Keys, Rows


class Windows(eqx.Module):
    """Windows of the data set, and which of their rows exist: (updates, batch, h) ahead."""

    rows: Rows
    exists: Bool[Array | np.ndarray, "updates batch h"]


class Asked(NamedTuple):
    """The windows of some updates: key data of one batch key for each of them, and the online rows.

    keys:   the bytes of the key data (updates, words) and its shape, which compare as numbers do
    online: number of the oldest online row and how many there are, or None
    """

    keys: bytes
    shape: tuple[int, ...]
    online: tuple[int, int] | None


class HostWindows:
    """Draws and gathers. Of the rows only what is asked for is read, and nothing is copied."""

    def __init__(self, rows: Rows, *, horizon: int, batch: int, draw: Draw) -> None:
        """``rows`` are numpy arrays, in memory or mapped."""
        self._rows, self._horizon, self._batch = rows, horizon, batch
        self._size = len(rows.reward)
        self._draw = draw
        self._cpu = jax.local_devices(backend="cpu")[0]

    def __call__(self, asked: Asked) -> Windows:
        """The windows, on the default device."""
        starts = self.starts(asked)
        places = starts[..., None] + np.arange(self._horizon)
        exists = places < self._size
        places = np.minimum(places, self._size - 1)
        rows = jax.tree.map(lambda column: np.asarray(column[places]), self._rows)
        return jax.device_put(Windows(rows, exists))

    def starts(self, asked: Asked) -> np.ndarray:
        """Rows at which the windows begin, (updates, batch), int64; 0 for samples of the ring."""
        data = np.frombuffer(asked.keys, np.uint32).reshape(asked.shape)
        with jax.default_device(self._cpu):
            online = None if asked.online is None else tuple(map(jnp.int32, asked.online))
            found = _starts(jnp.asarray(data), online, self._size, self._batch, self._draw)
            return np.asarray(found).astype(np.int64)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _starts(
    data: Any, online: Any, size: int, batch: int, draw: Draw
) -> Int[Array, "updates batch"]:
    def one(key: Any) -> Array:
        keys = jax.random.split(key, batch)
        return jax.vmap(lambda k: choose(k, size, online, draw).old)(keys)

    return jax.vmap(one)(jax.random.wrap_key_data(data))


def asked(keys: Keys, online: tuple[int, int] | None = None) -> Asked:
    """What ``HostWindows`` is asked for: the windows of one update for each of ``keys``."""
    data = np.asarray(jax.random.key_data(keys))
    return Asked(data.tobytes(), data.shape, online)
