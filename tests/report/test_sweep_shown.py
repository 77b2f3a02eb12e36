"""A run's ``sweep.csv`` is read strictly, and shown where it is: of one run and of several."""

import dataclasses

import pytest
from run_folders import write_run
from test_html import SECTIONS, Reader

from flowpolicy import parts
from flowpolicy.errors import CorruptFile
from flowpolicy.refine import QGBS, BestOfN
from flowpolicy.report import comparison_tables, methods
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.html import write_report
from flowpolicy.report.material import Material
from flowpolicy.report.runfiles import read_run
from flowpolicy.report.sweep import SweepRow, page_iqm, page_refiners, read_sweep, write_sweep

TASK = "cube-double-task3"
RATES = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0]}
REFINERS = (*page_refiners(), QGBS(eta=0.1), BestOfN(8))


def swept(folder, name, **more):
    """A run with a sweep: the n-th refiner solves n of 10."""
    run = write_run(folder, f"{name}/{TASK}", RATES, **more)
    rows = [
        SweepRow(
            parts.describe(refiner), 20, 24, 4, 5, 1.5, 2.5, 10, i / 10, 0.0, 1.0,
            page_iqm(refiner) if isinstance(refiner, QGBS) else None,
        )
        for i, refiner in enumerate(REFINERS)
    ]  # fmt: skip
    write_sweep(run, rows, {"phase": "online", "step": 300, "seeds": [0, 1]})
    return run, rows


def tables(*paths):
    found = Comparison(methods.gather([[read_run(path) for path in paths]]))
    return comparison_tables.tables(found, {})


def test_what_is_written_is_read(tmp_path):
    run, rows = swept(tmp_path / "a", "fmq")
    assert read_sweep(run) == (tuple(rows), "online", 300)
    (run / "sweep.json").unlink()
    assert read_sweep(run) == (tuple(rows), None, None)
    # A line that a kill cut off is no line.
    whole = (run / "sweep.csv").read_text()
    (run / "sweep.csv").write_text(whole[:-5])
    assert read_sweep(run) == (tuple(rows[:-1]), None, None)
    (run / "sweep.csv").unlink()
    assert read_sweep(run) is None


def test_a_broken_sweep_is_named_with_its_line(tmp_path):
    run, _ = swept(tmp_path / "a", "fmq")
    text = (run / "sweep.csv").read_text()
    (run / "sweep.csv").write_text(text.replace(",20,24,", ",many,24,", 1))
    with pytest.raises(CorruptFile, match=r"sweep\.csv, line 2: policy must be a whole number"):
        tables(run)
    (run / "sweep.csv").write_text(text.replace("refiner,", "name,", 1))
    with pytest.raises(CorruptFile, match=r"sweep\.csv: the first line"):
        write_report(run, material=Material())


def test_the_pages_settings_have_ours_of_a_sweep_beside_them(tmp_path):
    """FMQ's, by every value; MVP's sweep is shown, and the page's ablation is not of it."""
    fmq, rows = swept(tmp_path / "fmq", "mini/fmq-qgbs")
    mvp, _ = swept(tmp_path / "mvp", "mini/mvp")
    made = tables(fmq, mvp)
    mine = [row[-4:] for row in made["page_qgbs"].rows if row[-2] is not None]
    assert mine == [("mini/fmq-qgbs", None, str(fmq), row.success) for row in rows[:6]]
    shown = {(row[1], row[5]): row for row in made["sweep"].rows}
    assert len(shown) == 2 * len(REFINERS)
    best = parts.describe(QGBS())
    head = (TASK, "mini/fmq-qgbs", str(fmq), "online", 300)
    assert shown["mini/fmq-qgbs", best][:5] == head
    assert shown["mini/fmq-qgbs", best][5:] == dataclasses.astuple(rows[1])
    assert (shown["mini/fmq-qgbs", best][-1], shown["mini/mvp", best][-1]) == (0.93, None)
    assert shown["mini/fmq-qgbs", parts.describe(QGBS(eta=0.1))][-1] is None


def test_a_sweep_is_called_by_the_method_that_acts_on_its_own_and_told_once(tmp_path):
    text = parts.describe(QGBS())
    run, _ = swept(tmp_path / "a", "fmq", refiners={text: RATES})
    assert {row[1] for row in tables(run)["sweep"].rows} == {"fmq"}
    assert len(tables(run)["sweep"].rows) == len(REFINERS)


def test_both_pages_show_it_and_say_where_it_is_not(tmp_path):
    run, _ = swept(tmp_path / "a", "fmq")
    write_report(run, material=Material())
    page = Reader((run / "report.html").read_text(encoding="utf-8"))
    assert "sweep" in page.ids
    assert "From one checkpoint, online 300 environment steps" in page.text
    assert f"{parts.describe(QGBS())} 20 24 4 5 1.50 2.50 10 0.100 [0.000, 1.000] 0.93" in page.text
    other = write_run(tmp_path / "b", f"mvp/{TASK}", RATES)
    write_report(other, material=Material())
    assert Reader((other / "report.html").read_text(encoding="utf-8")).ids == SECTIONS
    for paths, words in (((run, other), parts.describe(QGBS())), ((other,), "holds a sweep.csv")):
        found = Comparison(methods.gather([[read_run(path) for path in paths]]))
        out = write_comparison(found, tmp_path / "page.html")
        assert words in Reader(out.read_text(encoding="utf-8")).text
