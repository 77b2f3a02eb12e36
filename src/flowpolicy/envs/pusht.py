"""Push-T (gym-pusht): a round finger pushes a T-shaped block onto its outline on a board.

The environment is Gymnasium's ``gym_pusht/PushT-v0`` with one difference: what it shows is in the
units of its actions, so that a flow may begin at the finger (``measured((0, 1))``), and the angle
is a point of the circle, so that it does not jump.
"""

from typing import Any, NamedTuple

import numpy as np

from flowpolicy.envs.base import Step
from flowpolicy.envs.gymnasium import make_gymnasium, registered_spec

HALF = 256.0
"""Half of the board's side in its own units, the pixels; action 0 is the middle, 1 an edge."""
REGISTERED = "gym_pusht/PushT-v0"
STIFF = (500.0, 20.0)
"""Gains of SFP's released code, of the finger's distance and of its speed; gym-pusht's are 100 and
20. In a tenth of a second the finger then goes all of the way to an aim, otherwise a quarter."""


def needs_pusht() -> None:
    """Raises ``MissingExtra`` where gym-pusht is not installed."""
    registered_spec(REGISTERED)


class Scene(NamedTuple):
    """Where everything is, in pixels.

    finger: (2,) its middle; speed: (2,) in pixels a second
    block:  (3,) where the T's bar has the middle of its outer side, and the angle in radians
    """

    finger: np.ndarray
    speed: np.ndarray
    block: np.ndarray


class Board:
    """The physics of gym-pusht, to be looked at, arranged, and moved without its rewards."""

    def __init__(self, world: Any) -> None:
        """``world`` is the ``PushTEnv`` of gym-pusht, which has been reset."""
        self._world = world

    @property
    def goal(self) -> np.ndarray:
        """Where the block is to lie, as ``Scene.block`` (3,)."""
        return np.array(self._world.goal_pose, np.float64)

    def scene(self) -> Scene:
        """What is where."""
        finger, block = self._world.agent, self._world.block
        pose = np.array([*block.position, block.angle])
        return Scene(np.array(finger.position), np.array(finger.velocity), pose)

    def arrange(self, scene: Scene) -> None:
        """Puts everything where ``scene`` says; the block lies still."""
        finger, block, space = self._world.agent, self._world.block, self._world.space
        finger.position, finger.velocity = tuple(scene.finger.tolist()), tuple(scene.speed.tolist())
        # The angle first: the block is turned about its centre of mass, which moves its position.
        block.angle = float(scene.block[2])
        block.position = tuple(scene.block[:2].tolist())
        block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
        space.reindex_shapes_for_body(finger)
        space.reindex_shapes_for_body(block)

    def step(self, aim: np.ndarray) -> None:
        """The physics of one action: a tenth of a second of the finger's controller towards
        ``aim`` (2,), in pixels."""
        world, finger = self._world, self._world.agent
        (x, y), stiff, damp, dt = aim.tolist(), world.k_p, world.k_v, world.dt
        for _ in range(int(1 / (dt * world.control_hz))):
            (px, py), (vx, vy) = finger.position, finger.velocity
            vx, vy = (vx + (stiff * (x - px) - damp * vx) * dt,
                      vy + (stiff * (y - py) - damp * vy) * dt)  # fmt: skip
            finger.velocity = (vx, vy)
            world.space.step(dt)


class PushTEnv:
    """Push-T, see ``Env``; needs the extra pusht.

    obs:     (6,) finger x, y; block x, y; cosine and sine of its angle. Positions as in actions
    action:  (2,) where the finger is to go, [-1, 1] over the board; its controller lags behind
    reward:  share of the outline that is covered over 0.95, at most 1. Above 0.95 is a success and
             ends the episode
    """

    name = "pusht"
    obs_shape = (6,)
    action_size = 2

    def __init__(
        self, *, max_steps: int = 0, controller: tuple[float, float] | None = None
    ) -> None:
        """``max_steps`` are gym-pusht's 300 where 0; ``controller`` are the gains of the finger's
        distance and speed, gym-pusht's where None. Raises ``MissingExtra``."""
        self._env = make_gymnasium(REGISTERED, max_steps=max_steps)
        self.max_steps = self._env.max_steps
        if controller is not None:
            world: Any = self._env.unwrapped
            world.k_p, world.k_v = controller

    def reset(self, seed: int) -> np.ndarray:
        """Finger and block anywhere, drawn from ``seed``."""
        return _in_units(self._env.reset(seed))

    def step(self, action: np.ndarray) -> Step:
        """Moves the finger for a tenth of a second towards ``action``."""
        step = self._env.step(action)
        return step._replace(obs=_in_units(step.obs))

    def board(self) -> Board:
        """The physics behind it, for scripts and disturbances; valid until the next ``reset``."""
        return Board(self._env.unwrapped)

    def render(self) -> np.ndarray | None:
        """A frame (height, width, 3), uint8."""
        return self._env.render()

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


def scratch_board() -> Board:
    """A board of its own, to try things on. Raises ``MissingExtra``."""
    env = make_gymnasium(REGISTERED)
    env.reset(0)
    return Board(env.unwrapped)


def _in_units(seen: Any) -> np.ndarray:
    """gym-pusht's state (5,) as an observation (6,)."""
    angle = seen[4]
    return np.array([*(seen[:4] / HALF - 1.0), np.cos(angle), np.sin(angle)], np.float32)
