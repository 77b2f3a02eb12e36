"""The benchmarks' formula for floating-point operations, and how they time and judge."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from benchmarks import (
    checkpoints,
    comparison,
    controls,
    measure,
    methods,
    pace,
    precision,
    pusht,
    qam_gradients,
    swfp_memory,
    theory,
)
from benchmarks.yardsticks import fpmd as yardstick

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.agents import AGENTS, FMQ
from flowpolicy.bench import flops
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import OnDiagonal, Term, diagonal
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.types import Spec, Transition
from report.run_folders import write_run

PROBLEM = flops.Problem(obs=64, action=16, batch=32)
AGENT = FMQ(
    chunk=2,
    bootstrap=BestOfN(4),
    actor=MLPFlow(width=256, depth=2),
    critic=MLPCritic(width=256, depth=3),
)


def _batch() -> Transition:
    b, obs, size = PROBLEM.batch, PROBLEM.obs, AGENT.chunk * PROBLEM.action
    state, action, one = jnp.zeros((b, obs)), jnp.zeros((b, size)), jnp.ones(b)
    return Transition(state, action, one, one, state, jnp.ones((b, size)), one)


def _counted(agent: FMQ, *, online: bool) -> float:
    """XLA's own count of one update."""
    key = jax.random.key(0)
    state = jax.eval_shape(lambda k: agent.init(k, Spec((PROBLEM.obs,), PROBLEM.action)), key)
    if online:
        state = jax.eval_shape(lambda s: s.begin_online(key), state)
    update = jax.jit(lambda state, batch: state.update(key, batch))
    return update.lower(state, _batch()).compile().cost_analysis()["flops"]


def test_a_small_net_by_hand():
    net = flops.Net(inputs=(3, 2), width=5, depth=2, out=1)
    # 4 candidates for each of 2 states: 2*2*3*5 + 2*8*2*5, then 2*8*5*5 + 2*8*5*1.
    assert net.forward(8, (2, 8)) == 60 + 160 + 400 + 80
    assert net.backward(8, (2, 8)) == 60 + 160 + 2 * 480


def test_the_paper_size_is_what_the_readme_says():
    total = sum(flops.offline(FMQ(), flops.Problem(40, 5, 256), 32).values())
    assert total == pytest.approx(45.96e9, rel=1e-3)


@pytest.mark.parametrize("online", [False, True])
def test_the_formula_agrees_with_the_compiler(online):
    terms = flops.online(AGENT, PROBLEM, 4) if online else flops.offline(AGENT, PROBLEM, 4)
    # XLA counts element-wise work too, hence never less and a little more.
    assert 1.0 <= _counted(AGENT, online=online) / sum(terms.values()) < 1.2


def test_terms_that_are_not_there_are_not_counted():
    only = dataclasses.replace(AGENT, terms=(Term(residual=diagonal, times=OnDiagonal()),))
    both, one = flops.cloning_terms(AGENT, PROBLEM), flops.cloning_terms(only, PROBLEM)
    assert one == {"diagonal": both["diagonal"]}
    assert both["diagonal"] < both["mean_flow"] < 2 * both["diagonal"]


def test_the_size_of_embedded_times_counts():
    plain = dataclasses.replace(AGENT, actor=dataclasses.replace(AGENT.actor, embed=Plain()))
    less = flops.cloning_terms(AGENT, PROBLEM)["diagonal"]
    less -= flops.cloning_terms(plain, PROBLEM)["diagonal"]
    assert less == 2 * (2 * PROBLEM.batch * 256) * 2 * (64 - 1)


def test_a_kept_offline_loss_is_refused():
    with pytest.raises(NotImplementedError, match="keep_offline_loss"):
        flops.online(dataclasses.replace(AGENT, keep_offline_loss=1.0), PROBLEM, 4)


def test_loops_are_counted_once_by_xla():
    terms = {"candidates": 80, "ranking": 8, "target": 5}
    assert flops.counted_by_xla(terms, slices=4, steps=10) == 5 + (8 + 8) / 4


def test_what_was_wanted_is_judged_both_ways():
    assert measure.wanted("a", 0.6, 0.6, at_most=False)["met"]
    assert not measure.wanted("a", 0.61, 0.6, at_most=True)["met"]


def test_blocks_take_turns():
    order, blocks = [], [measure.Blocks(2), measure.Blocks(2)]
    measure.interleave(2, [(b, lambda i=i: order.append(i)) for i, b in enumerate(blocks)])
    assert order == [0, 1, 0, 1]
    assert blocks[0].summary()["blocks"] == 2


def test_results_are_strict_json(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    path = measure.write("name", {"machine": measure.machine()})
    assert path.name == "name-cpu.json"
    assert json.loads(path.read_text())["machine"]["platform"] == "cpu"
    with pytest.raises(ValueError, match="JSON"):
        measure.write("name", {"x": float("nan")})


def test_the_cost_table_has_every_agent_at_the_same_sizes():
    """Of the library; all nets of all of them are 3 x 256."""
    found = methods.methods()
    assert {type(config) for config in found.values()} == set(AGENTS.values())
    text = " ".join(parts.describe(config) for config in found.values())
    assert set(re.findall(r"width=(\d+), depth=(\d+)", text)) == {("256", "3")}


@pytest.mark.slow
def test_the_comparison_keeps_what_a_report_needs_and_runs_nothing_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two tiny runs; a second call finds both and prints a row for each way of acting."""
    places = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "kept")]
    what = ["--tiny", "--methods", "fmq", "qc", "--tasks", "cube-single-task1", "--seeds", "1"]
    assert comparison.main([*what, *places]) == 0
    shutil.rmtree(tmp_path / "runs")
    capfd.readouterr()
    assert comparison.main([*what, *places]) == 0
    told = capfd.readouterr().out
    assert "2 of 2 runs are done" in told
    for way in ("mini/fmq:", "mini/fmq + QGBS:", "mini/qc:"):
        assert f"cube-single-task1  {way}" in told
    assert not (tmp_path / "runs").exists()
    kept = {path.name for path in (tmp_path / "kept" / "fmq-cube-single-task1-seed0").iterdir()}
    assert kept == {
        "config.json", "evaluations.csv", "costs.csv", "machine.json", "metrics.jsonl",
    }  # fmt: skip


def test_what_is_rebuilt_from_abstracts_stays_out_of_the_comparison(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for method in ("swfp", "decision-flow-direction"):
        with pytest.raises(SystemExit):
            comparison.main(["--methods", "fmq", method])
        assert "give --results" in capsys.readouterr().err


@pytest.mark.slow
def test_costs_of_checkpoints_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the paper's size, with few rows and saves: all times are there and positive."""
    for name, value in {"ROWS": 100, "SAVES": 2, "RESTORES": 1, "LOG_LINES": 10}.items():
        monkeypatch.setattr(checkpoints, name, value)
    checkpoints.main(tmp_path)
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())["results"]
    assert found["state_mb"] > 30
    assert min(found["blocking_ms"].values()) > 0
    assert found["restore_ms"]["min"] > 0


@pytest.mark.slow
def test_theory_is_learned(tmp_path: Path) -> None:
    """In 300 updates roughly: every case has its rows, and QAM and FPMD are on their way from the
    behaviour's mean to the tilted one's. The lean adjoint's error falls with the steps."""
    theory.main(["--updates", "300", "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    rows = json.loads(path.read_text())["rows"]
    apart = {(row["case"], row["what"]): row["apart"] for row in rows}
    assert len(apart) == len(rows)
    for case in ("QAM, Q linear", "QAM, Q quadratic", "FPMD, weighted flow matching"):
        (row,) = (r for r in rows if (r["case"], r["what"]) == (case, "mean"))
        assert row["apart"] < 0.5 * abs(row["proved"] - theory.MEAN)
    few, many = (apart[f"lean adjoint, {n} steps", "entry"] for n in (10, 1000))
    assert many < 0.1 * few
    assert apart["GFP, eta 0, and normalised FQL", "largest gap"] < 1e-4


@pytest.mark.slow
def test_gradients_of_qam_and_of_its_control_are_told(tmp_path: Path) -> None:
    """A row for each velocity, loss and number of steps; all numbers are above 0."""
    qam_gradients.main(["--seeds", "0", "--updates", "5", "--out", str(tmp_path)])
    (path,) = tmp_path.glob("*.csv")
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert len(rows) == 4 * len(qam_gradients.STEPS)
    assert all(0 < float(r["low"]) <= float(r["median"]) <= float(r["high"]) for r in rows)


def test_the_yardstick_s_rows_are_those_of_the_recorded_runs(tmp_path: Path) -> None:
    """What the table of FPMD beside SAC rests on can be made again of what is kept."""
    kept = sorted((measure.RESULTS / "online").iterdir())
    yardstick.main([*map(str, kept), "--results", str(tmp_path)])
    made, recorded = (
        sorted((folder / "yardstick_fpmd.csv").read_text(encoding="utf-8").splitlines())
        for folder in (tmp_path, measure.RESULTS)
    )
    assert len(made) == 21
    assert made == recorded


@pytest.mark.slow
def test_memory_of_blocks_and_of_the_whole_cascade(tmp_path: Path) -> None:
    """Back-propagation through more blocks keeps more; a block's own gradient hardly does."""
    swfp_memory.main(["--counts", "2", "10", "--repeats", "1", "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    rows = json.loads(path.read_text())["rows"]
    temp = {(row["blocks"], row["loss"]): row["temp_mib"] for row in rows}
    assert temp[10, "end to end"] > 3 * temp[2, "end to end"]
    assert temp[10, "stepwise"] < 1.2 * temp[2, "stepwise"]


@pytest.mark.slow
@pytest.mark.extras
def test_streaming_and_chunks_play_push_t(tmp_path: Path) -> None:
    """Collected, trained and played, pushes included; at the second call nothing is trained."""
    pytest.importorskip("gym_pusht")
    what = ["--tiny", "--episodes", "2", "--out", str(tmp_path)]
    pusht.main(what)
    (path,) = tmp_path.glob("pusht-*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["policy"] for row in rows} == set(pusht.policies())
    assert all(0 < row[key] <= 0.95 for row in rows for key in ("covered", "pushed_covered"))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoints/*")}
    pusht.main(what)
    assert before
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoints/*")} == before


@pytest.mark.slow
def test_precisions_are_compared_on_the_same_updates(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A row a run, nothing run twice; the losses are near each other and not the same."""
    what = ["--tiny", "--seeds", "0", "--success"]
    what += ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "kept")]
    assert precision.main(what) == 0
    rows = precision.read(tmp_path / "kept" / "precision.csv")
    assert [(r["precision"], r["success"] != "") for r in rows] == [
        ("float32", False), ("bfloat16", False), ("bfloat16", True),
    ]  # fmt: skip
    for loss in precision.LOSSES:
        whole, rounded = (float(r[loss]) for r in rows[:2])
        assert 0 < abs(whole - rounded) < 0.1 * whole
    shutil.rmtree(tmp_path / "runs")
    assert precision.main(what) == 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_controls_share_their_offline_phase_and_are_kept_like_the_comparison(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two tiny runs from one checkpoint: online alone, a row each, nothing run twice."""
    places = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "kept")]
    what = ["--tiny", "--methods", "fmq", "fmq-eta-0.1", "--seeds", "1"]
    assert controls.main([*what, *places]) == 0
    shutil.rmtree(tmp_path / "runs")
    capfd.readouterr()
    assert controls.main([*what, *places]) == 0
    told = capfd.readouterr().out
    assert "2 of 2 runs are done" in told
    for way in ("mini/fmq:", "mini/fmq-eta-0.1:"):
        assert f"cube-single-task1  {way}" in told
    assert not (tmp_path / "runs").exists()
    for method, eta in (("fmq", 0.15), ("fmq-eta-0.1", 0.1)):
        folder = tmp_path / "kept" / f"{method}-cube-single-task1-seed0"
        record = json.loads((folder / "config.json").read_text())
        assert record["from"] == "offline-cube-single-task1-seed0"
        assert record["config"]["agent"]["eta"] == eta
        assert [p["part"] for p in record["config"]["phases"]] == ["online"]


def test_a_control_that_differs_offline_is_refused() -> None:
    """All that are run differ online alone; another bootstrap does not."""
    base = runs.get("mini/fmq/cube-single-task1").config.agent
    for method in controls.METHODS:
        control = runs.get(f"mini/{method}/cube-single-task1").config.agent
        controls.check(method, control, base)
        assert method == "fmq" or control != base
    with pytest.raises(InvalidConfig, match="differs from fmq offline too"):
        controls.check("x", dataclasses.replace(base, bootstrap=BestOfN(2)), base)


def test_the_clock_that_is_kept_is_thin_and_tells_the_same_time(tmp_path: Path) -> None:
    """One line every 500 steps and the last of each phase, of each seed; no losses, and the
    weights where a method has them."""
    weights = {0: {}, 1: {"weights/mean": 0.5}}
    lines = [
        {"seed": s, "phase": phase, "step": step, "updates": step, "seconds": 0.5 * step, "x/y": 1}
        | weights[s]
        for phase in ("offline", "online")
        for step in range(100, 1701, 100)
        for s in (0, 1)
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(x) + "\n" for x in [*lines, {"a": 1}]))
    kept = [json.loads(line) for line in comparison.clock(tmp_path / "m.jsonl").splitlines()]
    assert [(k["phase"], k["step"]) for k in kept if k["seed"] == 1] == [
        (phase, step) for phase in ("offline", "online") for step in (400, 900, 1400, 1700)
    ]
    for k in kept:
        assert set(k) == {*comparison.CLOCK, *weights[k["seed"]]}
        assert k["seconds"] == 0.5 * k["step"]


def test_seconds_are_steps_times_pace(tmp_path: Path) -> None:
    """5 offline updates of 2 s, then steps of .1 s: .5 at 200 steps, at 100, never; and unknown
    methods have no row."""
    phases = [{"part": "offline", "steps": 5}, {"part": "online", "env_steps": 300}]
    rates = {0: [0.1, 0.5, 0.9], 1: [0.5, 0.5, 0.5], 2: [0.0, 0.1, 0.2]}
    for method, curves in (("fmq", rates), ("mvp", {0: [0.0, 0.0, 0.1]}), ("bc", rates)):
        write_run(tmp_path / method, f"mini/{method}/T-task1", curves, settings={"phases": phases})
    made = {"offline_update": {"median": 2.0}, "online_step": {"median": 0.1}}
    found = fp.compare([tmp_path / m for m in ("fmq", "mvp", "bc")])
    assert pace.seconds(found, {"fmq": made, "mvp": made}) == [
        ("T-task1", "mini/fmq", 0.5, "2 of 3", 200, 30, 10.0),
        ("T-task1", "mini/mvp", 0.5, "0 of 1", "not within 300", "not within 40", 10.0),
    ]
