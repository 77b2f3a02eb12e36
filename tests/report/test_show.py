"""What is shown of a run: the policy that was evaluated."""

import numpy as np

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import OneStep
from flowpolicy.report import show
from flowpolicy.runs import PointMassTask
from flowpolicy.train.phases import Evaluation

OBS = np.array([0.3, -0.8], np.float32)


def test_the_video_is_of_the_policy_that_was_evaluated(tmp_path, monkeypatch):
    """The refiner and the seed of the command line, and not the agent's own and the first."""
    run = fp.train(
        "toy/fmq", out=tmp_path / "r", seeds=[2, 5], chunk=2, batch=4, block=2,
        task=PointMassTask(rows=100), phases=fp.Offline(2), act=OneStep(), bootstrap=OneStep(),
        evaluation=Evaluation(every=0, final_episodes=0),
        actor=MLPFlow(width=8, depth=1, embed=Plain()), critic=MLPCritic(width=8, depth=1),
    )  # fmt: skip
    asked = []

    def record(begin, env, *, seeds, track):
        asked.append(begin(seeds[0])(OBS))
        raise InvalidConfig("enough")

    monkeypatch.setattr(show, "record_rollout", record)
    options = ["--refiner", "qgbs(beam=2, branches=2)", "--seeds", "5", "--episodes", "1"]
    assert main(["evaluate", str(run.path), *options, "--video"]) == 2
    start = show.episode_seed(5, show.Stream.EVALUATE, 0)
    refiner = fp.qgbs(beam=2, branches=2)
    policy = fp.Policy.load(run.path, seed_index=1, refiner=refiner, seed=start)
    np.testing.assert_allclose(asked[0], policy.act(OBS)[0], atol=1e-6)
