"""The scripted hand, in a world of points: it works, repeats itself, and errs as it is told."""

import importlib.util

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowpolicy.envs.scripted import JOBS, LOST, STRIDE, TURN, Hand, rotation
from flowpolicy.errors import InvalidConfig, UnknownName


class Points:
    """The hand goes where it is told; a closed hand takes along what is within 2 cm."""

    def __init__(self, task: str, draws: np.random.Generator) -> None:
        self.job = JOBS[task]
        self.hand, self.turned = np.array([0.0, 0.0, 1.1]), Rotation.from_rotvec([3.0, 0.1, 0.0])
        self.thing = np.array([*draws.uniform(-0.1, 0.1, 2), 0.82])
        self.held, self.taken = False, 0

    def seen(self) -> dict[str, np.ndarray]:
        state = np.zeros(14)
        state[self.job.position] = self.thing
        return {
            "robot0_eef_pos": self.hand, "robot0_eef_quat": self.turned.as_quat(), "object": state,
        }  # fmt: skip

    def step(self, action: np.ndarray) -> bool:
        closed = action[6] > 0
        if closed and not self.held and np.linalg.norm(self.thing - self.hand) < 0.02:
            self.held, self.taken = True, self.taken + 1
        self.held = self.held and closed
        self.hand = self.hand + STRIDE * action[:3]
        self.turned = Rotation.from_rotvec(TURN * action[3:6]) * self.turned
        if self.held:
            self.thing = self.thing + STRIDE * action[:3]
        if self.job.goal is None:
            return bool(self.thing[2] > 0.84)
        placed = np.linalg.norm(self.thing - self.job.goal) < 0.05
        return bool(placed and np.linalg.norm(self.thing - self.hand) > LOST)


def _play(task: str, seed: int, **options: float) -> tuple[Points, list[np.ndarray], bool]:
    draws = np.random.default_rng(seed)
    world, hand, actions = Points(task, draws), Hand(task, draws, **options), []
    for _ in range(300):
        actions.append(hand.act(world.seen()))
        if world.step(actions[-1]):
            return world, actions, True
    return world, actions, False


@pytest.mark.parametrize("task", sorted(JOBS))
def test_without_errors_one_grasp_is_enough(task):
    for seed in range(5):
        world, actions, solved = _play(task, seed, noise=0.0, mistakes=0.0)
        assert solved
        assert world.taken == 1
        assert not np.array(actions)[:, 3:6].any()  # it was never turned
        assert np.abs(actions).max() <= 1.0


@pytest.mark.parametrize("task", sorted(JOBS))
def test_errors_cost_time_and_are_made_good(task):
    clean = [len(_play(task, seed, noise=0.0, mistakes=0.0)[1]) for seed in range(20)]
    wrong = [_play(task, seed, noise=0.1, mistakes=0.5) for seed in range(20)]
    assert all(solved for _, _, solved in wrong)
    assert np.mean([len(actions) for _, actions, _ in wrong]) > np.mean(clean) + 10
    # The random walk of 100 turns of 0.05 rad, were it not undone, would be about 1 rad away.
    start = Rotation.from_rotvec([3.0, 0.1, 0.0])
    assert max((world.turned * start.inv()).magnitude() for world, _, _ in wrong) < 0.4
    assert _play(task, 3)[1][-1].tolist() == _play(task, 3)[1][-1].tolist()


def test_rotations_are_those_of_scipy():
    draws = np.random.default_rng(0)
    for start, end in zip(draws.normal(size=(50, 4)), draws.normal(size=(50, 4)), strict=True):
        turn = Rotation.from_quat(end) * Rotation.from_quat(start).inv()
        units = start / np.linalg.norm(start), end / np.linalg.norm(end)
        for sign in (1.0, -1.0):
            got = rotation(units[0], sign * units[1])
            np.testing.assert_allclose(got, turn.as_rotvec(), atol=1e-9)
    np.testing.assert_array_equal(rotation(units[0], units[0]), np.zeros(3))


def test_what_is_refused():
    draws = np.random.default_rng(0)
    with pytest.raises(UnknownName, match="known: can, lift"):
        Hand("square", draws)
    with pytest.raises(InvalidConfig, match=r"mistakes in \[0, 1\), got 0.1 and 1.0"):
        Hand("can", draws, mistakes=1.0)
    with pytest.raises(InvalidConfig, match=r"noise must lie in \[0, 1\]"):
        Hand("can", draws, noise=-0.1)


@pytest.mark.extras
@pytest.mark.skipif(importlib.util.find_spec("robosuite") is None, reason="needs robosuite")
@pytest.mark.parametrize("task", sorted(JOBS))
def test_it_solves_robosuites_tasks(task):
    from flowpolicy.runs.demonstrations import demonstration

    episode = demonstration(task, 0.05, 0.0, seed=0, index=0)
    assert episode is not None
    assert episode.reward.tolist() == episode.done.tolist() == [0.0] * (len(episode.done) - 1) + [1]
    again = demonstration(task, 0.05, 0.0, seed=0, index=0)
    assert again is not None
    np.testing.assert_array_equal(again.action, episode.action)
    np.testing.assert_array_equal(again.next_obs["object"], episode.next_obs["object"])
    np.testing.assert_array_equal(episode.next_obs["object"][:-1], episode.obs["object"][1:])
