"""``sweep_refiner``: every refiner on the same episodes, with what it costs, kept as it comes."""

import csv
import dataclasses
import json

import pytest
from small_runs import agents

import flowpolicy as fp
from flowpolicy import parts
from flowpolicy.cli import main
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig
from flowpolicy.refine import QGBS
from flowpolicy.report.sweep import COLUMNS, page_iqm, page_refiners

CHEAP = (fp.one_step(), fp.best_of_n(n=2), fp.qgbs(steps=1, beam=2, branches=1))


def test_the_default_rows_are_the_page_s():
    """{K, B, M} with the page's own NFE and IQM."""
    rows = [(r.steps, r.branches, r.beam, r.nfe, page_iqm(r)) for r in page_refiners()]
    assert rows == [
        (0, 1, 32, 32, 0.91), (1, 4, 4, 20, 0.93), (1, 2, 8, 24, 0.93),
        (1, 1, 16, 32, 0.92), (2, 4, 4, 36, 0.91), (2, 4, 16, 144, 0.90),
    ]  # fmt: skip
    assert page_iqm(QGBS(eta=0.1)) is None
    assert page_iqm(fp.best_of_n(n=32)) is None


@pytest.fixture(scope="module")
def swept(run):
    """A sweep over three refiners, two episodes each, and what was told meanwhile."""
    told = []

    def tell(row):
        lines = (run.path / "sweep.csv").read_text().splitlines()
        told.append((row.refiner, len(lines) - 1))

    return fp.sweep_refiner(run, CHEAP, episodes=2, told=tell), told


def test_rows_say_what_an_evaluation_says(run, swept):
    """Success and its interval are those of ``evaluate`` on the same episodes; the calls are the
    refiner's own."""
    rows, _ = swept
    for refiner, row in zip(CHEAP, rows, strict=True):
        alone = fp.evaluate(run, refiner, episodes=2, write=False)
        assert (row.success, row.low, row.high) == (alone.success, *alone.interval)
        assert (row.policy, row.critic, row.gradients, row.depth) == refiner.cost(
            agents(run).flow()
        )
        assert 0 < row.ms_p50 <= row.ms_p99
        assert (parts.parse(row.refiner), row.episodes, row.page_iqm) == (refiner, 2, None)


def test_files_are_rewritten_after_every_refiner(run, swept):
    """The n-th row is on disk when it is told; nothing is added to evaluations.csv."""
    rows, told = swept
    assert told == [(parts.describe(r), i + 1) for i, r in enumerate(CHEAP)]
    with open(run.path / "sweep.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert [float(line["success"]) for line in lines] == [row.success for row in rows]
    assert lines[0]["page_iqm"] == ""
    content = json.loads((run.path / "sweep.json").read_text())
    assert content["rows"] == [dataclasses.asdict(row) for row in rows]
    assert content["protocol"]["episodes_per_seed"] == 2
    assert {row.refiner for row in run.evaluations()} == {"own"}


class Counted(PointMass):
    """A point mass that remembers how its episodes began."""

    seeds: list[int] = []  # noqa: RUF012

    def reset(self, seed):
        self.seeds.append(seed)
        return super().reset(seed)


@parts.register("counted_point_mass")
@dataclasses.dataclass(frozen=True)
class CountedTask:
    """Where such point masses come from."""

    name: str = "counted"
    playable: bool = True

    def dataset(self):
        return None

    def env(self):
        return Counted()


def test_every_refiner_meets_the_same_episodes(run):
    """The same reset seeds, refiner by refiner."""
    Counted.seeds.clear()
    fp.sweep_refiner(run, CHEAP, episodes=3, task=CountedTask(), write=False)
    one, two, three = (sorted(Counted.seeds[i : i + 3]) for i in (0, 3, 6))
    assert one == two == three
    assert len(set(one)) == 3


def test_the_command_prints_the_table(run, capsys):
    """Refiners as text; two lines of the table for two refiners."""
    arguments = ["sweep-refiner", str(run.path), "--episodes", "1"]
    assert main([*arguments, "--refiners", "one_step", "qgbs(steps=0, beam=2, branches=1)"]) == 0
    text = capsys.readouterr().out
    assert "\nqgbs(steps=0, beam=2, branches=1, snr=1.5, eta=0.3, bound=1.0): success" in text
    assert "gradients" in text
    assert "sweep.csv" in text
    assert len((run.path / "sweep.csv").read_text().splitlines()) == 3


def test_a_refiner_twice_or_none_is_refused(run):
    """Before anything is played."""
    with pytest.raises(InvalidConfig, match="each once"):
        fp.sweep_refiner(run, [fp.one_step(), fp.one_step()])
    with pytest.raises(InvalidConfig, match="at least one"):
        fp.sweep_refiner(run, [])
