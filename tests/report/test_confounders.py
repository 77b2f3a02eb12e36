"""The switches of each method: read from what was recorded, whatever the agent is called."""

import csv

from run_folders import write_run
from test_html import Reader

from flowpolicy import parts, runs
from flowpolicy.report import methods
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.confounders import confounders, differing
from flowpolicy.report.runfiles import read_run

TASK, OTHER = "cube-double-task3", "puzzle-3x3-task1"
RATES = {0: [0.1, 0.5, 0.9]}
QGBS = "qgbs(steps=1, beam=4, branches=4, snr=1.5, eta=0.3)"


def made(folder, name, task=TASK, agent=None, **more):
    """A run as the named one records it, or with another agent."""
    config = parts.encode(runs.get(f"{name}/{task}").config)
    settings = {"agent": config["agent"] if agent is None else agent, "task": config["task"]}
    return write_run(folder, f"{name}/{task}", RATES, settings=settings, **more)


def table(*paths):
    return confounders(methods.gather([[read_run(path) for path in paths]]))


def test_switches_of_the_papers_methods_stand_side_by_side(tmp_path):
    """FMQ takes the lower of two critics, the others their mean; FQL has no chunks and one draw."""
    found = table(
        made(tmp_path / "fmq", "fmq", refiners={QGBS: RATES}),
        *(made(tmp_path / name, name) for name in ("mvp", "fql", "fmq-released", "rlpd")),
    )
    rows = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    best = "best_of_n(n=32, bound=1.0)"
    fourier = "fourier(size=64, lowest=0.0001)"
    assert rows["fmq"] == {
        "method": "fmq", "tasks": (TASK,), "chunk": 5, "acting": best, "bootstrap": best,
        "aggregate": "minimum", "ensemble": 2, "flow_time_embedding": fourier,
        "reward_timing": "mixed",
    }  # fmt: skip
    assert rows["fmq + QGBS"] == {**rows["fmq"], "method": "fmq + QGBS", "acting": QGBS}
    assert rows["mvp"]["aggregate"] == "mean"
    assert (rows["fql"]["chunk"], rows["fql"]["acting"]) == (1, "one_step(bound=1.0)")
    assert rows["fql"]["flow_time_embedding"] == "plain()"  # of its behaviour's flow
    assert rows["fmq-released"]["aggregate"] == (
        "mean (aggregate_offline)", "minimum (aggregate_online)",
    )  # fmt: skip
    assert (rows["rlpd"]["acting"], rows["rlpd"]["bootstrap"]) == (None, None)
    assert "reward_timing" not in differing(found)
    assert {"chunk", "acting", "aggregate", "ensemble"} <= set(differing(found))
    alone = table(tmp_path / "mvp")
    assert (len(alone.rows), differing(alone)) == (1, ())


def test_a_method_with_other_candidates_on_another_task_has_two_rows(tmp_path):
    """QC draws 32 on cube and 64 on puzzle."""
    found = table(made(tmp_path / "a", "qc"), made(tmp_path / "b", "qc", OTHER))
    assert [(row[0], row[1]) for row in found.rows] == [("qc", (TASK,)), ("qc", (OTHER,))]
    assert [row[3] for row in found.rows] == [
        "best_of_n(n=32, bound=1.0)",
        "best_of_n(n=64, bound=1.0)",
    ]
    same = table(made(tmp_path / "a", "mvp"), made(tmp_path / "b", "mvp", OTHER))
    assert [row[1] for row in same.rows] == [(TASK, OTHER)]


def test_an_agent_that_nobody_knows_here_is_read_by_its_fields(tmp_path):
    """One inside another, too; a field whose name only begins like one is none."""
    agent = {
        "part": "theirs",
        "act": {"part": "their_search", "width": 3},
        "act_steps": 7,
        "inner": {"part": "more", "chunk": 9, "nets": {"embed": {"part": "plain"}}},
    }
    ((_, _, chunk, acting, bootstrap, aggregate, *_),) = table(
        made(tmp_path / "a", "qc", agent=agent)
    ).rows
    assert (chunk, acting, bootstrap, aggregate) == (9, "their_search, width 3", None, None)


def test_the_page_shows_the_switches(tmp_path):
    one, two = made(tmp_path / "a", "fmq"), made(tmp_path / "b", "fql")
    cells = methods.gather([[read_run(one), read_run(two)]])
    out = write_comparison(Comparison(cells), tmp_path / "page.html")
    text = Reader(out.read_text(encoding="utf-8")).text
    assert "What differs between the methods" in text
    assert "Not the same everywhere: chunk, acting, bootstrap, aggregate" in text
    with (tmp_path / "page" / "confounders.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["aggregate"] for row in rows] == ["minimum", "mean"]
