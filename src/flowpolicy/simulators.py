"""Importing simulators late, and so that nothing fails or ends where no screen is."""

import os
import sys
from ctypes.util import find_library
from types import ModuleType


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
