"""Every key is a function of (seed, attempt, stream, step): nothing is carried, nothing depends
on what was drawn before."""

import enum

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.types import Key, Keys


class Stream(enum.IntEnum):
    """What a key is for. Numbers are part of the file format: never reuse one."""

    INIT = 0
    UPDATE = 1
    EXPLORE = 2
    EVALUATE = 3
    BEGIN_ONLINE = 4
    POLICY = 5
    RANDOM = 6


def stream_key(seed: int, stream: Stream, attempt: int = 0) -> Key:
    """The root key of one stream of one seed; fold the step into it."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), attempt), int(stream))


def stream_keys(seeds: tuple[int, ...], stream: Stream, attempt: int = 0) -> Keys:
    """Root keys of a stream, one per seed, stacked."""
    return jnp.stack([stream_key(seed, stream, attempt) for seed in seeds])


def episode_seed(seed: int, kind: Stream, index: int, attempt: int = 0) -> int:
    """The reset seed of one episode: a function of (seed, attempt, kind, index), below 2^31."""
    state = np.random.SeedSequence([seed, attempt, int(kind), index]).generate_state(1)
    return int(state[0] >> 1)


def random_chunk(seed: int, tick: int, size: int, attempt: int = 0) -> np.ndarray:
    """``size`` numbers uniform in [-1, 1]: a function of (seed, attempt, tick)."""
    generator = np.random.default_rng([seed, attempt, int(Stream.RANDOM), tick])
    return generator.uniform(-1.0, 1.0, size).astype(np.float32)
