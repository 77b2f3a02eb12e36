"""What is not the same in all runs, or not as in the paper: told, and nothing else is."""

from run_folders import SETTINGS, write_run
from test_html import Reader

from flowpolicy.report import methods, unlike
from flowpolicy.report.comparison import Comparison
from flowpolicy.report.comparison_html import write_comparison
from flowpolicy.report.runfiles import read_run

TASK, OTHER = "cube-double-task3", "cube-single-task1"
HIGH = {0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 1.0], 2: [0.0, 0.4, 0.8]}
LOW = {0: [0.0, 0.2, 0.7], 1: [0.1, 0.3, 0.6], 2: [0.1, 0.1, 0.5]}


def compared(*paths):
    return Comparison(methods.gather([[read_run(path) for path in paths]]))


def told(*paths):
    return unlike.differences(compared(*paths).cells)


def rows(digest):
    return {"file": "cube.npz", "sha256": "f" * 64, "rows_sha256": digest * 64}


def test_what_is_not_the_same_in_all_runs_is_told(tmp_path):
    task = {"part": "ogbench", "task": TASK, "timing": "post"}
    versions = {"jax": "0.10.2", "ogbench": "1.1.2"}
    one = write_run(tmp_path / "one", f"fmq/{TASK}", HIGH)
    two = write_run(
        tmp_path / "two", f"mvp/{TASK}", LOW, settings={"task": task}, versions=versions
    )
    cells = compared(one, two).cells
    told = "\n".join(unlike.differences(cells))
    assert f"success and reward timing: pre in {one}; post in {two}" in told
    assert f"ogbench: 1.2.2 in {one}; 1.1.2 in {two}" in told
    assert "jax" not in told
    assert "seeds" not in told
    assert unlike.differences(cells[:1]) == ()
    three = write_run(tmp_path / "three", f"qc/{TASK}", {5: LOW[0]})
    (seeds,) = unlike.differences(compared(one, three).cells)
    assert seeds == f"seeds on {TASK}: 0, 1, 2 of fmq; 5 of qc"
    out = write_comparison(compared(one, two), tmp_path / "page.html")
    assert "1.1.2 in" in Reader(out.read_text(encoding="utf-8")).text


def test_departures_from_the_paper_are_the_fields_that_differ(tmp_path):
    settings = {"batch": 128, "agent": {"part": "fmq", "eta": 0.15, "beta": 0.3}}
    data = {"reward_timing": "pre", "collected": {"arguments": {"rows": 100_000}}}
    run = write_run(tmp_path / "a", f"mini/fmq/{TASK}", HIGH, settings=settings, data=data)
    phases = [{"part": "offline", "steps": 10**6}, {"part": "online", "env_steps": 10**6}]
    agent = {"part": "fmq", "eta": 1.0, "beta": 0.3}
    theirs = {**SETTINGS, "agent": agent, "batch": 256, "phases": phases}
    found = unlike.departures(compared(run).cells, {("mini/fmq", TASK): theirs})
    told = {row.what: (row.here, row.paper) for row in found}
    assert told["agent.eta"] == ("0.15", "1.0")
    assert told["batch"] == ("128", "256")
    assert told["phases.1.env_steps"] == ("absent", "1000000")
    assert "agent.beta" not in told
    assert told["version of ogbench"] == ("1.2.2", "1.1.2")
    assert told["success and reward timing"] == ("pre", "mixed")
    assert told["seeds"] == ("3", "5")
    assert told["data"] == ("collected here, 100000 rows", "the published data set")
    assert told["episodes of an evaluation"] == ("20", "50")
    (alone, *_) = [row for row in unlike.departures(compared(run).cells, {}) if not row.here]
    assert "no named run at the paper's size" in alone.paper


def test_data_are_compared_task_by_task(tmp_path):
    """Other rows of one task are told where the report has two tasks; those of another are not."""
    made = [
        write_run(tmp_path / f"{name}-{i}", f"{name}/{task}", HIGH, data=rows(digest))
        for i, task in enumerate((TASK, OTHER))
        for name, digest in (("fmq", f"{i}"), ("qc", f"{i}"))
    ]
    assert told(*made) == ()
    other = write_run(tmp_path / "other", f"mvp/{OTHER}", HIGH, data=rows("9"))
    (line,) = told(*made, other)
    assert line == (
        f"data on {OTHER}: cube.npz (SHA-256 of its rows 111111111111) in {made[2]}, {made[3]}; "
        f"cube.npz (SHA-256 of its rows 999999999999) in {other}"
    )


def test_the_same_file_read_as_other_rows_is_told_and_one_without_a_sum_is_named(tmp_path):
    one = write_run(tmp_path / "one", f"fmq/{TASK}", HIGH, data=rows("1"))
    file = {"file": "cube.npz", "sha256": "f" * 64}
    two = write_run(tmp_path / "two", f"qc/{TASK}", HIGH, data=file)
    (line,) = told(one, two)
    assert line.endswith(f"cube.npz (SHA-256 of its file ffffffffffff) in {two}")


def test_a_sparse_method_beside_a_dense_one_is_told(tmp_path):
    task = {"part": "ogbench", "task": TASK, "timing": "pre"}
    dense = write_run(tmp_path / "dense", f"qc/{TASK}", LOW, settings={"task": task})
    settings = {"task": {**task, "sparse": True}}
    sparse = write_run(tmp_path / "sparse", f"fmq/{TASK}", HIGH, settings=settings)
    assert told(sparse, dense) == (f"task.sparse on {TASK}: true in {sparse}; false in {dense}",)


def test_how_batches_are_drawn_scaled_and_multiplied_is_told(tmp_path):
    """A setting that one run has at its default and another does not, one after the other."""
    base = {"part": "run"}
    one = write_run(tmp_path / "one", f"fmq/{TASK}", HIGH, settings=base)
    for field, value, line in (
        ("draw", {"part": "offline_share", "share": 0.25}, "offline_share, share 0.25"),
        ("normaliser", {"part": "standardise"}, "standardise"),
        ("precision", "bfloat16", "bfloat16"),
    ):
        two = write_run(tmp_path / "two", f"qc/{TASK}", LOW, settings={**base, field: value})
        (found,) = told(one, two)
        assert found.startswith(f"{field}: "), found
        assert line in found
    # What only says how often something is written is no news.
    two = write_run(tmp_path / "two", f"qc/{TASK}", LOW, settings={**base, "keep": 9, "block": 7})
    assert told(one, two) == ()
