"""Evaluation: an episode is a function of (agent, seed, index) and of nothing else.

Beside it what collects, which sees the same and remembers as long.
"""

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import OFFLINE, QUIET, TINY, fingerprint, train

import flowpolicy as fp
from flowpolicy import evaluation, parts, studies
from flowpolicy.agents import Agent
from flowpolicy.cli import main
from flowpolicy.envs.fleet import Local
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig, MissingData, StorageFailed
from flowpolicy.refine import BestOfN
from flowpolicy.train import place
from flowpolicy.train.evaluate import Evaluator, Examiner, own, refined
from flowpolicy.train.learner import Learner
from flowpolicy.train.normalise import Normaliser
from flowpolicy.train.online import Explorer
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.random import Stream, episode_seed, stream_key
from flowpolicy.train.sentinel import Sentinel
from flowpolicy.train.stop import StopFlag
from flowpolicy.train.task import RowsOnly
from flowpolicy.train.updates import acting
from flowpolicy.train.watch import Silent


class Telling(PointMass):
    """Rewards the position: a return tells every action, where -1 a step tells only the length."""

    def step(self, action):
        step = super().step(action)
        return step._replace(reward=float(step.obs[0] + 2 * step.obs[1]))


class Stub(Agent):
    """Acts by ``rule(key, obs, calls)``, ``calls`` being those of the episode so far; collects by
    ``exploring`` where there is one."""

    rule: Callable = eqx.field(static=True)
    exploring: Callable | None = eqx.field(static=True, default=None)

    def memory(self):
        return jnp.zeros(())

    def act(self, key, obs, memory):
        return self.rule(key, obs, memory), memory + 1

    def explore(self, key, obs, memory):
        return (self.exploring or self.rule)(key, obs, memory), memory + 1

    def update(self, key, batch):
        """Not asked."""

    def flow(self):
        """Not asked."""

    def value(self, obs, action):
        """Not asked."""


RAW = Normaliser(None, None)


def evaluates(agent, obs, normaliser=RAW):
    """The first action of an episode that is evaluated."""
    keys, memory = jax.random.split(jax.random.key(0), 1)[None], jnp.zeros((1, 1))
    return acting(own, normaliser, 1)(agent, keys, obs[None, None], memory)[0][0, 0]


def collects(agent, obs, normaliser=RAW):
    """The first action of an episode that is collected."""
    explorer = Explorer((0,), normaliser, agent.memory())
    return explorer(agent, np.zeros(1, int), obs[None], np.array([True]))[0]


@pytest.fixture(scope="module")
def played(run):
    """Five episodes of one agent, by the number of environments that were stepped together."""
    trained, _ = run.load()
    agent = jax.tree.map(lambda x: x[0], trained.agents)

    def play(side_by_side, episodes=5, act=own):
        evaluator = Evaluator(act, trained.normaliser, Local(Telling), range(side_by_side))
        return evaluator(trained.agents, (0,), episodes, 2)[0]

    play.agent = agent
    return play


@pytest.mark.parametrize("side_by_side", [1, 2, 8])
def test_episodes_do_not_depend_on_how_many_are_played_together(played, side_by_side):
    """One after the other, some at a time, more places than episodes: the same episodes."""
    together, here = played(5), played(side_by_side)
    np.testing.assert_array_equal(here.lengths, together.lengths)
    np.testing.assert_array_equal(here.success, together.success)
    np.testing.assert_allclose(here.returns, together.returns, atol=1e-3)
    assert np.unique(together.returns.round(1)).size == 5


def test_seeds_side_by_side_play_what_each_plays_alone(tmp_path):
    """Two agents, each with its own episodes, on four environments."""
    run = train(tmp_path / "r", seeds=(3, 5), phases=OFFLINE, evaluation=QUIET)
    trained, _ = run.load()

    def play(which, numbers):
        agents = jax.tree.map(lambda x: x[np.asarray(which)], trained.agents)
        evaluator = Evaluator(own, trained.normaliser, Local(Telling), range(numbers))
        return evaluator(agents, [(3, 5)[i] for i in which], 3, 2)

    for one, alone in zip(play((0, 1), 4), (play((0,), 2)[0], play((1,), 1)[0]), strict=True):
        np.testing.assert_array_equal(one.lengths, alone.lengths)
        np.testing.assert_allclose(one.returns, alone.returns, atol=1e-3)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_an_episode_begins_without_the_memory_of_the_one_before(side_by_side):
    """An agent that goes (n, n) / 20 at its n-th call: episodes in the place of others are those
    that have a place of their own."""
    agent = Stub(lambda key, obs, calls: jnp.full(4, calls / 20))

    def returns(places):
        return Evaluator(own, RAW, Local(Telling), range(places))(agent, (0,), 5, 2)[0].returns

    np.testing.assert_allclose(returns(side_by_side), returns(5), atol=1e-3)


def test_memory_goes_on_through_a_collected_episode():
    """Calls of the episode so far, per seed: 0 where one begins, else one more."""
    agent = Stub(lambda key, obs, calls: calls[None])
    explorer = Explorer((0, 1), RAW, agent.memory())
    begins = ([True, True], [False, False], [True, False], [False, True])
    told = [explorer(agent, np.zeros(2, int), jnp.zeros((2, 2)), np.array(b)) for b in begins]
    np.testing.assert_array_equal(np.stack(told)[..., 0], [[0, 0], [1, 1], [0, 2], [1, 0]])


@pytest.mark.parametrize("act", [evaluates, collects])
def test_agents_see_normalised_observations(act):
    """tanh((obs - 4) / 2) of an agent that acts by tanh of what it sees."""
    agent, obs = Stub(lambda key, obs, calls: jnp.tanh(obs)), jnp.array([3.0, 7.0])
    action = act(agent, obs, Normaliser(jnp.float32(4), jnp.float32(2)))
    np.testing.assert_allclose(action, np.tanh([-0.5, 1.5]), rtol=1e-6)


def test_an_agent_explores_where_it_collects_and_acts_where_it_is_evaluated():
    """An agent of which the one is 0.5 and the other 0."""
    agent = Stub(lambda *seen: jnp.zeros(2), lambda *seen: jnp.full(2, 0.5))
    np.testing.assert_array_equal(evaluates(agent, jnp.zeros(2)), [0.0, 0.0])
    np.testing.assert_array_equal(collects(agent, jnp.zeros(2)), [0.5, 0.5])


def test_every_tick_of_every_seed_draws_noise_of_its_own():
    """Two seeds, eight ticks, one observation: 16 actions, no two alike."""
    agent = Stub(lambda key, obs, calls: jax.random.uniform(key, (2,)))
    explorer, fresh = Explorer((0, 1), RAW, agent.memory()), np.array([True, True])
    chunks = [explorer(agent, np.full(2, tick), jnp.zeros((2, 2)), fresh) for tick in range(8)]
    assert len(np.unique(np.concatenate(chunks), axis=0)) == 16


def test_more_episodes_begin_with_the_same_ones(played):
    """The first three of five are the three of three."""
    np.testing.assert_allclose(played(2, 3).returns, played(2).returns[:3], atol=1e-3)


def test_an_episode_by_hand(played):
    """Episode 0 again: its reset seed, a key per (episode, chunk), chunks executed open loop."""
    env, agent = Telling(), played.agent
    obs, root = env.reset(episode_seed(0, Stream.EVALUATE, 0)), stream_key(0, Stream.EVALUATE)
    gain, over, chunk = 0.0, False, 0
    while not over:
        key = jax.random.fold_in(jax.random.fold_in(root, 0), chunk)
        actions, chunk = agent.act(key, jax.numpy.asarray(obs), agent.memory())[0], chunk + 1
        for action in np.asarray(actions).reshape(2, 2):
            step = env.step(action)
            obs, gain = step.obs, gain + step.reward
            over = step.terminated or step.truncated
            if over:
                break
    assert played(2).returns[0] == pytest.approx(gain, abs=1e-3)


def test_the_policy_is_asked_once_per_chunk(played):
    """Five episodes of 40 steps side by side, chunks of 2: 20 calls, not 200."""
    episodes = played(5)
    assert len(episodes.policy_seconds) == np.ceil(episodes.lengths.max() / 2)


def test_another_refiner_plays_the_same_episodes_otherwise(played):
    """A refiner in the place of the agent's own; one_step is what this run has of its own."""
    same = played(2, act=refined(fp.one_step()))
    np.testing.assert_allclose(same.returns, played(2).returns, atol=1e-3)
    np.testing.assert_array_equal(same.lengths, played(2).lengths)
    other = played(2, act=refined(fp.best_of_n(n=16)))
    assert (np.abs(other.returns - same.returns) > 0.1).all()


def test_evaluating_a_run(run):
    """Success, its interval, calls of the flow, latency, and a row for the table if wanted."""
    before = len(run.evaluations())
    result = fp.evaluate(run, fp.best_of_n(n=4), episodes=3, write=False)
    assert len(run.evaluations()) == before
    low, high = result.interval
    assert 0 <= low <= result.success <= high <= 1
    assert (result.nfe, len(result.rows)) == (4, 1)
    assert 0 < result.ms_p50 <= result.ms_p99
    (row,) = result.rows
    assert (row.phase, row.step, row.episodes) == ("online", 60, 3)
    assert row.refiner.startswith("best_of_n(n=4")


@pytest.mark.parametrize("missing", ["", "costs.csv"])
def test_a_run_that_takes_no_lines_is_refused_before_it_is_played(
    run, tmp_path, monkeypatch, capfd, missing
):
    """A folder that nobody may write to; without its tables it is played, and stays as it is."""
    folder = tmp_path / "r"
    shutil.copytree(run.path, folder)
    for name in ("evaluations.csv", "costs.csv"):
        (folder / name).touch()
    (folder / (missing or "none")).unlink(missing_ok=True)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    real = os.open

    def refuse(path, flags, *how, **more):
        # Where costs.csv is missing it alone cannot be made.
        spared = missing and str(path).endswith("evaluations.csv")
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(path).parent == folder and not spared:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *how, **more)

    monkeypatch.setattr(os, "open", refuse)
    command = ["evaluate", str(folder), "--episodes", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "Evaluator", lambda *_: pytest.fail("played"))
        assert main(command) == 74
        told = "".join(capfd.readouterr().err.split())  # a long path is broken amid its words
        assert f"{missing or 'evaluations.csv'}couldnotbewritten:thisusermaynot" in told
        assert "--no-write" in told
        assert main([*command, "--no-write", "--video"]) == 2
        assert "video is written into the run's folder" in capfd.readouterr().err
    assert main([*command, "--no-write"]) == 0
    assert "success" in capfd.readouterr().out
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_studies_of_a_run_that_takes_no_files_are_refused_before_they_begin(
    run, monkeypatch, tmp_path
):
    """A sweep before it plays, a diagnosis before it compares."""
    folder = tmp_path / "r"
    shutil.copytree(run.path, folder)
    real = os.open

    def refuse(path, flags, *how, **more):
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(path).parent == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *how, **more)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(studies, "evaluate", lambda *_, **__: pytest.fail("played"))
    monkeypatch.setattr(studies.diagnosis, "compare", lambda *_: pytest.fail("compared"))
    with pytest.raises(StorageFailed, match=r"sweep\.csv could not be written"):
        fp.sweep_refiner(folder, [fp.one_step()])
    with pytest.raises(StorageFailed, match=r"diagnose\.json could not be written"):
        fp.diagnose(folder)


def test_trying_a_table_leaves_nothing(tmp_path):
    place.try_end(tmp_path / "a" / "b.csv")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.csv").write_text("x")
    place.try_end(tmp_path / "b.csv")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("b.csv", "x")]


def test_a_run_without_an_environment_is_not_evaluated():
    """The message says what to give."""
    with pytest.raises(MissingData, match="task"):
        RowsOnly().env()


def test_seeds_of_episodes():
    """A function of (seed, stream, index) that does not collide, and the same for ever."""
    seeds = {
        episode_seed(s, kind, i)
        for s in range(5) for kind in (Stream.EXPLORE, Stream.EVALUATE) for i in range(200)
    }  # fmt: skip
    assert len(seeds) == 2000
    assert all(0 <= s < 2**31 for s in seeds)
    assert episode_seed(3, Stream.EVALUATE, 7) == 1476837418


def test_refiners_are_evaluated_beside_the_agent_and_change_nothing(tmp_path):
    """Each plays the same episodes after ``own``; parameters and own rows are those without it."""
    refiners = (BestOfN(2), BestOfN(3))
    evaluation = dataclasses.replace(TINY["evaluation"], every=10, refiners=refiners)
    plain = dataclasses.replace(evaluation, refiners=())
    one = train(tmp_path / "one", phases=OFFLINE, evaluation=evaluation)
    two = train(tmp_path / "two", phases=OFFLINE, evaluation=plain)
    labels = [row.refiner for row in one.evaluations()]
    ways = ["own", *(parts.describe(r) for r in refiners)]
    assert labels == 2 * ways
    assert fingerprint(one) == fingerprint(two)


def test_a_seed_that_diverged_is_evaluated_beside_one_that_did_not(tmp_path):
    """Actions that are not finite freeze the seed and are 0 from then on; the other's episodes are
    what they were. A frozen seed with finite actions plays on."""
    run = train(tmp_path / "r", seeds=(3, 5), phases=OFFLINE, evaluation=QUIET)
    trained, _ = run.load()
    spoil = lambda x: x.at[1].set(jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    actor = jax.tree.map(spoil, trained.agents.actor)
    spoiled = eqx.tree_at(lambda agents: agents.actor, trained.agents, actor)
    config = run.config()
    sentinel = Sentinel(config, config.guard, None, folder=run, watch=Silent(), attempt=0)

    class Strict(Telling):
        def step(self, action):
            assert np.isfinite(action).all()
            return super().step(action)

    examiner = Examiner(Local(Strict), config, trained.normaliser, run)

    def rows(agents):
        learner = Learner.__new__(Learner)  # what an evaluation asks of one, and no more
        learner.agents, learner.sentinel, learner.normaliser = agents, sentinel, trained.normaliser
        told = examiner(learner, "offline", 20, 2, Silent(), StopFlag())
        return [(row.seed, row.returns) for row in told]

    sound = rows(trained.agents)
    assert not sentinel.frozen
    assert rows(spoiled)[0] == sound[0]
    assert list(sentinel.frozen) == [1]
    assert "actions are not finite" in sentinel.frozen[1]
    assert rows(spoiled)[0] == sound[0]
    assert rows(trained.agents) == sound


def test_looking_at_frames_resets_an_environment_once():
    """Which fields are bytes is seen in an episode; asking again must not end one that goes on."""
    begun = []

    class Seeing(PointMass):
        obs_shape = (4, 4, 3)

        def reset(self, seed):
            begun.append(seed)
            super().reset(seed)
            return np.zeros((4, 4, 3), np.uint8)

    fleet = Local(Seeing)
    assert fleet.shape() == fleet.shape()
    fleet.reset({0: 7})
    assert begun == [0, 7]


def test_a_refiner_is_evaluated_once():
    """Twice the same would be the same episodes again."""
    with pytest.raises(InvalidConfig, match="must be distinct, got best_of_n"):
        Evaluation(refiners=(BestOfN(2), BestOfN(2)))


def test_a_refiner_that_an_agent_cannot_play_is_refused_before_training(tmp_path):
    """Behaviour cloning has no critic, RLPD no flow; no run folder is left."""
    for agent, lacks in ((fp.BC(chunk=2), "no critic"), (fp.RLPD(), "no flow")):
        evaluation = Evaluation(every=0, final_episodes=1, refiners=(fp.qgbs(),))
        changes = {"agent": agent, "evaluation": evaluation, "phases": OFFLINE}
        with pytest.raises(InvalidConfig, match=f"{lacks}; .* Agents that have both: .*fmq"):
            fp.train("toy/fmq", task=TINY["task"], out=tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists()


def test_an_evaluation_executes_actions_in_the_box(run):
    """As collecting does: whatever refiner is looked at, and whatever the environment would do."""
    trained, _ = run.load()
    seen = []

    class Unbounded(PointMass):
        def step(self, action):
            seen.append(np.array(action))
            return super().step(action)

    wide = refined(BestOfN(8, bound=2.0))
    Evaluator(wide, trained.normaliser, Local(Unbounded), range(2))(trained.agents, (0,), 2, 2)
    assert np.abs(seen).max() == 1.0


def test_actions_of_a_refiner_that_are_not_finite_are_told(tmp_path):
    """A critic that is lost moves no agent that acts by one step, but ``trust_region``: 0 is
    executed, whoever watches hears it of that seed and refiner alone, and the run goes on."""
    lost, found = fp.trust_region(), BestOfN(2)
    evaluation = dataclasses.replace(QUIET, refiners=(lost, found))
    run = train(tmp_path / "r", seeds=(3, 5), phases=OFFLINE, evaluation=evaluation)
    trained, _ = run.load()
    spoil = lambda x: x.at[1].set(jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    critic = jax.tree.map(spoil, trained.agents.critic)
    said = []

    class Listening(Silent):
        def say(self, text):
            said.append(text)

    learner = Learner.__new__(Learner)  # what an evaluation asks of one, and no more
    learner.sentinel, learner.normaliser = None, trained.normaliser
    examiner = Examiner(Local(Telling), run.config(), trained.normaliser, run)
    learner.agents = trained.agents
    examiner(learner, "offline", 20, 2, Listening(), StopFlag())
    assert not said
    learner.agents = eqx.tree_at(lambda agents: agents.critic, trained.agents, critic)
    rows = examiner(learner, "offline", 40, 2, Listening(), StopFlag())
    assert len(rows) == 6
    assert len(said) == 1
    assert f"{parts.describe(lost)}, seed 5, step 40" in said[0]
    assert "not finite" in said[0]
