"""Push-T: what it shows, its physics as a script uses them, and the scripted finger."""

import sys

import numpy as np
import pytest

from flowpolicy.envs.base import Env
from flowpolicy.envs.pusher import Pusher, check_pusher
from flowpolicy.envs.pusht import HALF, PushTEnv, Scene, scratch_board
from flowpolicy.envs.tee import OUTLINE, contacts, corners, on_board
from flowpolicy.errors import InvalidConfig, MissingExtra


def test_contacts_lie_on_the_outline_and_point_outwards():
    """A step outwards leaves the T, a step inwards enters it: by its two bars."""

    def within(p: np.ndarray) -> bool:
        x, y = p
        return (abs(x) < 60 and 0 < y < 30) or (abs(x) < 15 and 0 < y < 120)

    found = contacts()
    assert len(found) == 40
    for point, outwards in found:
        assert np.linalg.norm(outwards) == pytest.approx(1.0)
        assert within(point - outwards)
        assert not within(point + outwards)


def test_corners_turn_with_the_block():
    there = corners(np.array([100.0, 200.0, np.pi / 2]))
    np.testing.assert_allclose(there, np.stack([100 - OUTLINE[:, 1], 200 + OUTLINE[:, 0]], 1))
    assert on_board(np.array([20.0, 500.0]), 10.0)
    assert not on_board(np.array([20.0, 500.0]), 15.0)


@pytest.mark.parametrize("wrong", [{"noise": -0.1}, {"noise": 1.5}, {"mistakes": 1.0}])
def test_values_a_script_does_not_take(wrong):
    with pytest.raises(InvalidConfig, match=next(iter(wrong))):
        check_pusher(**{"noise": 0.0, "mistakes": 0.0, **wrong})


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gym_pusht" else real(name)
    )
    if "gym_pusht" in sys.modules:
        pytest.skip("it was imported before and is registered")
    with pytest.raises(MissingExtra, match=r"flowpolicy\[pusht\]"):
        PushTEnv()


@pytest.mark.extras
def test_it_shows_positions_in_the_units_of_actions():
    pytest.importorskip("gym_pusht")
    env = PushTEnv()
    assert isinstance(env, Env)
    obs, scene = env.reset(3), env.board().scene()
    np.testing.assert_allclose(obs[:2], scene.finger / HALF - 1, atol=1e-6)
    np.testing.assert_allclose(obs[2:4], scene.block[:2] / HALF - 1, atol=1e-6)
    np.testing.assert_allclose(obs[4:], [np.cos(scene.block[2]), np.sin(scene.block[2])], atol=1e-6)
    for _ in range(30):  # held where it is told to be, in the same units
        obs = env.step(np.array([-0.9, 0.9], np.float32)).obs
    np.testing.assert_allclose(obs[:2], [-0.9, 0.9], atol=0.01)


@pytest.mark.extras
def test_a_board_moves_as_the_environment_does():
    """The physics that the script plans with, step by step, a push included."""
    pytest.importorskip("gym_pusht")
    env, board = PushTEnv(), scratch_board()
    env.reset(0)
    block = np.array([256.0, 200.0, 0.3])
    env.board().arrange(Scene(np.array([256.0, 150.0]), np.zeros(2), block))
    board.arrange(env.board().scene())
    for aim in np.linspace(150, 300, 12):
        env.step(np.array([0.0, aim / HALF - 1], np.float32))
        board.step(np.array([256.0, aim]))
        for ours, theirs in zip(board.scene(), env.board().scene(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.linalg.norm(board.scene().block - block) > 20


@pytest.mark.extras
def test_the_finger_solves_what_it_is_given():
    """Four of four, noise included; of 600 episodes that were collected all were solved."""
    pytest.importorskip("gym_pusht")
    env = PushTEnv()
    for seed in range(4):
        env.reset(seed)
        script, steps = Pusher(np.random.default_rng(seed), noise=0.01), 0
        while True:
            step = env.step(script.act(env.board().scene()))
            steps += 1
            if step.terminated or step.truncated:
                break
        assert step.success, seed
        assert steps < 250


@pytest.mark.extras
def test_where_no_push_helps_it_moves_on():
    """The block lies as it should, up to rounding: no push brings it nearer by much."""
    pytest.importorskip("gym_pusht")
    board = scratch_board()
    scene = Scene(np.array([60.0, 60.0]), np.zeros(2), board.goal)
    action = Pusher(np.random.default_rng(0), noise=0.0).act(scene)
    np.testing.assert_allclose(action, (scene.finger + 30 / np.sqrt(2)) / HALF - 1, atol=1e-5)
