"""Recording an episode of a small environment whose every step is known."""

import numpy as np
import pytest

from flowpolicy.envs.base import Step
from flowpolicy.errors import InvalidData
from flowpolicy.report.material import Rollout
from flowpolicy.report.rollout import record_examples, record_rollout, trace_flow


class Line:
    """Walk right from 0 to ``goal[seed]``, one unit a step of action 1; solved on arrival."""

    name = "line"
    obs_shape = (2,)
    action_size = 1
    max_steps = 50

    def __init__(self, goals, *, draws=True, forgets=False):
        self.goals, self.draws, self.forgets = goals, draws, forgets
        self.renders = self.resets = 0
        self.place, self.goal = 0.0, 0

    def reset(self, seed):
        self.resets += 1
        # ``forgets``: an environment that does not repeat itself.
        self.place, self.goal = 0.0, self.goals[seed] + self.forgets * self.resets
        return np.array([self.place, self.goal])

    def step(self, action):
        self.place += float(action[0])
        there = self.place >= self.goal
        return Step(np.array([self.place, self.goal]), float(there) - 1, there, False, there)

    def render(self):
        self.renders += 1
        return np.full((8, 8, 3), int(self.place), np.uint8) if self.draws else None

    def close(self):
        pass


def always_right(seed):
    del seed
    return lambda obs: np.ones(1)


def track(obs):
    return {"point": np.array([obs[0], 0.0])}


def test_prefers_a_success_and_draws_only_the_chosen_episode():
    env = Line({3: 1000, 4: 40, 5: 2})
    rollout = record_rollout(always_right, env, seeds=[3, 4, 5], track=track)
    assert (rollout.seed, rollout.success, rollout.success_step) == (4, True, 40)
    assert (rollout.tried, rollout.solved) == ((3, 4), (4,))
    assert rollout.reward == -39.0
    assert rollout.frame_steps == (*range(0, 37, 4), 40)
    assert env.renders == len(rollout.frames) == 11
    # The frame at step k shows the place at step k.
    assert [int(frame[0, 0, 0]) for frame in rollout.frames] == list(rollout.frame_steps)
    assert rollout.paths["point"][:, 0].tolist() == list(range(41))
    assert "seeds 3, 4" in rollout.sentence
    assert "solved at step 40 of 40" in rollout.sentence
    assert rollout.note == ""


def test_frames_are_capped_by_drawing_less_often():
    rollout = record_rollout(always_right, Line({0: 50}), seeds=[0], max_frames=6)
    assert len(rollout.frames) <= 6
    assert rollout.frame_steps[0] == 0
    assert rollout.frame_steps[-1] == 50


def test_examples_are_the_first_success_and_the_first_failure():
    env = Line({3: 40, 4: 2, 5: 1000, 6: 2})
    success, failure = record_examples(always_right, env, seeds=[3, 4, 5, 6], track=track)
    assert (success.seed, success.success_step) == (3, 40)
    assert (failure.seed, failure.success, failure.length) == (5, False, 50)
    # Nothing is played once there is one of each; both say what was tried.
    assert success.tried == failure.tried == (3, 4, 5)
    assert success.solved == failure.solved == (3, 4)
    assert success.frame_steps[-1] == 40
    assert len(failure.paths["point"]) == 51


def test_a_kind_that_does_not_occur_has_no_example():
    assert record_examples(always_right, Line({0: 1, 1: 2}), seeds=[0, 1])[1] is None
    assert record_examples(always_right, Line({0: 99}), seeds=[0])[0] is None
    with pytest.raises(InvalidData, match="seed"):
        record_examples(always_right, Line({}), seeds=[])


def test_without_a_success_the_highest_return_is_shown():
    env = Line({0: 1000, 1: 1000})
    rollout = record_rollout(always_right, env, seeds=[0, 1])
    assert (rollout.success, rollout.length, rollout.solved) == (False, 50, ())
    assert "none of the episodes tried" in rollout.sentence
    assert "not solved in 50 steps" in rollout.sentence


def test_a_machine_that_cannot_draw_is_asked_once():
    env = Line({0: 12}, draws=False)
    rollout = record_rollout(always_right, env, seeds=[0], track=track)
    assert (env.renders, rollout.frames) == (1, ())
    assert rollout.paths["point"].shape == (13, 2)


def test_an_environment_that_does_not_repeat_itself_is_told_of():
    rollout = record_rollout(always_right, Line({0: 5}, forgets=True), seeds=[0])
    assert "ended differently" in rollout.note
    assert rollout.length == 6
    assert not rollout.success
    why = "the first success among the episodes tried (environment seeds 0)"
    assert f"{why}; played again for recording, it was not solved in 6 steps." in rollout.sentence


def test_the_sentence_says_why_this_episode_by_what_was_tried():
    """Whatever the recording came to; a failure among successes is not the only kind."""
    forgot = Rollout(1, 9, 4, -3.0, (1, 3), ())
    assert "none of the episodes tried" in forgot.sentence
    assert "played again for recording, it was solved at step 4 of 9" in forgot.sentence
    failure = Rollout(1, 9, None, -9.0, (1, 3), (3,))
    assert "the first failure among the episodes tried" in failure.sentence
    assert failure.sentence.endswith("; not solved in 9 steps.")


def test_each_episode_gets_a_fresh_session():
    begun = []

    def session(seed):
        begun.append(seed)
        return lambda obs: np.ones(1)

    record_rollout(session, Line({0: 1000, 1: 3}), seeds=[0, 1])
    assert begun == [0, 1]
    with pytest.raises(InvalidData, match="seed"):
        record_rollout(session, Line({}), seeds=[])


def test_trace_flow_composes_the_steps_of_an_exact_flow():
    """N(0, 1) to N(2, 0.25) under the straight interpolant: X(r, t) is known in closed form."""

    def spread(t):
        return np.sqrt((1 - t) ** 2 + 0.25 * t**2)

    def flow(r, t, a):
        return 2 * t + spread(t) / spread(r) * (a - 2 * r)

    noise = np.random.default_rng(0).normal(size=(20, 3))
    picture = trace_flow(
        flow, lambda a: flow(0, 1, a), lambda a: a[:, 0], noise, steps=8, axes=(1, 2)
    )
    np.testing.assert_array_equal(picture.points[0], noise)
    np.testing.assert_allclose(picture.points[-1], picture.jump, atol=1e-12)
    np.testing.assert_allclose(picture.jump, 2 + 0.5 * noise)
    np.testing.assert_array_equal(picture.q, picture.points[-1][:, 0])
    assert (picture.times[0], picture.times[-1], len(picture.times)) == (0, 1, 9)
