"""The page of a comparison: everything inside, every number also in a CSV, nothing invented."""

import csv
import errno
import json
import os
import re

import numpy as np
import pytest
from run_folders import write_run
from test_html import Reader

from flowpolicy import api
from flowpolicy.cli import main
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, StorageFailed
from flowpolicy.report import costs, gallery, methods, modes
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.document import check_page, write_whole
from flowpolicy.report.gallery import Example, example
from flowpolicy.report.material import Rollout
from flowpolicy.report.runfiles import read_run

QGBS = "qgbs(steps=1, beam=4, branches=4, snr=1.5, eta=0.3)"
TASK, OTHER = "cube-double-task3", "cube-single-task1"
HIGH = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0], 2: [0.0, 0.4, 0.8]}
LOW = {0: [0.0, 0.2, 0.7], 1: [0.1, 0.3, 0.6], 2: [0.1, 0.1, 0.5]}
SECTIONS = [
    "warnings",
    "confounders",
    "success",
    "overall",
    "paired",
    "improvement",
    "curves",
    "speedup",
    "cost",
    "sweep",
    "modes",
    "paper",
    "page",
    "gallery",
    "runs",
]


def compared(*paths):
    return Comparison(methods.gather([[read_run(path) for path in paths]]))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folders(tmp_path):
    """FMQ with QGBS, and MVP, on a task of the page; FMQ alone on another."""
    made = [
        write_run(tmp_path / "fmq", f"mini/fmq/{TASK}", HIGH, refiners={QGBS: HIGH}),
        write_run(tmp_path / "mvp", f"mini/mvp/{TASK}", LOW),
        write_run(tmp_path / "other", f"mini/fmq/{OTHER}", LOW),
    ]
    line = "refiner,nfe,ms_p50,ms_p99,calls,device\nown,8,9.0,9.0,200,cpu\nown,32,1.5,2.5,200,cpu\n"
    (made[0] / "costs.csv").write_text(line)
    return made


def test_the_page_holds_everything_and_fetches_nothing(folders, tmp_path, frames):
    rollout = Rollout(7, 36, 36, -35.0, (5, 7), (7,), frames, tuple(range(0, 40, 4)))
    path = np.cumsum(np.full((13, 3), 0.01), axis=0)
    failed = Rollout(5, 12, None, -12.0, (5, 7), (7,), paths={"gripper": path})
    examples = [
        Example("mini/fmq", TASK, rollout, failed),
        Example("mini/mvp", TASK, None, failed),
        Example("mini/fmq", OTHER, absent="no checkpoint here"),
    ]
    out = tmp_path / "page.html"
    assert write_comparison(compared(*folders), out, examples=examples) == out
    raw = out.read_text(encoding="utf-8")
    page_ = Reader(raw)
    assert page_.ids == SECTIONS
    assert not page_.tags & {"script", "iframe", "link", "object", "embed"}
    assert not re.search(r"https?://|@import|url\(", raw)
    assert all(re.match(r"data:image/(png|svg\+xml|webp);base64,", a) for a in page_.addresses)
    # Success, overall, profile, a curve a task, cost, a strip and two paths.
    assert len(page_.addresses) == 3 + 2 + 1 + 3
    for words in (
        "mini/fmq + QGBS",
        "Solved: environment seed 7, 36 steps",
        "Not solved: environment seed 5",
        "None of the episodes tried was solved",
        "no checkpoint here",
        f"mini/mvp on {OTHER}: no run",
        f"mini/mvp on {TASK}: cost of acting not measured",
        "rest on 3 seeds",
    ):
        assert words in page_.text
    again = tmp_path / "page.html"
    write_comparison(compared(*folders), again, examples=examples)
    assert again.read_text(encoding="utf-8") == raw


def test_every_table_is_a_file_of_the_same_numbers(folders, tmp_path):
    out = write_comparison(compared(*folders), tmp_path / "page.html")
    files = {path.stem for path in (tmp_path / "page").iterdir()}
    assert files == {
        "success", "overall", "paired", "improvement", "speedup", "cost", "page", "page_qgbs",
        "departures", "curves", "profile", "modes", "waiting", "confounders",
        "mean_speedup", "sweep",
    }  # fmt: skip
    shown = Reader(out.read_text(encoding="utf-8")).text
    for row in rows_of(tmp_path / "page" / "success.csv"):
        for column in ("mean", "low", "high"):
            assert f"{float(row[column]):.3f}" in shown
    final = [r for r in rows_of(tmp_path / "page" / "success.csv") if r["protocol"] == "final step"]
    by_cell = {(r["task"], r["method"]): r for r in final}
    fmq = by_cell[TASK, "mini/fmq"]
    assert (float(fmq["mean"]), float(fmq["sd"]), fmq["seeds"]) == (0.9, 0.1, "3")
    assert (fmq["page_mean"], fmq["page_sd"]) == ("1.0", "0.0")
    assert by_cell[OTHER, "mini/fmq"]["page_mean"] == ""
    (pair,) = [
        r
        for r in rows_of(tmp_path / "page" / "paired.csv")
        if (r["first"], r["second"], r["protocol"]) == ("mini/fmq", "mini/mvp", "final step")
    ]
    assert (float(pair["first_minus_second"]), pair["tasks"], pair["pairs"]) == (0.3, TASK, "3")
    last = [r for r in rows_of(tmp_path / "page" / "curves.csv") if r["step"] == "300"]
    assert {(r["task"], r["method"]): float(r["mean"]) for r in last} == pytest.approx(
        {key: float(row["mean"]) for key, row in by_cell.items()}
    )
    cost = {(r["task"], r["method"]): r for r in rows_of(tmp_path / "page" / "cost.csv")}
    assert (cost[TASK, "mini/fmq"]["nfe"], cost[TASK, "mini/fmq"]["ms_p50"]) == ("32", "1.5")
    assert cost[TASK, "mini/mvp"]["nfe"] == ""
    assert float(cost[TASK, "mini/mvp"]["evaluation_ms_per_step"]) == pytest.approx(
        1.5e3 / (20 * 120)
    )


def test_censored_times_are_bounds_in_the_table(folders, tmp_path):
    write_comparison(compared(*folders), tmp_path / "page.html")
    rows = rows_of(tmp_path / "page" / "speedup.csv")
    (never,) = [
        r for r in rows
        if (r["first"], r["second"], r["success"]) == ("mini/fmq", "mini/mvp", "0.9")
    ]  # fmt: skip
    assert never["second_steps"] == "not within 300"
    assert (never["second_reached"], never["first_sooner_by"]) == ("0 of 3", "> 1.00")


def test_costs_are_read_strictly(tmp_path):
    run = write_run(tmp_path / "a", f"fmq/{TASK}", HIGH)
    assert costs.read_costs(run) == {}
    (run / "costs.csv").write_text("refiner,nfe\nown,3\n")
    with pytest.raises(CorruptFile, match=r"costs\.csv.*first line"):
        costs.read_costs(run)
    (run / "costs.csv").write_text(",".join(costs.COLUMNS) + "\nown,many,1,1,1,cpu\n")
    with pytest.raises(CorruptFile, match="many"):
        costs.read_costs(run)
    for line, says in (("0,1,1", "nfe must be above 0, got 0"), ("1,1,-2.0", "ms_p99 must")):
        (run / "costs.csv").write_text(",".join(costs.COLUMNS) + f"\nown,{line},200,cpu\n")
        with pytest.raises(CorruptFile, match=f"line 2: {says}"):
            costs.read_costs(run)


def test_the_cost_of_a_method_is_the_median_over_its_runs(tmp_path):
    """One run on a busy machine does not decide; other devices are not mixed in."""
    times = (("cpu", 0.5), ("H200", 9.0), ("cpu", 0.3), ("cpu", 0.2))
    made = []
    for seed, (device, ms) in enumerate(times):
        made.append(write_run(tmp_path / str(seed), f"fmq/{TASK}", {seed: [0.5]}))
        line = f"own,32,{ms},{2 * ms},200,{device}"
        (made[-1] / "costs.csv").write_text(",".join(costs.COLUMNS) + f"\n{line}\n")
    found = costs.cost_of(compared(*made).cells[0])
    assert found[:4] == (32, 0.3, 0.6, "cpu")


def test_modes_are_counted_by_where_actions_lie():
    centres = np.array([[-0.5, 0.0], [0.5, 0.0]])
    at = {name: np.array(place) for name, place in (("left", [-0.4, 0.1]), ("right", [0.5, 0]))}
    far = np.array([[0.5, 0.9]])  # nearest to the right one, and not at it
    left, right = np.tile(at["left"], (60, 1)), np.tile(at["right"], (40, 1))
    assert modes.count(np.concatenate([left, right]), centres) == 2
    assert modes.count(left, centres) == 1
    assert modes.count(np.concatenate([left, np.tile(far, (40, 1))]), centres) == 1
    # 5 % count, less does not.
    assert modes.count(np.concatenate([np.tile(left[:1], (95, 1)), right[:5]]), centres) == 2
    assert modes.count(np.concatenate([np.tile(left[:1], (96, 1)), right[:4]]), centres) == 1
    with pytest.raises(InvalidData, match="at least two"):
        modes.count(left, centres[:1])


def test_markup_in_a_run_is_text(tmp_path):
    attack = "<script>alert(1)</script>"
    run = write_run(tmp_path / "a", f"{attack}/{TASK}", HIGH, command=attack)
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**record, "commit": attack, "task": attack}))
    out = write_comparison(compared(run), tmp_path / "page.html")
    assert "<script" not in out.read_text(encoding="utf-8")


@pytest.fixture
def unplayed(monkeypatch):
    """Whatever is refused is refused before an episode is played."""
    monkeypatch.setattr(gallery, "example", lambda cell: pytest.fail("played"))
    monkeypatch.setattr(api, "show", lambda folder: pytest.fail("played"))


def test_the_tables_never_go_into_a_run(folders, tmp_path, unplayed, capfd):
    """``fmq.html`` has its tables in ``fmq/``, which is a run and may hold a sweep of its own."""
    before = {path: path.read_bytes() for path in folders[0].iterdir()}
    out = tmp_path / "fmq.html"
    with pytest.raises(InvalidConfig, match=r"fmq\.html' has its tables in .*fmq, which holds a"):
        write_comparison(compared(*folders), out)
    assert main(["report", *map(str, folders), "--out", str(out)]) == 2
    assert "choose another name" in " ".join(capfd.readouterr().err.split())
    assert {path: path.read_bytes() for path in folders[0].iterdir()} == before
    assert not out.exists()


@pytest.mark.parametrize("several", [False, True])
def test_a_page_without_a_place_is_refused_before_episodes(
    folders, tmp_path, unplayed, capfd, several, monkeypatch
):
    """A folder, a file for a folder, a folder nobody may write to; one that is missing is made."""
    runs = [str(folder) for folder in folders[: 3 if several else 1]]
    (tmp_path / "d.html").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["report", *runs, "--out", str(tmp_path / "d.html")]) == 2
    assert main(["report", *runs, "--out", str(tmp_path / "file" / "x.html")]) == 74
    told = " ".join(capfd.readouterr().err.split())
    assert "is a folder" in told
    assert "could not be written: Not a directory" in told
    before, real = sorted(tmp_path.rglob("*")), os.open

    def refuse(path, flags, *how, **more):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *how, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert main(["report", *runs, *(["--out", "x.html"] if several else [])]) == 74
        for write in (write_whole, check_page):
            with pytest.raises(StorageFailed, match=r"x\.html could not be written: this user"):
                write(tmp_path / "x.html", "text")
    assert sorted(tmp_path.rglob("*")) == before
    place = tmp_path / "none" / "yet" / "x.html"
    assert main(["report", *runs, "--no-episodes", "--out", str(place)]) == 0
    assert place.is_file()


def test_a_gallery_without_a_checkpoint_says_so(folders):
    found = example(compared(*folders).cells[0])
    assert (found.success, found.failure) == (None, None)
    assert found.absent
