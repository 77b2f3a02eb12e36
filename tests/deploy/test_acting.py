"""What a policy gives and takes is the caller's, and where an episode begins, on both back ends."""

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.data.dataset import Dataset
from flowpolicy.nets import MLPVelocity
from flowpolicy.train.phases import Evaluation

BACKENDS = ("jax", "numpy")
OBS = np.array([0.3, -0.8, 0.1], np.float32)


@pytest.fixture(scope="module")
def streaming(tmp_path_factory):
    """A package of SFP, which remembers its last action and observations."""
    draws, n = np.random.default_rng(0), 40
    obs = draws.normal(size=(n, 3)).astype(np.float32)
    rows = Dataset.from_arrays(
        obs=obs,
        action=draws.uniform(-1, 1, (n, 2)).astype(np.float32),
        reward=np.zeros(n, np.float32),
        terminated=np.zeros(n, bool),
        truncated=np.arange(n) % 20 == 19,
        next_obs=np.roll(obs, -1, 0),
    )
    agent = fp.SFP(horizon=4, execute=3, actor=MLPVelocity(width=8, depth=1))
    run = fp.train(
        agent, rows, phases=fp.Offline(2), batch=4, block=2,
        out=tmp_path_factory.mktemp("streaming") / "r",
        evaluation=Evaluation(every=0, final_episodes=0),
    )  # fmt: skip
    return fp.package(run)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_are_the_caller_s_own(streaming, backend):
    """An action that is scaled in place, and a buffer of observations that is used again."""
    policy, other = (fp.Policy.load(streaming, backend=backend) for _ in range(2))
    buffer = OBS.copy()
    for number in range(4):
        buffer[:] = OBS + number
        action = policy.act(buffer)
        np.testing.assert_array_equal(action, other.act(OBS + number))
        action *= 100
        buffer[:] = 1e6


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_episode_begins_with_a_session_and_with_a_reset(streaming, packaged, seen, backend):
    """Of the policy too: nothing of the chunk before is played, nothing is remembered."""
    policy, other = (fp.Policy.load(packaged, backend=backend) for _ in range(2))
    session = policy.session()
    np.testing.assert_array_equal(session(seen[0]), other.act(seen[0])[0])
    policy.reset()
    after = other.act(seen[1])
    for action in after:
        np.testing.assert_array_equal(session(seen[1]), action)
    policy = fp.Policy.load(streaming, backend=backend)
    before = policy._memory
    for _ in range(2):
        session = policy.session()
        kept = [np.asarray(x) for x in jax.tree.leaves(policy._memory)]
        for x, wanted in zip(kept, jax.tree.leaves(before), strict=True):
            np.testing.assert_array_equal(x, wanted)
        session(OBS)
