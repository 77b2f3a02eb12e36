"""What is shown of a run: the policy that was evaluated."""

import dataclasses

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.envs.base import Step
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, MLPGaussian, MLPVelocity, Plain
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


class Stick:
    """One step; what is seen is a mapping of fields, or a vector."""

    name, max_steps = "stick", 1

    def __init__(self, action_size, *, mapping):
        self.action_size, self._mapping = action_size, mapping
        self.obs_shape = {"angle": (1,), "speed": (2,)} if mapping else (3,)

    def reset(self, seed):
        seen = np.random.default_rng(seed).normal(size=3).astype(np.float32)
        return {"angle": seen[:1], "speed": seen[1:]} if self._mapping else seen

    def step(self, action):
        return Step(self.reset(0), float(action[0]), True, False, False)

    def render(self):
        return None

    def close(self):
        pass


@fp.register("stick")
@dataclasses.dataclass(frozen=True)
class StickTask:
    """Rows of the stick, drawn at random."""

    action_size: int = 2
    mapping: bool = False
    name: str = "stick"
    playable: bool = True

    def dataset(self):
        draw, ends = np.random.default_rng(0), np.ones(50, bool)
        obs = draw.normal(size=(50, 3)).astype(np.float32)
        if self.mapping:
            obs = {"angle": obs[:, :1], "speed": obs[:, 1:]}
        return fp.Dataset.from_arrays(
            obs=obs, next_obs=obs, terminated=ends, truncated=~ends,
            action=draw.uniform(-1, 1, (50, self.action_size)), reward=np.zeros(50),
        )  # fmt: skip

    def env(self):
        return Stick(self.action_size, mapping=self.mapping)


BC = fp.BC(chunk=1, actor=MLPFlow(width=8, depth=1, embed=Plain()))
RLPD = fp.RLPD(
    chunk=1, actor=MLPGaussian(width=8, depth=1), critic=MLPCritic(width=8, depth=1), ensemble=2
)
SFP = fp.SFP(actor=MLPVelocity(width=8, depth=1))


@pytest.mark.parametrize(
    ("agent", "task", "absent"),
    [
        (BC, StickTask(), ""),
        (BC, StickTask(mapping=True), ""),
        (BC, StickTask(action_size=1), "two entries of an action, and this one has one"),
        (RLPD, StickTask(), "rlpd has no flow"),
        (SFP, StickTask(), "sfp has no flow"),
    ],
    ids=["plain", "mapping", "one number", "rlpd", "sfp"],
)
def test_the_page_is_written_for_every_kind_of_run(agent, task, absent, tmp_path):
    """Where the flow cannot be drawn, the page says why, and shows the episode all the same."""
    run = fp.train(
        agent, task=task, phases=fp.Offline(2), batch=4, block=2, out=tmp_path / "r",
        evaluation=Evaluation(every=0, final_episodes=1),
    )  # fmt: skip
    page = fp.report(run).read_text()
    assert "Episode with environment seed" in page
    flow = page.partition('id="flow-map"')[2].partition("</section>")[0]
    assert ("<img" in flow) == (not absent)
    assert absent in flow
