"""Randomness that is a function of (seed, number), also for code that draws from numpy's global
generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.random import mtrand


def seed_for(seed: int, episode: int) -> int:
    """The reset seed of ``episode`` in the run of ``seed``, in [0, 2^31).

    Neighbouring seeds and episodes give unrelated numbers (numpy's ``SeedSequence``).
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(episode,))
    return int(sequence.generate_state(1)[0] >> 1)


class GlobalNumpy:
    """A random stream that stands in for numpy's global generator while third-party code runs.

    Within ``with stream.active():`` the functions of ``numpy.random`` draw from this stream; what
    was there before is put back afterwards, as it was, also after an exception. Streams of several
    environments may alternate, each continuing its own. Not for threads: the generator is one for
    the whole process.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draws from this stream until the block ends."""
        outer = mtrand.get_bit_generator()
        # Exchanging bit generators costs a microsecond but forgets the second half of a Gaussian
        # pair; only where there is one is the whole state (100 microseconds) written back.
        state = np.random.get_state(legacy=False)
        mtrand.set_bit_generator(self._bits)
        try:
            yield
        finally:
            mtrand.set_bit_generator(outer)
            if state["has_gauss"]:
                np.random.set_state(state)
