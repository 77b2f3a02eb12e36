"""Purely online on frames: the replay keeps the bytes that the environment shows."""

import dataclasses

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.agents import Distilled, qam_e, qam_f
from flowpolicy.agents.base import Agent
from flowpolicy.data.chunk import ChunkView
from flowpolicy.envs.base import Step
from flowpolicy.envs.fleet import Local
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow
from flowpolicy.nets.encoder import Impala
from flowpolicy.refine import OneStep
from flowpolicy.runs import seeing
from flowpolicy.train import fits
from flowpolicy.train.fits import check_sight
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.watch import Silent
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


@dataclasses.dataclass(frozen=True)
class OwnCritic:
    """A net of somebody's that multiplies whatever it sees by one matrix."""

    def init(self, key, spec, action):
        return jax.random.normal(key, (spec.obs_size + action, 1))


@dataclasses.dataclass(frozen=True)
class OwnEye:
    """One that takes frames of one size alone, and does not ask which."""

    def init(self, key, spec, action):
        return jax.random.normal(key, (3, 3, 3, action))


@dataclasses.dataclass(frozen=True)
class PooledEye:
    """One that takes frames of any size, and needs them."""

    def init(self, key, spec, action):
        *_, channels = spec.obs["film"]
        (state,) = spec.obs["state"]
        return jax.random.normal(key, (channels + state, action))


SPEC = Spec(SHAPE, 1, 0, ("film",))
SMALL = Impala(channels=(2,), width=4)
SEEN = seeing(fp.FMQ(), SMALL)
BLIND = {
    "fmq.actor: mlp_flow(": fp.FMQ(),
    "fmq.critic: mlp_critic(": dataclasses.replace(SEEN, critic=fp.FMQ().critic),
    "fmq.critic: .*OwnCritic": dataclasses.replace(SEEN, critic=OwnCritic()),
    "ifql.value: mlp_value(": dataclasses.replace(seeing(fp.IFQL()), value=fp.IFQL().value),
    "rlpd.actor: mlp_gaussian(": fp.RLPD(),
    "qam.head.actor: mlp_one_step(": dataclasses.replace(seeing(fp.QAM()), head=qam_f().head),
    "qam.head.net: mlp_gaussian(": dataclasses.replace(seeing(fp.QAM()), head=qam_e().head),
    "distilled.source.actor: mlp_velocity(": Distilled(fp.QC(), SEEN),
}


@pytest.mark.parametrize("message", BLIND)
def test_a_net_that_flattens_frames_is_named(message):
    """Whatever is around it; and the way out."""
    pattern = (
        message.replace("(", r"\(") + r".* film \(4, 4, 3\).*flowpolicy\.runs\.seeing\(agent\)"
    )
    with pytest.raises(InvalidConfig, match=pattern):
        check_sight(BLIND[message], SPEC)


@pytest.mark.parametrize(
    "agent",
    [
        SEEN,
        seeing(fp.IFQL(), SMALL),
        seeing(qam_f(), SMALL),
        Distilled(seeing(fp.QC(), SMALL), SEEN),
        dataclasses.replace(SEEN, actor=OwnEye(), critic=PooledEye()),
        Watches(),
    ],
)
def test_nets_that_look_at_frames_are_not_refused(agent):
    """Those with an encoder, and anybody's."""
    check_sight(agent, SPEC)


@pytest.mark.parametrize(
    "spec", [Spec((4, 4, 3), 1), Spec({"film": (4, 4, 3), "byte": (2,)}, 1, 0, ("byte",))]
)
def test_what_is_no_frame_may_be_flattened(spec):
    """Numbers of any shape, and bytes that are no picture."""
    check_sight(fp.FMQ(), spec)


class Broken(Silent):
    """The run dies at once."""

    def advance(self, done):
        raise ConnectionError("the power is gone")


@jax.numpy_dtype_promotion("standard")  # as users have it: bytes and floats become floats
def test_a_run_that_would_flatten_frames_does_not_begin(monkeypatch, tmp_path):
    """Of an environment alone too, and nothing is written; one that did begin goes on."""
    config = fp.RunConfig(
        fp.FMQ(
            chunk=1, actor=MLPFlow(8, 1), critic=MLPCritic(8, 1),
            act=OneStep(), bootstrap=OneStep(),
        ),
        Films(), (fp.Online(12, start_after=4),), batch=4,
        evaluation=Evaluation(every=0, final_episodes=0),
    )  # fmt: skip
    out = tmp_path / "run"
    with pytest.raises(InvalidConfig, match=r"fmq\.actor"):
        fp.train(config, out=out)
    assert not out.exists()
    with monkeypatch.context() as before:
        before.setattr(fits, "check_sight", lambda *_: None)
        with pytest.raises(ConnectionError):
            fp.train(config, out=out, watch=Broken())
    assert not fp.Run(out).finished()
    assert fp.resume(out).finished()
