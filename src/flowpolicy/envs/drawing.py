"""Whether a frame can be drawn on this machine, asked without risking the process."""

import functools
import subprocess
import sys

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(mujoco.MjData(model))
assert renderer.render().shape == (8, 8, 3)
renderer.close()
"""


@functools.cache
def can_render() -> bool:
    """Whether a process like this one can draw; tried in another, as failing may mean an abort."""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return probe.returncode == 0
