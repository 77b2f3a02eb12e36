"""Steps that hold bodies: loops over an axis, loops with a condition, and choices."""

from collections.abc import Callable, Sequence
from typing import Any

from flowpolicy.deploy.values import Function, Kind, Params, a_list, number
from flowpolicy.errors import CorruptFile

TURNS = 10_000
"""Turns of a loop, at most."""
Kinds = Sequence[Kind]
Bodies = Callable[[Any, Kinds, Kinds, int], Function]
"""Compiles a body that takes and gives values of these kinds, so many times at most."""


def _one_or_all(results: Sequence[Any]) -> Any:
    return results if len(results) > 1 else results[0]


def scan(bodies: Bodies, params: Params, ins: Kinds, outs: Kinds) -> Function:
    """A loop over the first axis of some inputs that carries some values along."""
    length, consts, carried = (number(params, n) for n in ("length", "consts", "carried"))
    if not 0 <= length <= TURNS or consts < 0 or carried < 0:
        raise CorruptFile(f"a loop has at most {TURNS} turns")
    first = consts + carried
    along = [*ins[first:], *outs[carried:]]
    if any(kind.shape[:1] != (length,) for kind in along):
        raise CorruptFile("what a loop runs along has another length")
    rows = [Kind(kind.dtype, kind.shape[1:]) for kind in along]
    split = len(ins) - first
    takes, gives = [*ins[:first], *rows[:split]], [*outs[:carried], *rows[split:]]
    body = bodies(params.get("body"), takes, gives, length)
    if list(ins[consts:first]) != list(outs[:carried]):
        raise CorruptFile("a loop gives other kinds than it carries")
    order = range(length)[::-1] if params.get("reverse") is True else range(length)

    def run(*values: Any) -> Any:
        fixed, carry, xs = values[:consts], values[consts:first], values[first:]
        ys = [kind.blank() for kind in outs[carried:]]
        for i in order:
            given = body(*fixed, *carry, *[x[i] for x in xs])
            carry = given[:carried]
            for y, row in zip(ys, given[carried:], strict=True):
                y[i] = row
        return _one_or_all((*carry, *ys))

    return run


def go_on(bodies: Bodies, params: Params, ins: Kinds, outs: Kinds) -> Function:
    """A loop that goes on while its condition holds, at most ``TURNS`` times."""
    ours, theirs = number(params, "cond_consts"), number(params, "body_consts")
    if ours < 0 or theirs < 0 or list(ins[ours + theirs :]) != list(outs):
        raise CorruptFile("a loop gives other kinds than it carries")
    condition = bodies(params.get("cond"), [*ins[:ours], *outs], [Kind("bool", ())], TURNS)
    body = bodies(params.get("body"), ins[ours:], outs, TURNS)

    def run(*values: Any) -> Any:
        fixed, held, carry = values[:ours], values[ours : ours + theirs], values[ours + theirs :]
        for _ in range(TURNS):
            if not condition(*fixed, *carry)[0]:
                return _one_or_all(carry)
            carry = body(*held, *carry)
        raise CorruptFile(f"a loop went on for more than {TURNS} turns")

    return run


def choose(bodies: Bodies, params: Params, ins: Kinds, outs: Kinds) -> Function:
    """One of several bodies, chosen by a number that is moved into their range."""
    branches = [bodies(data, ins[1:], outs, 1) for data in a_list(params.get("branches"))]
    last = len(branches) - 1
    if last < 0:
        raise CorruptFile("there is nothing to choose from")

    def run(index: Any, *values: Any) -> Any:
        return _one_or_all(branches[min(max(int(index), 0), last)](*values))

    return run


LOOPS = {"cond": choose, "scan": scan, "while": go_on}
"""Their rules by name."""
