"""Comparing real runs, from the command line and in Python: toy runs of seconds."""

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

import flowpolicy as fp
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.cli import main
from flowpolicy.envs.base import Env
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.report.runfiles import read_run
from flowpolicy.runs import PointMassTask
from flowpolicy.train.phases import Evaluation

QGBS = "qgbs(beam=2, branches=2)"


@fp.register("point_mass_with_modes")
@dataclasses.dataclass(frozen=True)
class WithModes:
    """The point mass, with two made-up modes of its first action."""

    name: str = "point-mass"
    modes: tuple[tuple[float, ...], ...] = ((-0.5, 0.0), (0.5, 0.0))

    @property
    def playable(self) -> bool:
        return True

    def dataset(self) -> fp.Dataset:
        return PointMassTask(rows=300).dataset()

    def env(self) -> Env:
        return PointMass()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same method with two radii, one seed, three online evaluations."""
    root = tmp_path_factory.mktemp("runs")
    for name, eta in (("small", 0.1), ("large", 0.5)):
        fp.train(
            "toy/fmq",
            out=root / name,
            task=WithModes(),
            phases=(fp.Offline(10), fp.Online(60, start_after=0)),
            batch=8,
            block=10,
            evaluation=Evaluation(every=20, episodes=2, final_episodes=3, side_by_side=2),
            eta=eta,
            terms=fmq_terms(0.0, 0.1),
            actor=MLPFlow(width=8, depth=1, embed=Plain()),
            critic=MLPCritic(width=8, depth=1),
            act=fp.one_step(),
            bootstrap=fp.best_of_n(2),
        )
    return [root / "small", root / "large"]


def test_methods_are_told_apart_by_what_differs(runs: list[Path]) -> None:
    found = fp.compare(runs[0], fp.Run(runs[1]))
    assert found.methods == ("toy/fmq, eta=0.1", "toy/fmq, eta=0.5")
    assert found.tasks == ("point-mass",)
    assert found.missing() == ()
    (pair,) = found.paired()
    assert (pair.pairs, pair.same_episodes) == (1, True)
    assert pair.interval.low < pair.difference < pair.interval.high
    # Names and settings are the same inside a group: one method on one task, one seed, twice.
    with pytest.raises(fp.FlowPolicyError, match="both hold seed 0"):
        fp.compare([runs[0], runs[0]])
    with pytest.raises(fp.FlowPolicyError, match="at least one run"):
        fp.compare()
    with pytest.raises(fp.FlowPolicyError, match="nowhere"):
        fp.compare("nowhere")


def test_evaluate_measures_and_the_page_shows_episodes_and_cost(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(runs[0]), "--refiner", QGBS, "--episodes", "3"]) == 0
    out = tmp_path / "two.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "toy/fmq, eta=0.1 + QGBS" in printed
    assert printed.splitlines()[-1] == str(out)
    page = out.read_text(encoding="utf-8")
    assert "environment seed" in page  # an episode of each method that was recorded
    assert "data:image/png;base64," in page
    with (tmp_path / "two" / "cost.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    measured = rows["toy/fmq, eta=0.1 + QGBS"]
    assert measured["nfe"] == "6"
    assert float(measured["ms_p50"]) > 0
    assert rows["toy/fmq, eta=0.5"]["nfe"] == ""
    assert not (runs[0] / "report.html").exists()
    with (tmp_path / "two" / "modes.csv").open(newline="") as file:
        kept = {row["method"]: row for row in csv.DictReader(file)}
    assert set(kept) == set(rows)
    for row in kept.values():
        assert row["stated"] == "2"
        assert all(0 <= float(row[when]) <= 2 for when in ("before_online", "after_online"))


@pytest.fixture
def copied(runs: list[Path], tmp_path: Path) -> fp.Run:
    """A run to write into, with three episodes at its end, online step 60."""
    shutil.copytree(runs[0], tmp_path / "run")
    return fp.Run(tmp_path / "run")


def end_of(run: fp.Run, refiner: str = "own") -> tuple[int, float]:
    """Episodes that the run's table tells of at its end, and their mean return."""
    found = read_run(run.path).evaluations
    (row,) = (e for e in found if (e.refiner, e.phase, e.step) == (refiner, "online", 60))
    return row.episodes, row.reward


def test_a_larger_evaluation_adds_the_episodes_that_are_not_told_of(copied: fp.Run) -> None:
    """The table holds those of the larger one, once; a smaller one adds nothing."""
    before = copied.evaluations()
    assert end_of(copied)[0] == 3
    (row,) = fp.evaluate(copied, episodes=8).rows
    assert row.episodes == 8
    assert end_of(copied) == (8, pytest.approx(row.returns, abs=1e-2))
    *old, new = copied.evaluations()
    assert (old, new.episodes) == (before, 5)
    fp.evaluate(copied, episodes=5)
    assert copied.evaluations() == [*old, new]


def test_episodes_of_another_seed_are_told_of_once(copied: fp.Run) -> None:
    refiner = fp.best_of_n(2)
    for seed, episodes, told in ((7, 2, 2), (7, 2, 2), (8, 3, 5)):
        (row,) = fp.evaluate(copied, refiner, episodes=episodes, episode_seed=seed).rows
        assert end_of(copied, row.refiner)[0] == told


def test_what_is_played_elsewhere_is_not_written(copied: fp.Run) -> None:
    """Neither by an evaluation nor by a sweep: the tables are of the run's own task."""
    before = {path.name: path.read_bytes() for path in copied.path.iterdir() if path.is_file()}
    other = WithModes(name="elsewhere")
    assert fp.evaluate(copied, fp.one_step(), episodes=2, task=other).rows[0].episodes == 2
    assert len(fp.sweep_refiner(copied, [fp.one_step()], episodes=1, task=other)) == 1
    after = {path.name: path.read_bytes() for path in copied.path.iterdir() if path.is_file()}
    assert after == before


def test_one_run_is_reported_as_before(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"out must end in \.html, got '.*one'"):
        fp.report(runs[1], episodes=False, out=tmp_path / "one")
    out = tmp_path / "one.html"
    assert main(["report", str(runs[0]), "--out", str(out), "--no-episodes"]) == 0
    assert "flowpolicy report" in out.read_text(encoding="utf-8")
    assert fp.report(runs[1], episodes=False) == runs[1] / "report.html"
