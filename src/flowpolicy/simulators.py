"""Importing simulators late, and so that nothing fails or ends where no screen is."""

import logging
import os
import sys
from ctypes.util import find_library
from importlib import metadata
from types import ModuleType

from flowpolicy.errors import InvalidConfig, MissingExtra


def gymnasium_with_ogbench() -> ModuleType:
    """The ``gymnasium`` module with OGBench's environments registered; takes a second or two.

    Where MuJoCo is not imported yet, MUJOCO_GL is set to a way to draw that this machine has.
    """
    gymnasium = gymnasium_alone()
    import ogbench  # noqa: F401

    return gymnasium


def gymnasium_alone() -> ModuleType:
    """The ``gymnasium`` module; MUJOCO_GL as above, since its MuJoCo environments import that."""
    if "mujoco" not in sys.modules:
        os.environ["MUJOCO_GL"] = _graphics(os.environ.get("MUJOCO_GL", ""))
    import gymnasium

    return gymnasium


def _graphics(wanted: str) -> str:
    """The value of MUJOCO_GL under which importing mujoco succeeds; it is read there, once."""
    if sys.platform != "linux":
        return wanted
    # Without a screen glfw does not raise: it aborts the process when something is drawn.
    usable = {
        "egl": find_library("EGL") is not None,
        "osmesa": find_library("OSMesa") is not None,
        "glfw": bool(os.environ.get("DISPLAY")),
        "": False,
    }
    if usable.get(wanted, True):
        return wanted
    if wanted:
        return "disable"
    return next((name for name in ("egl", "osmesa", "glfw") if usable[name]), "disable")


PINS = {"robosuite": "1.5.1", "mujoco": "3.3.7"}
"""What RoboMimic's files of version 1.5 were made with, and a mujoco that it runs on: with 4.0 its
environments cannot be made, and other versions of robosuite observe in another order."""


def robosuite_alone() -> ModuleType:
    """The ``robosuite`` module, silent about what it lacks; takes seconds.

    Raises ``MissingExtra`` where it, or something that it needs, is not installed, and
    ``InvalidConfig`` where robosuite is not 1.5.1 or mujoco not 3.3.
    """
    pins = " ".join(f"{name}=={version}" for name, version in PINS.items())
    install = f"install the extra: pip install 'flowpolicy[robomimic]', which pins {pins}"
    for name, version in PINS.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise MissingExtra(f"{name} is not installed; {install}") from None
        allowed = version if name == "robosuite" else version.rpartition(".")[0]
        if found != allowed and not found.startswith(f"{allowed}."):
            raise InvalidConfig(
                f"{name} {found} is installed, and RoboMimic's environments need {name} {allowed}; "
                f"{install}"
            )
    gymnasium_alone()
    logging.getLogger("robosuite_logs").addFilter(_errors_alone)
    graphics = os.environ.get("MUJOCO_GL")
    try:
        import mujoco  # noqa: F401  before robosuite chooses a way to draw for both
        import robosuite  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra(f"robosuite cannot be imported ({error}); {install}") from error
    finally:
        os.environ.pop("MUJOCO_GL", None)
        os.environ.update({} if graphics is None else {"MUJOCO_GL": graphics})
    return robosuite


def _errors_alone(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
