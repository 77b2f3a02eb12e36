"""The best state of a run, which need not be its newest: played, packaged, loaded."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.envs.base import Step
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.nets import MLPFlow, Plain
from flowpolicy.train.phases import Evaluation

OBS = np.array([0.3, -0.8], np.float32)
RESETS = itertools.count()


class Tiring:
    """One step, whose reward is less from episode to episode: what is played first is the best."""

    name, obs_shape, action_size, max_steps = "tiring", (2,), 2, 1

    def reset(self, seed):
        return np.random.default_rng(seed).normal(size=2).astype(np.float32)

    def step(self, action):
        return Step(OBS, -float(next(RESETS)), True, False, False)

    def render(self):
        return None

    def close(self):
        pass


@fp.register("tiring")
@dataclasses.dataclass(frozen=True)
class TiringTask:
    """Rows drawn at random."""

    name: str = "tiring"
    playable: bool = True

    def dataset(self):
        draw, ends = np.random.default_rng(0), np.ones(50, bool)
        obs, action = draw.normal(size=(50, 2)), draw.uniform(-1, 1, (50, 2))
        return fp.Dataset.from_arrays(
            obs=obs, action=action, reward=np.zeros(50), next_obs=obs,
            terminated=ends, truncated=~ends,
        )  # fmt: skip

    def env(self):
        return Tiring()


@pytest.fixture
def run(tmp_path):
    """Two offline evaluations of one episode, after 2 updates and after 4."""
    return fp.train(
        fp.BC(chunk=1, actor=MLPFlow(width=8, depth=1, embed=Plain())), task=TiringTask(),
        phases=fp.Offline(4), batch=4, block=2, out=tmp_path / "r",
        evaluation=Evaluation(every=2, episodes=1, final_episodes=1, side_by_side=1),
    )  # fmt: skip


def test_the_best_state_is_played_and_packaged(run, capsys):
    """In Python and on the command line; its rows are of its own step."""
    assert [row.step for row in run.evaluations()] == [2, 4]
    (row,) = fp.evaluate(run, episodes=3, best=True).rows
    assert (row.phase, row.step, row.episodes) == ("offline", 2, 3)
    assert main(["evaluate", str(run.path), "--best", "--episodes", "4"]) == 0
    assert [(row.step, row.episodes) for row in run.evaluations()[2:]] == [(2, 2), (2, 1)]

    assert main(["package", str(run.path), "--best"]) == 0
    folder = run.path / "package"
    assert json.loads((folder / "config.json").read_text())["source"]["updates"] == 2
    packaged, best, newest = (
        policy.act(OBS)
        for policy in (
            fp.Policy.load(folder), fp.Policy.load(run.path, best=True), fp.Policy.load(run.path),
        )
    )  # fmt: skip
    np.testing.assert_allclose(packaged, best, atol=1e-6)
    assert np.abs(best - newest).max() > 1e-5
    with pytest.raises(InvalidConfig, match="best must be False for a package"):
        fp.Policy.load(folder, best=True)


def test_a_run_that_kept_none_says_so(run):
    shutil.rmtree(run.best)
    for ask in (fp.evaluate, fp.package, lambda run, best: fp.Policy.load(run.path, best=best)):
        with pytest.raises(MissingData, match=r"kept no best state: .*keep_best"):
            ask(run, best=True)
