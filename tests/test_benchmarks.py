"""The benchmarks' formula for floating-point operations, and how they time and judge."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from benchmarks import comparison, flops, measure

from flowpolicy.agents import FMQ
from flowpolicy.flows import OnDiagonal, Term, diagonal
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN
from flowpolicy.types import Spec, Transition

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
    assert kept == {"config.json", "evaluations.csv", "costs.csv", "machine.json"}
