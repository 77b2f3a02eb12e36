"""The same seed and configuration twice: the same curve, with successes in it, and parameters."""

import dataclasses

from small_runs import fingerprint

import flowpolicy as fp
from flowpolicy.nets import Adam, MLPCritic, MLPFlow, Plain
from flowpolicy.train.phases import Evaluation

SMALL = {
    "phases": (fp.Offline(60), fp.Online(20, start_after=0)),
    "batch": 32,
    "block": 20,
    "evaluation": Evaluation(every=20, episodes=20, final_episodes=20, side_by_side=20),
    "actor": MLPFlow(width=16, depth=1, embed=Plain()),
    "critic": MLPCritic(width=16, depth=1),
    "optimiser": Adam(rate=1e-2),
    "act": fp.best_of_n(n=8),
}


def _trained(folder, seed):
    """The bandit on which FMQ succeeds after a second, its curve without seconds, its hash."""
    run = fp.train("toy/fmq/equal-modes", seeds=[seed], out=folder, **SMALL)
    rows = [dataclasses.replace(row, seconds=0.0) for row in run.evaluations()]
    return rows, fingerprint(run)


def test_twice_the_same_run(tmp_path):
    """Success, return and length of every evaluation, and SHA-256 of all parameters."""
    curve, parameters = _trained(tmp_path / "one", 3)
    assert [(row.phase, row.step) for row in curve] == [
        ("offline", 20), ("offline", 40), ("offline", 60), ("online", 20),
    ]  # fmt: skip
    assert sum(row.success * row.episodes for row in curve) >= 1
    assert len({row.success for row in curve}) > 1  # a curve, not a constant
    assert _trained(tmp_path / "two", 3) == (curve, parameters)
    other, others = _trained(tmp_path / "three", 4)
    assert others != parameters
    assert [row.returns for row in other] != [row.returns for row in curve]
