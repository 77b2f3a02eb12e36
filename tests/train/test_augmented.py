"""Augmentation in training: what is drawn stays as it is, and is changed before the normaliser."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.agents.base import Agent
from flowpolicy.data.augment import RandomCrop, shifted
from flowpolicy.data.chunk import ChunkView
from flowpolicy.data.replay import UniformDraw
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.updates import Updater
from flowpolicy.types import Rows

COUNT, BATCH = 40, 16
FRAMES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 5, 3)).astype(np.uint8)
NOTHING = Normaliser(None, None)


class Keeps(Agent):
    """Learns nothing, and keeps the batch."""

    obs: jax.Array
    next_obs: jax.Array

    def act(self, key, obs, memory):
        raise NotImplementedError

    def flow(self):
        raise NotImplementedError

    def value(self, obs, action):
        raise NotImplementedError

    def update(self, key, batch):
        return Keeps(batch.obs, batch.next_obs), {"loss": jnp.zeros(())}


def _batch(obs, augment, normaliser=NOTHING, *, on_host=False):
    """Both observations of the batch of update 3, (BATCH, ...) each."""
    no = np.zeros(COUNT, bool)
    flat = np.zeros(COUNT, np.float32)
    updater = Updater(
        offline=Rows(obs, flat[:, None], flat, no, no, obs[::-1]), normaliser=normaliser,
        view=ChunkView(1, 0.9), draw=UniformDraw(), batch=BATCH, seeds=1, augment=augment,
        on_host=on_host,
    )  # fmt: skip
    blank = jnp.zeros((1, BATCH, *obs.shape[1:]), obs.dtype)
    keys = jax.random.split(jax.random.key(0), 1)
    agent, _ = updater.update(
        Keeps(blank, blank + 0), None, keys, np.array([3]), np.array([True]), count=1
    )
    updater.close()
    return np.asarray(agent.obs[0]), np.asarray(agent.next_obs[0])


@pytest.mark.parametrize("on_host", [False, True])
def test_every_sample_is_a_shift_of_what_is_drawn_without(on_host):
    """The same one for s and s'. Of nine shifts at least four are met: of 16 samples on three of
    nine with probability below 84 / 3^16 < 1e-5; the key is fixed. A share of 0 changes no bit."""
    obs, following = map(jnp.asarray, _batch(FRAMES, None))
    same = _batch(FRAMES, RandomCrop(pad=1, share=0.0), on_host=on_host)
    np.testing.assert_array_equal(same, (obs, following))
    moved = _batch(FRAMES, RandomCrop(pad=1, share=1.0), on_host=on_host)
    corners = [jnp.array((i, j)) for i in range(3) for j in range(3)]
    met = set()
    for k in range(BATCH):
        fits = [
            n for n, corner in enumerate(corners)
            if np.array_equal(shifted(obs[k], corner, 1), moved[0][k])
            and np.array_equal(shifted(following[k], corner, 1), moved[1][k])
        ]  # fmt: skip
        assert len(fits) == 1
        met.update(fits)
    assert len(met) >= 4


def test_it_comes_before_the_normaliser():
    """(s + 100 - 4) / 2 of every sample that is drawn."""
    numbers = np.arange(2.0 * COUNT, dtype=np.float32).reshape(COUNT, 2)
    normaliser = Normaliser(jnp.full(2, 4.0), jnp.full(2, 2.0))

    def plus(key, sample):
        return dataclasses.replace(sample, obs=sample.obs + 100.0, next_obs=sample.next_obs + 100.0)

    for plain, made in zip(_batch(numbers, None), _batch(numbers, plus, normaliser), strict=True):
        np.testing.assert_array_equal(made, (plain + 96.0) / 2.0)


def test_it_is_a_field_of_the_run():
    """Written, read, and set by the named visual runs; nothing else is augmented."""
    config = runs.get("fql/visual-scene-task1").config
    assert config.augment == RandomCrop(pad=3, share=0.5)
    assert (config.agent.alpha, config.task.stack) == (100.0, 3)
    assert config.phases == (fp.Offline(500_000),)
    assert runs.get("fql/scene-task1").config.augment is None
