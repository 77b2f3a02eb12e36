"""What a trace says, on a program and events made up, and the command on a small run."""

import gzip
import json

import jax
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy import cli, runs
from flowpolicy.agents.cloning import fmq_terms
from flowpolicy.bench import trace
from flowpolicy.bench.profile import RING, _first, profile
from flowpolicy.bench.trace import COPY, MATRIX, OTHER, RANDOM, Event
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.nets import MLPCritic, MLPFlow, Plain
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.train.phases import Evaluation

PROGRAM = """\
HloModule jit_block

%fused_matmul (p: f32[8,4], q: f32[4,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %q = f32[4,4]{1,0} parameter(1)
  %dot.7 = f32[8,4]{1,0} dot(%p, %q), lhs_contracting_dims={1}
  ROOT %tanh.1 = f32[8,4]{1,0} tanh(%dot.7)
}

%fused_tanh (p.1: f32[8,4]) -> f32[8,4] {
  %p.1 = f32[8,4]{1,0} parameter(0)
  ROOT %tanh.2 = f32[8,4]{1,0} tanh(%p.1)
}

%moved (p.2: f32[8,4]) -> f32[4,8] {
  %p.2 = f32[8,4]{1,0} parameter(0)
  ROOT %transpose.1 = f32[4,8]{1,0} transpose(%p.2), dimensions={1,0}
}

ENTRY %main (a: f32[8,4], b: f32[4,4]) -> f32[4,8] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = f32[4,4]{1,0} parameter(1)
  %ynn_fusion.3 = f32[8,4] fusion(%a, %b), calls=%fused_matmul, metadata={op_name="f/dot_general"}
  %tanh_fusion = f32[8,4]{1,0} fusion(%ynn_fusion.3), kind=kLoop, calls=%fused_tanh
  %random_fusion = u32[8]{0} fusion(%b), calls=%fused_tanh, metadata={op_name="jit(f)/threefry2x32"}
  ROOT %moved_fusion.1 = f32[4,8]{1,0} fusion(%tanh_fusion), kind=kLoop, calls=%moved
}
"""


def test_operations_are_told_apart_by_what_is_in_them():
    """A product that is fused with what follows it is a product; the rest by its instructions."""
    kinds = trace.kinds(PROGRAM)
    assert kinds["ynn_fusion.3"] == kinds["dot.7"] == MATRIX
    assert kinds["tanh_fusion"] == OTHER
    assert kinds["random_fusion"] == RANDOM
    assert kinds["moved_fusion.1"] == COPY
    assert trace.sources(PROGRAM)["ynn_fusion.3"] == "f/dot_general"


def test_time_adds_up_by_name_and_by_kind():
    events = [
        Event("dot.7", 3.0),
        Event("tanh_fusion", 1.0),
        Event("dot.7", 2.0),
        Event("odd", 0.5),
    ]
    assert trace.total(events)[0] == ("dot.7", 5.0, 2)
    kinds = {one.name: one.seconds for one in trace.total(events, trace.kinds(PROGRAM))}
    assert kinds == {MATRIX: 5.0, OTHER: 1.5}


def test_a_trace_is_read_without_its_loops(tmp_path):
    """Of the newest file; events without an operation, and loops around others, are left out."""
    for day, op in (("1", "old"), ("2", "dot.7")):
        folder = tmp_path / "plugins" / "profile" / day
        folder.mkdir(parents=True)
        events = [
            {"ph": "X", "name": op, "dur": 2.5, "args": {"hlo_op": op}},
            {"ph": "X", "name": "while.1", "dur": 9.0, "args": {"hlo_op": "while.1"}},
            {"ph": "X", "name": "python", "dur": 9.0, "args": {}},
            {"ph": "M", "name": "thread_name"},
        ]
        (folder / "m.trace.json.gz").write_bytes(
            gzip.compress(json.dumps({"traceEvents": events}).encode())
        )
    (event,) = trace.read(tmp_path)
    assert (event.name, event.seconds) == ("dot.7", pytest.approx(2.5e-6))
    with pytest.raises(MissingData, match="no trace"):
        trace.read(tmp_path / "plugins" / "profile")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run that was online for a while."""
    return fp.train(
        "toy/fmq",
        task=runs.PointMassTask(rows=300),
        phases=(fp.Offline(4), fp.Online(4, start_after=0)),
        batch=8,
        evaluation=Evaluation(every=0, final_episodes=0),
        chunk=2,
        terms=fmq_terms(0.0, 0.1),
        actor=MLPFlow(width=8, depth=1, embed=Plain()),
        critic=MLPCritic(width=8, depth=1),
        act=OneStep(),
        bootstrap=BestOfN(2),
        out=tmp_path_factory.mktemp("profile") / "run",
    )


def test_the_command_writes_a_page_and_a_trace(run, capsys):
    """Shares of the kinds add up; the trace holds the program's operations."""
    assert cli.main(["profile", str(run.path), "--updates", "3"]) == 0
    page = (run.path / "profile" / "profile.md").read_text()
    assert page in capsys.readouterr().out
    assert "# Updates of toy/fmq" in page
    assert "updates a second" in page
    kinds = page.split("ms an update |\n|---|---:|---:|\n")[1].split("\n\n")[0].splitlines()
    shares = [float(line.split("|")[2].strip(" %")) for line in kinds]
    assert sum(shares) == pytest.approx(100.0, abs=0.3)
    assert any(line.startswith(f"| {MATRIX} |") for line in kinds)
    assert trace.read(run.path / "profile")


def test_a_profile_that_cannot_be_made_is_refused(run, tmp_path):
    with pytest.raises(InvalidConfig, match="updates must be at least 1, got 0"):
        profile(run, tmp_path / "p", updates=0)
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidConfig, match="exists already"):
        profile(run, tmp_path / "there")


def test_rows_that_were_given_by_hand_are_asked_for_and_used(tmp_path):
    """Left on the host, too; and a page of several seeds says what an update is."""
    rows = runs.PointMassTask(rows=300).dataset()
    agent = fp.FMQ(
        chunk=2,
        actor=MLPFlow(width=8, depth=1, embed=Plain()),
        critic=MLPCritic(width=8, depth=1),
        act=OneStep(),
        bootstrap=BestOfN(2),
    )
    made = fp.train(
        agent, rows, phases=[fp.Offline(4)], batch=8, seeds=(1, 2), out=tmp_path / "run"
    )
    with pytest.raises(InvalidConfig, match="rows were given by hand"):
        profile(made.path, tmp_path / "one")
    page = profile(made.path, tmp_path / "two", updates=2, data=rows, host_rows=True)
    assert "an update is one of each of the 2 seeds" in page


def test_a_ring_is_filled_without_reading_all_rows():
    """Rows may be mapped files of more than memory holds."""

    class Mapped(np.ndarray):
        def __array__(self, *arguments, **options):
            assert len(self) <= RING, "all rows were read"
            return np.ndarray.__array__(self, *arguments, **options)

    rows = runs.PointMassTask(rows=3_000).dataset().rows
    mapped = jax.tree.map(lambda x: np.asarray(x).view(Mapped), rows)
    assert _first(mapped, 2).reward.shape == (2, RING)
