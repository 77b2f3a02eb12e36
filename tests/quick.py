"""Compilation without XLA's costly passes, for tests that compile much and compute little."""

import contextlib

import jax

OPTION = "jax_disable_most_optimizations"


@contextlib.contextmanager
def quick_compilation():
    """Programs that are compiled meanwhile are made in half the time and run slower."""
    before = jax.config.read(OPTION)
    jax.config.update(OPTION, True)
    try:
        yield
    finally:
        jax.config.update(OPTION, before)
