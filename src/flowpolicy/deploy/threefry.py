"""Threefry-2x32 with 20 rounds (Salmon et al. 2011), in numpy: the noise that JAX draws.

A key is one uint64, its first 32-bit word in the upper half; keys in arrays are arrays of uint64,
so that slicing and stacking need no rule of their own. Counters are 64-bit numbers, as under JAX's
``jax_threefry_partitionable``, where the number at a place depends on the place alone.
"""

import math
from typing import Any

import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF
_FEW = 4
"""Blocks up to which Python's integers are faster than numpy's calls."""


def seed_key(seed: int) -> np.uint64:
    """The key of a seed: its lower 32 bits, as JAX takes them where 64-bit types are off."""
    return np.uint64(seed & _WORD)


def fold_in(key: Any, number: Any) -> Any:
    """A new key made of a key and a 32-bit number; arrays of either are taken entry by entry."""
    return threefry(key, np.asarray(number).astype(np.uint32).astype(np.uint64))


def split(key: Any, shape: tuple[int, ...]) -> Any:
    """New keys of ``shape`` for each key."""
    return threefry(_spread(key, shape), _counts(shape))


def bits(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Random bits of ``shape`` for each key, as an unsigned integer type."""
    block = threefry(_spread(key, shape), _counts(shape))
    if dtype.itemsize == 8:
        return block
    return ((block >> np.uint64(32)) ^ block).astype(dtype)


def _counts(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)


def _spread(key: Any, shape: tuple[int, ...]) -> Any:
    return np.reshape(key, np.shape(key) + (1,) * len(shape))


def threefry(key: Any, count: Any) -> Any:
    """The block cipher of ``count`` under ``key``, uint64 both, broadcast against each other."""
    shape = np.broadcast_shapes(np.shape(key), np.shape(count))
    if math.prod(shape) > _FEW:
        return _many(np.asarray(key), np.asarray(count), shape)
    pairs = zip(
        np.broadcast_to(key, shape).ravel().tolist(),
        np.broadcast_to(count, shape).ravel().tolist(),
        strict=True,
    )
    return np.array([_one(k, c) for k, c in pairs], np.uint64).reshape(shape)[()]


def _one(key: int, count: int) -> int:
    first, second = key >> 32, key & _WORD
    schedule = (first, second, first ^ second ^ _PARITY)
    x, y = (count >> 32) + first, (count & _WORD) + second
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x = (x + y) & _WORD
            y &= _WORD
            y = ((y << r) & _WORD | (y >> (32 - r))) ^ x
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3] + group + 1
    return (x & _WORD) << 32 | (y & _WORD)


def _many(key: np.ndarray, count: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    first, second = _words(key)
    schedule = (first, second, first ^ second ^ np.uint32(_PARITY))
    x, y = (np.array(np.broadcast_to(word, shape)) for word in _words(count))
    x += first
    y += second
    turned = np.empty_like(y)
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x += y
            np.left_shift(y, r, out=turned)
            np.right_shift(y, 32 - r, out=y)
            y |= turned
            y ^= x
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3]
        y += np.uint32(group + 1)
    return x.astype(np.uint64) << np.uint64(32) | y


def _words(value: np.ndarray) -> tuple[Any, Any]:
    return (value >> np.uint64(32)).astype(np.uint32), value.astype(np.uint32)
