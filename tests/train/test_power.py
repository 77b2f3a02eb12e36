"""Power fails at any moment, and of what was not flushed some is lost: no checkpoint that counted
is, and the run ends as it would have ended.
"""

import random

import pytest
from crash import AtOnce, Late, frozen, write_tree
from power import Disk
from small_runs import TINY

from flowpolicy.train import checkpoint, journal
from flowpolicy.train.folder import RunFolder

MIXTURES = 4
ROW = journal.record_type(TINY["task"].dataset().rows)


def states(operations, seed):
    """(number, newest checkpoint that counted, what may be left), for each operation."""
    disk, draws, renamed, counted = Disk(), random.Random(seed), None, None
    for number, operation in enumerate(operations):
        disk.apply(operation)
        name, path, *rest = operation
        if name == "replace" and rest[0].startswith("checkpoints/step-"):
            renamed = rest[0]
        if (name, path) == ("fsync", "checkpoints"):
            counted = renamed
        yield number, counted, disk.left(lambda options: options[0])
        for _ in range(MIXTURES):
            yield number, counted, disk.left(draws.choice)


def distinct(operations, seed):
    """The same, each tree once."""
    found = {}
    for number, counted, tree in states(operations, seed):
        found.setdefault((counted, frozen(tree)), (number, counted, tree))
    return list(found.values())


def lost(whole, number, counted, tree):
    """A sentence where a checkpoint that counted is not there; raises where one is not whole, or
    rows or lines that it speaks of are not.
    """
    write_tree(tree, whole.root)
    run, names = RunFolder(whole.root), []
    for path in checkpoint.checkpoints(run.checkpoints):
        names.append(path.name)
        meta = checkpoint.read(path).meta
        run.check_logs(meta["logs"])
        if meta["journals"]:
            journal.read(run.journal(0), ROW, meta["journals"][0])
    if counted is not None and (not names or names[-1] < counted.partition("/")[2]):
        return f"after {number}: {counted} counted, {names} are there"
    return None


def test_the_disk_forgets_what_was_not_flushed():
    """A file's bytes without its flush, its name without the folder's, both with them."""
    steps = [("open", "a", False), ("write", "a", b"xy"), ("fsync", "a"), ("fsync", "")]
    lefts = []
    disk = Disk()
    for step in steps:
        disk.apply(step)
        lefts.append(disk.left(lambda options: options[0]))
    assert lefts == [{}, {}, {}, {"a": b"xy"}]
    for step in [("open", "b", False), ("write", "b", b"z"), ("fsync", ""), ("replace", "b", "a")]:
        disk.apply(step)
    assert disk.left(lambda options: options[0]) == {"a": b"xy", "b": b""}
    assert disk.left(lambda options: options[-1]) == {"a": b"z"}


def test_a_sample_of_power_failures(play):
    """Whether what counted is there, at every operation; a few go on to the end."""
    whole = play("online")
    found = distinct(whole.operations, 0)
    assert [text for one in found if (text := lost(whole, *one))] == []
    chosen = found[:: -(-len(found) // 6)] + found[-8:]  # the last ones about the end itself
    assert [w for number, _, tree in chosen if (w := whole.differs(number, tree))] == []


@pytest.mark.slow
@pytest.mark.parametrize("executor", [AtOnce, Late])
@pytest.mark.parametrize("plan", ["online", "offline"])
def test_every_power_failure(play, plan, executor):
    """All go on to the end."""
    whole = play(plan, executor)
    found = distinct(whole.operations, 1)
    wrong = [w for number, _, tree in found if (w := whole.differs(number, tree))]
    print(f"{plan}, {executor.__name__}: {len(found)} trees that a power failure may leave")
    assert wrong == []
