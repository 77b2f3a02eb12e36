"""Purely online on frames: the replay keeps the bytes that the environment shows."""

import dataclasses

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.agents.base import Agent
from flowpolicy.data.chunk import ChunkView
from flowpolicy.envs.base import Step
from flowpolicy.envs.fleet import Local
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import OneStep
from flowpolicy.train.phases import Evaluation
from flowpolicy.types import Spec

SHAPE = {"film": (4, 4, 3), "state": (2,)}


class Film:
    """Frames of one grey, which the action moves, and a number beside them."""

    name, action_size, max_steps = "film", 1, 5
    obs_shape = SHAPE

    def _obs(self):
        frame = np.full((4, 4, 3), 100 + self._at, np.uint8)
        return {"film": frame, "state": np.full(2, self._at, np.float32)}

    def reset(self, seed):
        self._at = 0
        return self._obs()

    def step(self, action):
        self._at += 1
        return Step(self._obs(), 0.0, False, self._at >= self.max_steps, False)

    def render(self):
        return None

    def close(self):
        pass


@fp.register("films")
@dataclasses.dataclass(frozen=True)
class Films:
    """Without data."""

    name = "films"
    playable = True

    def dataset(self):
        return None

    def env(self):
        return Film()


class Watcher(Agent):
    """Keeps the greys of its batch and learns nothing."""

    film: jax.Array

    def act(self, key, obs, memory):
        return jax.numpy.zeros(1), memory

    def update(self, key, batch):
        return Watcher(batch.obs["film"]), {"loss": jax.numpy.zeros(())}

    def flow(self):
        raise InvalidConfig("none")

    def value(self, obs, action):
        raise InvalidConfig("none")


@fp.register("watcher")
@dataclasses.dataclass(frozen=True)
class Watches:
    """An agent of frames alone."""

    act: OneStep = OneStep()
    view = ChunkView(1, 0.9)

    def init(self, key, spec):
        assert spec == Spec(SHAPE, 1, 0, ("film",))
        return Watcher(jax.numpy.zeros((4, *spec.obs["film"]), jax.numpy.uint8))


def test_bytes_stay_bytes_in_ring_and_journal(tmp_path):
    """A row takes 48 bytes for each of its two frames, and they are those that were shown."""
    quiet = Evaluation(every=0, final_episodes=0)
    run = fp.train(
        fp.RunConfig(
            Watches(), Films(), (fp.Online(12, start_after=4),), batch=4, evaluation=quiet,
            guard=None,
        ), out=tmp_path / "r",
    )  # fmt: skip
    film = np.asarray(run.load()[0].agents.film[0])
    assert film.dtype == np.uint8
    assert set(film.ravel()) <= {100, 101, 102, 103, 104}
    assert run.spec().frames == ("film",)
    (rows,) = (run.path / "replay").glob("seed-0/*.bin")
    assert rows.stat().st_size == 12 * (2 * (48 + 8) + 4 + 4 + 1 + 1)


@pytest.mark.parametrize("shape", [(4,), {"a": (2, 3), "b": (1,)}])
def test_where_nothing_looks_like_a_frame_nothing_is_reset(shape):
    env = Film()
    env.obs_shape, env.reset = shape, lambda seed: pytest.fail("it was reset")
    assert Local(lambda: env).shape().frames == ()
