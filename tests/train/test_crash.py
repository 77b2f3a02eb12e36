"""A run that dies at any moment goes on to the end it would have had.

Every durable operation of a run is a moment to die before, after, and amid where it writes; so is
every one of the run that goes on from there. "The end" is the SHA-256 of ``whole_state``.
"""

import signal
import subprocess
import sys
from pathlib import Path

import crash
import pytest
from crash import AtOnce, Late, frozen, points
from moments import distinct

SAMPLE = 16
RESUMING = 24
"""Operations of resuming, and some more, before the run makes new ones."""


def test_the_harness_sees_everything(play):
    """What the operations make is what lies on the disk: no write goes another way."""
    whole = play("online")
    assert list(points(whole.operations, {}))[-1][1] == whole.tree
    kinds = {name for name, *_ in whole.operations}
    assert kinds == set(crash.Calls.NAMES)
    removed = [path for name, path, *_ in whole.operations if name == "unlink"]
    assert any(path.endswith(".bin") for path in removed), "no segment of the journal was dropped"


def test_a_sample_of_moments(play):
    """At least 12 moments of an online run whose ring wraps and whose journal drops segments."""
    whole = play("online")
    moments = distinct(whole.operations, {})
    chosen = moments[:: -(-len(moments) // SAMPLE)]
    assert len(chosen) >= 12
    assert [w for w in (whole.differs(*moment) for moment in chosen) if w] == []


def test_killed_while_it_resumes(play):
    """The first operations of resume itself: what it cuts, removes and renames."""
    whole = play("online")
    tree = whole.moment("replace", "checkpoints/.step-000000030", "before")
    _, operations = whole.end_of(tree)
    chosen = distinct(operations[:12], tree)[1:]
    assert len(chosen) >= 4
    assert [w for w in (whole.differs(*moment) for moment in chosen) if w] == []


@pytest.mark.slow
@pytest.mark.parametrize("executor", [AtOnce, Late])
@pytest.mark.parametrize("plan", list(crash.PLANS))
def test_every_moment(play, plan, executor):
    """All of them, and for each every update that was still to be made is made."""
    whole = play(plan, executor)
    moments = list(points(whole.operations, {}))
    trees = distinct(whole.operations, {})
    wrong, idle = [], 0
    for where, tree in trees:
        wrong += [w] if (w := whole.differs(where, tree)) else []
        idle += whole.updates == 0
    print(
        f"{plan}, {executor.__name__}: {len(whole.operations)} operations, {len(moments)} "
        f"moments, {len(trees)} distinct, {idle} after the last update, {len(wrong)} wrong"
    )
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("plan", list(crash.PLANS))
def test_killed_twice(play, plan):
    """Every moment of resuming itself, after a kill at every moment of the run."""
    whole = play(plan)
    first = distinct(whole.operations, {})
    seen, wrong = {frozen(tree) for _, tree in first}, []
    once = len(seen)
    for _, tree in first:
        _, operations = whole.end_of(tree)
        for where, again in distinct(operations[:RESUMING], tree):
            if frozen(again) not in seen:
                seen.add(frozen(again))
                wrong += [w] if (w := whole.differs(where, again)) else []
    print(f"{plan}: {len(seen) - once} further trees after a second kill, {len(wrong)} wrong")
    assert wrong == []


def killed(out, number, when):
    """A run that SIGKILL ended at a point, in a process of its own."""
    worker = Path(crash.__file__)
    words = [sys.executable, str(worker), "online", str(out), str(number), when]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_kill_leaves_what_the_harness_says(play, tmp_path):
    """14 processes that SIGKILL ends: the bytes on the disk are those of the trace, and the run
    that goes on from them ends where it should.
    """
    whole = play("online")
    every = {where: tree for where, tree in points(whole.operations, {}) if where[1] != "after"}
    chosen = list(every)[5 :: len(every) // 13]
    assert len(chosen) >= 12
    for number, when in chosen:
        out = tmp_path / f"{number}-{when}"
        killed(out, number, when)
        left = crash.read_tree(out)
        assert left == every[number, when], (number, when)
        assert whole.differs((number, when), left) is None
