"""Programs that somebody made up are refused before they do harm: nothing is allocated first."""

import copy
import tracemalloc

import numpy as np
import pytest

from flowpolicy.deploy.program import Program
from flowpolicy.errors import CorruptFile

F, I = "float32", "int32"  # noqa: E741


def body(values, steps, outputs=(-1,), inputs=1, numbers=(), tensors=()):
    """A body; outputs count from the end where they are negative."""
    return {
        "inputs": inputs,
        "values": values,
        "tensors": list(tensors),
        "numbers": list(numbers),
        "steps": steps,
        "outputs": [i % len(values) for i in outputs],
    }


def whole(inner, outputs=("y",)):
    return {"format": 1, "inputs": ["x"], "outputs": list(outputs), "body": inner}


def one(name, ins, out, params=None, more=(), **fields):
    """A program of a single step from a vector of three to ``out``."""
    values = [[F, [3]], *more, out]
    return whole(body(values, [[name, ins, [len(values) - 1], params or {}]], **fields))


GOOD = one("neg", [0], [F, [3]])
TURN = body([[F, [3]], [F, [3]]], [["neg", [0], [1], {}]])
FOREVER = {
    "cond": body([[F, [3]], ["bool", []]], [], outputs=(1,), numbers=[[1, True]]),
    "body": TURN, "cond_consts": 0, "body_consts": 0,
}  # fmt: skip
SCAN = {"body": TURN, "length": 5, "consts": 0, "carried": 1, "reverse": False}


def test_a_sound_program_runs():
    """The form that the others are broken from."""
    np.testing.assert_array_equal(Program(GOOD, {})(np.ones(3, np.float32))[0], -np.ones(3))
    looped = Program(one("scan", [0], [F, [3]], SCAN), {})
    np.testing.assert_array_equal(looped(np.ones(3, np.float32))[0], -np.ones(3))


def nested(depth):
    """A scan in a scan in a scan."""
    inner = TURN
    for _ in range(depth):
        inner = body([[F, [3]], [F, [3]]], [["scan", [0], [1], {**SCAN, "body": inner}]])
    return whole(inner)


def toil(length):
    """A loop in which a 1 000 by 1 000 product is made ``length`` times."""
    square = [F, [1000, 1000]]
    dot = {"left": [1], "right": [0], "left_batch": [], "right_batch": []}
    inner = body([square, square], [["dot", [0, 0], [1], dot]])
    return whole(body([square, square], [["scan", [0], [1], {**SCAN, "body": inner,
                                                            "length": length}]]))  # fmt: skip


def idle(outer, inner):
    """Loops in which nothing is computed, of values without entries."""
    empty = [F, [0]]
    body_ = body([empty, empty], [["neg", [0], [1], {}]])
    for length in (inner, outer):
        scan = {**SCAN, "body": body_, "length": length}
        body_ = body([empty, empty], [["scan", [0], [1], scan]])
    return whole(body_)


BIG = [F, [2**20, 2**20]]
HOSTILE = {
    "unknown step": (one("system", [0], [F, [3]]), "'system' is none of the steps"),
    "a name that is no text": (one(["neg"], [0], [F, [3]]), "none of the steps"),
    "dunder": (one("__class__", [0], [F, [3]]), "none of the steps"),
    "4 TiB": (one("broadcast", [0], BIG, {"dims": [0]}), "at most"),
    "4 TiB from a product": (
        one("dot", [0, 0], [F, [3]], {k: [] for k in ("left", "right", "left_batch",
                                                      "right_batch")}), "announced as"),
    "a large result said to be small": (
        whole(body([[F, [2**20]], [F, [3]]], [["dot", [0, 0], [1], {
            k: [] for k in ("left", "right", "left_batch", "right_batch")}]])), "announced as"),
    "padding": (one("pad", [0, 1], [F, [3]], {"low": [2**50], "high": [0], "inner": [0]},
                    more=[[F, []]], numbers=[[1, 0]]), "announced as"),
    "much joined": (one("concatenate", [0] * 999, [F, [3]], {"axis": 0}), "announced as"),
    "many stacked": (one("stack", [0] * 999, [F, [3]], {"axis": 0}), "announced as"),
    "broadcast by an operation": (
        whole(body([[F, [4096, 1]], [F, [1, 4096]], [F, [4096, 1]]], [
            ["transpose", [0], [1], {"order": [1, 0]}], ["add", [0, 1], [2], {}]])),
        "announced as"),
    "many large values": (whole(body([[F, [2**26]]] * 9, [])), "bytes"),
    "negative shape": (one("neg", [0], [F, [-3]]), "shape"),
    "a shape of text": (one("neg", [0], [F, "3"]), "list of whole numbers"),
    "a flag as a size": (one("neg", [0], [F, [True]]), "list of whole numbers"),
    "33 axes": (one("reshape", [0], [F, [1] * 33]), "shape"),
    "objects": (one("neg", [0], ["object", [3]]), "type 'object'"),
    "wrong shape": (one("neg", [0], [F, [4]]), "announced as"),
    "wrong type": (one("neg", [0], [I, [3]]), "announced as"),
    "read before written": (one("neg", [1], [F, [3]]), "read before"),
    "read outside": (one("neg", [7], [F, [3]]), "read before"),
    "read backwards": (one("neg", [-1], [F, [3]]), "read before"),
    "an input written": (whole(body([[F, [3]]], [["neg", [0], [0], {}]])), "no value 0 to write"),
    "written twice": (
        whole(body([[F, [3]], [F, [3]]], [["neg", [0], [1], {}]] * 2)), "written twice"),
    "too many inputs": (one("neg", [0, 0], [F, [3]]), "takes 1 values, got 2"),
    "parameters of another kind": (one("transpose", [0], [F, [3]], {"order": "0"}), "whole"),
    "no parameters": (one("transpose", [0], [F, [3]]), "order"),
    "an axis outside": (one("rev", [0], [F, [3]], {"axes": [5]}), "rev"),
    "endless loop": (one("while", [0], [F, [3]], FOREVER), "went on"),
    "a long loop": (one("scan", [0], [F, [3]], {**SCAN, "length": 2**40}), "turns"),
    "a deep nest": (nested(20), "deep"),
    "toil": (toil(9_000), "multiplications"),
    "toil without a number": (idle(10_000, 2_000), "multiplications"),
    "more of the best than there are": (
        whole(body([[F, [3]], [F, [2**25]], [I, [2**25]]],
                   [["top", [0], [1, 2], {"axis": 0, "k": 2**25}]])), "are asked for of 3"),
    "fewer than none": (
        whole(body([[F, [3]], [F, [0]], [I, [0]]],
                   [["top", [0], [1, 2], {"axis": 0, "k": -1}]])), "are asked for of 3"),
    "nothing to choose from": (one("cond", [0], [F, [3]], {"branches": []}), "nothing"),
    "a body that gives other things": (
        one("scan", [0], [F, [3]], {**SCAN, "body": body(
            [[F, [3]], [I, [3]]], [["convert", [0], [1], {}]])}), "other kinds"),
    "a tensor that is not there": (
        whole(body([[F, [3]], [F, [3]]], [], tensors=[[1, "w"]])), "no tensor 'w'"),
    "a number that is text": (
        whole(body([[F, [3]], [F, []]], [], numbers=[[1, "exec"]])), "not a number"),
    "a number too large": (whole(body([[F, [3]], [I, []]], [], numbers=[[1, 2**40]])), "type"),
    "an array of numbers": (whole(body([[F, [3]], [F, [3]]], [], numbers=[[1, [1]]])), "single"),
    "another format": ({**GOOD, "format": 2}, "format"),
    "a further field": ({**GOOD, "run": "rm"}, "exactly"),
    "no body": ({**GOOD, "body": 3}, "exactly"),
    "names missing": ({**GOOD, "outputs": []}, "name"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_made_up_is_refused(name):
    """Within 300 MB, by the documented error, which says what is wrong."""
    data, what = HOSTILE[name]
    data = copy.deepcopy(data)
    tracemalloc.start()
    with pytest.raises(CorruptFile, match=what):
        Program(data, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 2**20
