"""The project page's numbers: complete, and beside ours only where they are of the same thing."""

import dataclasses

import pytest
from run_folders import write_run

from flowpolicy import parts, runs
from flowpolicy.refine import QGBS, BestOfN
from flowpolicy.report import comparison_tables, methods, page
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.runfiles import read_run
from flowpolicy.runs.paper import PAGE
from flowpolicy.train.folder import OWN

PAGES = "qgbs(steps=1, beam=4, branches=4, snr=1.5, eta=0.3)"
TASK = "cube-double-task3"
HIGH = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0], 2: [0.0, 0.4, 0.8]}
LOW = {0: [0.0, 0.2, 0.7], 1: [0.1, 0.3, 0.6], 2: [0.1, 0.1, 0.5]}


def tables(*paths):
    found = Comparison(methods.gather([[read_run(path) for path in paths]]))
    return comparison_tables.tables(found, {})


def test_the_project_pages_numbers_are_complete_and_consistent():
    """12 tasks x 5 methods; the printed IQM and plain mean as in the summary of the page."""
    assert len(page.table()) == 60
    means = {name: row.mean for name, row in page.overall().items()}
    assert means == pytest.approx(
        {"QC": 0.757, "MVP": 0.677, "MVP + QGBS": 0.720, "FMQ": 0.832, "FMQ + QGBS": 0.829},
        abs=6e-4,
    )
    assert page.overall()["FMQ"].iqm / page.overall()["MVP"].iqm == pytest.approx(1.213, abs=1e-3)
    for setting in page.settings():
        assert setting.nfe == setting.beam * (1 + setting.steps * setting.branches)


def test_the_pages_tasks_are_those_of_the_named_runs():
    """By the name that a run of each records, which is what ours are matched by."""
    assert {task for task, _ in page.table()} == set(PAGE)
    recorded = {methods.short_task(runs.get(f"fmq/{task}").config.task.name) for task in PAGE}
    assert recorded == set(PAGE)


def test_the_columns_setting_is_the_pages_best_one():
    best = max(page.settings(), key=lambda s: (s.iqm, -s.nfe))
    assert best.is_of(page.COLUMN)
    assert best.iqm == page.overall()["FMQ + QGBS"].iqm


@pytest.mark.parametrize(
    ("base", "method", "refiner", "name"),
    [
        ("mini/fmq", "mini/fmq", OWN, "FMQ"),
        ("mvp", "mvp + QGBS", PAGES, "MVP + QGBS"),
        ("fmq-qgbs", "fmq-qgbs", OWN, "FMQ"),
        ("fmq-qgbs", "fmq-qgbs + QGBS", PAGES, "FMQ + QGBS"),
        ("mvp-qgbs", "mvp-qgbs", OWN, "MVP"),
        ("mvp-qgbs", "mvp-qgbs + QGBS", PAGES, "MVP + QGBS"),
        ("fmq", f"fmq + {PAGES}", PAGES, "FMQ + QGBS"),
        ("fmq", "fmq + QGBS", PAGES.replace("eta=0.3", "eta=0.1"), None),
        ("fmq", "fmq + QGBS", PAGES.replace("snr=1.5", "snr=3.0"), None),
        ("fmq", "fmq + QGBS", PAGES.replace("beam=4", "beam=8"), None),
        ("mini/fmq", "mini/fmq + best_of_n", "best_of_n(n=8)", None),
        ("mini/fmq", "mini/fmq, eta=0.5", OWN, None),
        ("mini/fmq", "mini/fmq, eta=0.5 + QGBS", PAGES, None),
        ("fmq", "fmq + theirs", "theirs(n=3)", None),
        ("fmq-released", "fmq-released", OWN, None),
        ("qc", "qc + QGBS", PAGES, None),
    ],
)
def test_only_what_is_a_column_of_the_page_is_put_beside_it(base, method, refiner, name):
    assert page.page_name(base, method, refiner) == name


def test_named_runs_of_the_qgbs_columns_meet_the_page(tmp_path):
    """Both rows of each: acting on its own, and by QGBS."""
    folders = [
        write_run(tmp_path / base, f"{base}/robomimic-can", HIGH, refiners={PAGES: LOW})
        for base in ("fmq-qgbs", "mvp-qgbs")
    ]
    made = tables(*folders)
    rows = {row[2]: row[-2:] for row in made["success"].rows if row[0] == "final step"}
    assert rows == {
        "fmq-qgbs": (0.96, 0.04),
        "fmq-qgbs + QGBS": (0.97, 0.03),
        "mvp-qgbs": (0.83, 0.07),
        "mvp-qgbs + QGBS": (0.87, 0.07),
    }
    theirs = {row[1]: row[4] for row in made["page"].rows if row[4] is not None}
    assert theirs == {
        "FMQ": "fmq-qgbs", "FMQ + QGBS": "fmq-qgbs + QGBS",
        "MVP": "mvp-qgbs", "MVP + QGBS": "mvp-qgbs + QGBS",
    }  # fmt: skip


def test_settings_of_qgbs_are_matched_by_value(tmp_path):
    other = "qgbs(steps=2, beam=16, branches=4, snr=1.5, eta=0.3)"
    run = write_run(tmp_path / "a", f"fmq/{TASK}", HIGH, refiners={PAGES: LOW, other: LOW})
    mine = {row[:3]: row[5:7] for row in tables(run)["page_qgbs"].rows}
    assert mine[1, 4, 4][0] == f"fmq + {PAGES}"
    assert mine[2, 4, 16][0] == f"fmq + {other}"
    # The agent's own way of acting in the fixture is best-of-32.
    assert mine[0, 1, 32] == ("fmq", pytest.approx(0.9))
    assert mine[1, 1, 16] == (None, None)


@pytest.mark.parametrize("change", [{"eta": 0.1}, {"snr": 3.0}, {"bound": 0.5}])
def test_qgbs_with_another_value_is_not_the_pages(tmp_path, change):
    text = parts.describe(dataclasses.replace(page.COLUMN, **change))
    run = write_run(tmp_path / "a", f"fmq/{TASK}", HIGH, refiners={text: LOW})
    made = tables(run)
    assert {row[:3]: row[5] for row in made["page_qgbs"].rows}[1, 4, 4] is None
    (row,) = [row for row in made["success"].rows if row[2] == "fmq + QGBS"][:1]
    assert row[-2:] == (None, None)


def test_best_of_m_is_qgbs_without_a_round():
    first = page.settings()[0]
    assert first.is_of(BestOfN(32))
    assert first.is_of(QGBS(steps=0, beam=32, branches=1))
    assert not first.is_of(BestOfN(8))
    assert not page.settings()[1].is_of(BestOfN(4))
    assert not first.is_of(None)
