"""``Policy``: a run folder is enough, observations are checked, chunks are cut as asked."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import CHUNK, OFFLINE, QUIET, train

import flowpolicy as fp
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.nets import MLPVelocity
from flowpolicy.train.normalise import Standardise
from flowpolicy.train.random import Stream, stream_key

OBS = np.array([0.3, -0.8], np.float32)


@pytest.fixture(scope="module")
def standardised(tmp_path_factory):
    """A run whose agent sees standardised observations, with two seeds."""
    out = tmp_path_factory.mktemp("standardised") / "r"
    return train(out, normaliser=Standardise(), phases=OFFLINE, evaluation=QUIET, seeds=[0, 4])


def _expected(run, number, obs, seed=0, index=0):
    """The agent asked by hand with the key of the policy's n-th call."""
    trained, _ = run.load()
    agent = jax.tree.map(lambda x: x[index], trained.agents)
    key = jax.random.fold_in(stream_key(seed, Stream.POLICY), number)
    return agent.act(key, jnp.asarray(obs), agent.memory())[0].reshape(CHUNK, 2)


def test_it_acts_as_the_agent_does(run):
    """Call n draws with the key of (seed, n); another seed draws other noise."""
    policy = fp.Policy.load(run.path)
    for number in range(3):
        wanted = _expected(run, number, OBS)
        np.testing.assert_allclose(policy.act(OBS), wanted, atol=1e-5)
    np.testing.assert_allclose(
        fp.Policy.load(run.path, seed=7).act(OBS), _expected(run, 0, OBS, seed=7), atol=1e-5
    )
    chunk = policy.act(OBS)
    assert (chunk.shape, chunk.dtype) == ((CHUNK, 2), np.float32)
    assert np.abs(chunk).max() <= 1


def test_the_normaliser_is_applied_inside(standardised):
    """Raw observations go in: the agent sees (obs - mean) / deviation of the offline rows."""
    rows = standardised.config().task.dataset().rows
    seen = (OBS - rows.obs.mean(0)) / rows.obs.std(0)
    for index in (0, 1):
        policy = fp.Policy.load(standardised.path, seed_index=index)
        wanted = _expected(standardised, 0, seen, index=index)
        np.testing.assert_allclose(policy.act(OBS), wanted, atol=1e-4)
    with pytest.raises(InvalidConfig, match=r"seed_index must be in 0 \.\. 1, got 2"):
        fp.Policy.load(standardised.path, seed_index=2)


def test_another_refiner_acts_in_its_place(run):
    """Best-of-n instead of the run's single sample; the critic ranks.

    Values over 3000 chunks each are 1.7 and -1.1, with deviations 0.5 and 1.5: the means of 20 are
    7.7 standard deviations apart, and in the wrong order in 6e-15 of such tests, were the seed new.
    """
    policy = fp.Policy.load(run.path, refiner=fp.best_of_n(n=16))
    trained, _ = run.load()
    agent = jax.tree.map(lambda x: x[0], trained.agents)
    value = lambda chunk: float(agent.value(jnp.asarray(OBS), jnp.asarray(chunk.reshape(-1))))  # noqa: E731
    single = fp.Policy.load(run.path)
    best = np.mean([value(policy.act(OBS)) for _ in range(20)])
    assert best > np.mean([value(single.act(OBS)) for _ in range(20)])


def test_a_session_plans_when_due(run):
    """``execute_horizon`` actions of each chunk are executed, then a new chunk is planned."""
    for execute in (None, 1, 2):
        policy, session = fp.Policy.load(run.path), fp.Policy.load(run.path).session(execute)
        taken = np.stack([session(OBS) for _ in range(4)])
        chunks = [policy.act(OBS) for _ in range(4)]
        wanted = [c[0] for c in chunks] if execute == 1 else [*chunks[0], *chunks[1]]
        np.testing.assert_array_equal(taken, wanted)


def test_a_reset_drops_the_rest_of_the_chunk(run):
    """And the next chunk draws fresh noise."""
    policy, session = fp.Policy.load(run.path), fp.Policy.load(run.path).session()
    first, second = policy.act(OBS), policy.act(OBS)
    np.testing.assert_array_equal(session(OBS), first[0])
    session.reset()
    np.testing.assert_array_equal(session(OBS), second[0])
    np.testing.assert_array_equal(session(OBS), second[1])


def test_warming_up_compiles_and_changes_nothing(run):
    """The actions are those of a policy that was not warmed up."""
    warm = fp.Policy.load(run.path)
    assert warm.warm_up() > 0
    assert warm._actor._call._cache_size() == 1
    np.testing.assert_array_equal(warm.act(OBS), fp.Policy.load(run.path).act(OBS))
    assert warm._actor._call._cache_size() == 1
    warm.act([0.3, -0.8])  # a list, float64: the same program
    assert warm._actor._call._cache_size() == 1


@pytest.mark.parametrize(
    ("obs", "what"),
    [
        (np.zeros(3), r"shape \(2,\), got \(3,\)"),
        (np.zeros((1, 2)), r"shape \(2,\), got \(1, 2\)"),
        (np.float32(0), r"shape \(2,\), got \(\)"),
        (np.array([0.0, np.nan]), r"finite; entries \[1\] are not"),
        (np.array([np.inf, 0.0]), r"finite; entries \[0\] are not"),
        ("north", "numbers of shape"),
        ({"position": OBS}, "numbers of shape"),
    ],
)
def test_wrong_observations_are_refused(run, obs, what):
    """By the policy, and by a session also where no chunk is due."""
    policy = fp.Policy.load(run.path)
    with pytest.raises(InvalidData, match=what):
        policy.act(obs)
    session = policy.session()
    session(OBS)
    with pytest.raises(InvalidData, match=what):
        session(obs)


def test_horizons_outside_the_chunk_are_refused(run):
    """0 and more than the chunk holds."""
    for wrong in (0, CHUNK + 1):
        with pytest.raises(InvalidConfig, match=r"execute_horizon must be in 1 \.\. 2 "):
            fp.Policy.load(run.path).session(wrong)


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ogbench", "mujoco", "dm_control", "gymnasium"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import flowpolicy as fp
print(fp.Policy.load(sys.argv[1]).act([0.3, -0.8]).tolist())
"""


def test_it_loads_where_no_simulator_can_be_imported(run):
    """A robot's computer: no ogbench, mujoco or gymnasium; the same action."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(run.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    acted = np.array(json.loads(done.stdout))
    np.testing.assert_allclose(acted, fp.Policy.load(run.path).act(OBS), atol=1e-5)


def test_actions_come_back_in_the_units_of_the_data(tmp_path):
    """What was scaled to [-1, 1] for training is scaled back, by ``act`` and by sessions."""
    draws = np.random.default_rng(0)
    data = {
        "observations": draws.normal(size=(40, 2)).astype(np.float32),
        "actions": draws.uniform([10.0, -3.0], [50.0, 3.0], (40, 2)),
        "terminals": np.arange(40) % 20 == 19,
        "rewards": np.zeros(40, np.float32),
        "masks": np.ones(40, np.float32),
    }
    np.savez(tmp_path / "d.npz", **data)
    rows = fp.load_data(tmp_path / "d.npz", actions=fp.action_min_max())
    run = fp.train(
        fp.BC(chunk=2, actor=MLPVelocity(width=8, depth=1)), rows,
        phases=[fp.Offline(1)], batch=4, out=tmp_path / "run",
    )  # fmt: skip
    ours, boxed = (fp.Policy.load(run.path, seed=3) for _ in range(2))
    boxed = boxed.in_box()
    robot, box = ours.act(np.zeros(2)), boxed.act(np.zeros(2))
    assert np.abs(box).max() <= 1
    low, high = data["actions"].min(0), data["actions"].max(0)
    wanted = (low + high) / 2 + np.clip(box, -1, 1) * (high - low) / 2
    np.testing.assert_allclose(robot, wanted, rtol=1e-5)
    assert np.abs(robot).max() > 1
    session = fp.Policy.load(run.path, seed=3).session()
    np.testing.assert_allclose(session(np.zeros(2)), robot[0], rtol=1e-6)
