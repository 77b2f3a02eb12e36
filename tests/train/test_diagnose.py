"""``diagnose`` on a tiny run: what it writes, what it leaves out and says so, what it refuses."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import small_runs

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.report import diagnosis
from flowpolicy.train.task import RowsOnly

QUICK = {"etas": (0.1, 0.5), "states": 6}
REFINERS = (fp.best_of_n(n=2), fp.one_step())


@pytest.fixture(scope="module")
def found(run):
    """A diagnosis with two episodes for each of two refiners."""
    return fp.diagnose(run, REFINERS, episodes=2, **QUICK)


def test_every_part_is_there(found):
    """Nothing is left out on a task with environments and rows; all numbers are finite."""
    assert found.absent == {}
    assert [row.eta for row in found.radii] == [0.1, 0.5]
    assert [row.refiner for row in found.acting] == [
        "best_of_n(n=2, bound=1.0)", "one_step(bound=1.0)",
    ]  # fmt: skip
    assert [p.r for p in found.agreement.pushed] == list(diagnosis.PUSHED_FROM)
    leaves = jax.tree.leaves(dataclasses.asdict(found))
    assert np.isfinite([x for x in leaves if isinstance(x, float | int)]).all()
    assert (found.what["states"], found.what["rows"], found.what["discount"]) == (6, 300, 0.95)


def test_what_must_hold_of_any_critic(found):
    """An optimum is no less than any point of its set; the box cannot promise more than the ball;
    one noise for all refiners; played chunks are counted."""
    for row in found.radii:
        assert row.ball.mean >= row.theorem.mean - 1e-6
        assert row.ball_in_box.mean >= max(row.clipped.mean, row.box.mean) - 1e-6
        assert row.predicted.mean >= row.box_predicted.mean - 1e-6
        assert row.ball_gap.mean >= -1e-6
    best, one = found.acting
    assert best.q_over_first.mean == 0.0
    assert one.q.mean - best.q.mean == pytest.approx(one.q_over_first.mean)
    assert 2 <= one.chunks <= 2 * 20
    assert one.excess_low <= one.excess_high


def test_success_is_that_of_an_evaluation(run, found):
    """The same episodes as ``evaluate`` plays."""
    for refiner, row in zip(REFINERS, found.acting, strict=True):
        alone = fp.evaluate(run, refiner, episodes=2, write=False)
        assert (row.success, row.low, row.high) == (alone.success, *alone.interval)


def test_the_files_hold_it(run, found):
    """Strict JSON of the same numbers; a page that runs nothing and fetches nothing."""
    content = json.loads((run.path / "diagnose.json").read_text())
    assert content["radii"][0]["theorem"] == dataclasses.asdict(found.radii[0].theorem)
    assert content["agreement"]["noise"]["std"] == found.agreement.noise.std
    page = (run.path / "diagnose.html").read_text()
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    for text in ("toy/fmq", "best_of_n(n=2, bound=1.0)", "trust_region_box", "energy distance"):
        assert text.lower() in page.lower()
    assert page.count("<img") == 3


def test_the_command_sums_it_up(run, capsys):
    """The same with text for refiners; without episodes it says that they are left out."""
    options = ["--states", "4", "--episodes", "0", "--etas", "0.2", "--refiners", "one_step"]
    assert main(["diagnose", str(run.path), *options]) == 0
    text = capsys.readouterr().out
    for part in ("0.2", "energy distance", "one_step", "left out: episodes", "diagnose.html"):
        assert part in text
    page = (run.path / "diagnose.html").read_text()
    assert "Left out: the task" in page


@pytest.fixture(scope="module")
def rows_only(tmp_path_factory):
    """A run on rows without an environment, and its rows."""
    data = small_runs.TINY["task"].dataset()
    changes = {"task": RowsOnly(), "data": data, "phases": small_runs.OFFLINE}
    out = tmp_path_factory.mktemp("rows") / "r"
    return small_runs.train(out, evaluation=small_runs.QUIET, **changes), data


def test_without_an_environment_that_part_is_left_out(rows_only):
    """And said; the rest needs the rows alone."""
    run, data = rows_only
    found = fp.diagnose(run, REFINERS, data=data, write=False, **QUICK)
    assert found.absent == {"episodes": "the task 'own data' has no environment"}
    assert found.acting[0].success is None
    with pytest.raises(MissingData, match=r"gives no rows; give diagnose\(data="):
        fp.diagnose(run, REFINERS, **QUICK)


def test_an_agent_without_a_critic_is_refused(tmp_path):
    """By the message that names those that have flow and critic."""
    kept = ("task", "batch", "block", "chunk", "terms", "actor")
    tiny = {name: small_runs.TINY[name] for name in kept}
    agent = fp.BC(chunk=tiny.pop("chunk"), terms=tiny.pop("terms"), actor=tiny.pop("actor"))
    run = fp.train(
        agent, out=tmp_path / "bc", phases=small_runs.OFFLINE, evaluation=small_runs.QUIET, **tiny
    )
    with pytest.raises(InvalidConfig, match=r"bc has no critic.*fmq"):
        fp.diagnose(run, **QUICK)
    assert not (run.path / "diagnose.html").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"etas": (0.0,)}, "etas must be above 0"),
        ({"states": 1}, "states >= 2"),
        ({"episodes": -1}, "episodes >= 0"),
        ({"refiners": ()}, "at least one"),
        ({"seed": 7}, r"seed must be one of the run's, \(0,\), got 7"),
    ],
)
def test_wrong_arguments_are_named(run, wrong, words):
    """Before anything is computed."""
    with pytest.raises(InvalidConfig, match=words):
        fp.diagnose(run, **wrong)
