"""Damaged files by the hundred: refused by name, or read as they were written, and nothing else.

``runner`` attacks in a process of its own, so that a crash, a hang or a hunger for memory is a
failure of a test and not its end; ``targets`` says what each reader promises.
"""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from mutate import MUTATIONS, mutated, mutated_tree
from runner import SECONDS
from targets import FOREIGN, TARGETS

HERE = Path(__file__).parent


def _attack(first: int, count: int, *names: str) -> dict[str, Any]:
    """What the runner found, by target."""
    command = [sys.executable, str(HERE / "runner.py"), str(first), str(count), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {line["target"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, f"after {list(found)}: {done.stderr[-2000:]}"
    return found


@pytest.fixture(scope="module")
def attacked() -> dict[str, Any]:
    """300 cases of every target."""
    return _attack(0, 300, *TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_refused_or_without_effect(attacked: dict[str, Any], name: str):
    found = attacked[name]
    assert (found["wrong"], found["first"]) == (0, [])
    assert found["refused"] + found["read"] == found["cases"] == 300 // TARGETS[name].every
    # Two raise little: the check tells of damage, a comparison needs no more than it shows.
    if name not in ("data check", "comparison"):
        assert found["refused"] > 150 // TARGETS[name].every or name in FOREIGN


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damage_of_ten_thousand_kinds(name: str):
    found = _attack(0, 10_000, name)[name]
    assert (found["wrong"], found["first"]) == (0, [])
    assert found["cases"] == -(-10_000 // TARGETS[name].every)


def test_damage_is_a_function_of_the_seed_and_changes_something():
    content = bytes(range(256)) * 4
    seen = {mutated(Random(i), content) for i in range(200)}
    assert content not in seen
    assert len(seen) > 190
    assert mutated(Random(3), content) == mutated(Random(3), content)
    for mutation in MUTATIONS:
        results = set()
        for i in range(20):
            data = bytearray(content)
            mutation(Random(i), data)
            results.add(bytes(data))
        assert len(results - {content}) >= 5, mutation.__name__
        data = bytearray()
        mutation(Random(0), data)  # there may be nothing left to damage


def test_trees_are_damaged_without_touching_the_original():
    tree = {"a": [1, {"b": None}], "c": "d"}
    before = json.dumps(tree)
    seen = {repr(mutated_tree(Random(i), tree)) for i in range(100)}
    assert json.dumps(tree) == before
    assert len(seen) > 50


BAD_READERS = {
    "a crash": ("ctypes.string_at(0)", "Segmentation fault"),
    "a hang in Python": ("[None for _ in iter(int, 1)]", "Timeout"),
    "a hang in C": ("sum(itertools.repeat(0))", "Timeout"),
    "another exception": ("{}['x']", "KeyError"),
    "hunger for memory": ("numpy.empty(2**31)", "Unable to allocate"),
    "memory that is touched": ("kept.append(b'x' * 2**26)", "bytes were touched"),
    "another value": ("7", "not what was written"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_READERS)
def test_what_the_runner_is_there_for_is_seen(name: str):
    """A reader that misbehaves only on damaged files, in each of the ways the runner watches."""
    code, says = BAD_READERS[name]
    program = f"""
import ctypes, itertools, json, sys
import numpy
sys.path.insert(0, {str(HERE)!r})
import runner
from targets import TARGETS, Target
kept = []
def read(folder):
    return 1 if (folder / "a").read_bytes() == b"sound" else {code}
sound = lambda value, original, folder: value == original or value is None
TARGETS["bad"] = Target("a", lambda f: (f / "a").write_bytes(b"sound"), read, sound)
runner.SECONDS = {0.5 if says == "Timeout" else 60.0}
runner.main(0, 3, ["bad"])
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert SECONDS == 2.0
    told = done.stdout + done.stderr
    assert says in told
    assert done.returncode != 0 or json.loads(done.stdout)["wrong"] > 0
