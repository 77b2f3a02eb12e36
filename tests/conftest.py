"""What holds for every test: the CPU, strict shapes and dtypes, annotations checked as they run."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version

# Also for the processes that tests start, which need no more strictness than a user has.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile much and compute little: without XLA's costly passes they take half the time, and
# without its newer emitters half of that. A flag that a version does not know ends the process.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if version("jaxlib").startswith("0.10."):
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

import hypothesis
import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# From here on every function of flowpolicy that is called checks its annotations, shapes included.
jaxtyping.install_import_hook("flowpolicy", "beartype.beartype")

# The same examples in every run; what a first call compiles must not count against an example.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Keeps what XLA compiles beside pytest's own cache: a second run need not compile it again.

    Workers share the folder: an entry that is read while it is written counts as a miss.
    """
    if getattr(config, "cache", None) is None:
        return
    settings = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(scope="module", autouse=True)
def _programs_are_forgotten() -> Iterator[None]:
    """Frees what XLA compiled for a module's tests; the folder above still has it.

    Every program takes a few memory maps, and of these Linux allows a process 65 530: a worker
    that keeps thousands of programs dies of it.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def optimised() -> Iterator[None]:
    """All of XLA's passes, for a module that computes much."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def key() -> jax.Array:
    """A random key; split it, use each half once."""
    return jax.random.key(0)
