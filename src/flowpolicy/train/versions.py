"""What the bits of a result depend on, besides the configuration and the data."""

import functools
import importlib.metadata
import os
import platform as system
from pathlib import Path

import jax

PACKAGES = ("flowpolicy", "jax", "jaxlib", "numpy", "optax", "equinox", "mujoco", "ogbench")


def platform() -> dict[str, str]:
    """Device, processor, versions and XLA's options, as a checkpoint records them."""
    found = {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "python": system.python_version(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": str(bool(jax.config.values["jax_enable_x64"])),
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
    }
    return found | {package: _version(package) for package in PACKAGES}


@functools.cache
def _version(package: str) -> str:
    """Read once: a checkpoint must not wait for it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _processor() -> str:
    """The model, for which XLA compiles."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return system.processor() or system.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else system.machine()
