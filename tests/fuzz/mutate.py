"""Seeded damage: what a disk, a network or an attacker may do to bytes, and to a JSON tree."""

from collections.abc import Callable
from random import Random
from typing import Any

INTERESTING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0" * 8, b"\xff" * 4, b"\xff" * 8, b"\0\0\0\x80",
    b"\xff\xff\xff\x7f", b"\0" * 7 + b"\x80", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06",
    b"PK\x06\x06", b"PK\x06\x07", b"\x93NUMPY", b"\x80\x04", b"{", b"}", b"[", b"]", b'"', b"\\",
    b",", b":", b"-", b"0", b"9" * 30, b"1e999", b"NaN", b"null", b"\\ud800", b"\n", b"\r", b"'",
    b"(", b")", b"|O", b"<f8", b"..", b"/", b"F64", b"[[[[", b"{'", b'{"', b"nan", b"=", b"#",
)  # fmt: skip


def _place(rng: Random, size: int) -> int:
    """Anywhere, or, as often, near the beginning or the end, where headers and directories are."""
    if size == 0:
        return 0
    near = min(size, rng.choice((16, 128, 512)))
    return rng.choice((rng.randrange(size), rng.randrange(near), size - 1 - rng.randrange(near)))


def _span(rng: Random, size: int) -> slice:
    start = _place(rng, size)
    return slice(start, min(size, start + rng.choice((1, 2, 4, 8, 64, 1 + size // 2))))


def flip(rng: Random, data: bytearray) -> None:
    """One bit."""
    if data:
        data[_place(rng, len(data))] ^= 1 << rng.randrange(8)


def zero(rng: Random, data: bytearray) -> None:
    """A stretch becomes zeros."""
    span = _span(rng, len(data))
    data[span] = bytes(len(data[span]))


def truncate(rng: Random, data: bytearray) -> None:
    """The end is lost."""
    del data[_place(rng, len(data)) :]


def delete(rng: Random, data: bytearray) -> None:
    """A stretch is lost."""
    del data[_span(rng, len(data))]


def duplicate(rng: Random, data: bytearray) -> None:
    """A stretch is there twice."""
    span = _span(rng, len(data))
    data[span.start : span.start] = data[span]


def insert(rng: Random, data: bytearray) -> None:
    """Bytes that mean something to one of the formats, or none."""
    place = _place(rng, len(data))
    data[place:place] = rng.choice((rng.choice(INTERESTING), rng.randbytes(rng.randrange(1, 9))))


def overwrite(rng: Random, data: bytearray) -> None:
    """The same, in the place of what was there."""
    place, value = _place(rng, len(data)), rng.choice(INTERESTING)
    data[place : place + len(value)] = value


def swap(rng: Random, data: bytearray) -> None:
    """Two stretches change places."""
    one, two = sorted((_span(rng, len(data)), _span(rng, len(data))), key=lambda s: s.start)
    if one.stop <= two.start:
        between = data[one.stop : two.start]
        data[one.start : two.stop] = data[two] + between + data[one]


MUTATIONS: tuple[Callable[[Random, bytearray], None], ...] = (
    flip, zero, truncate, delete, duplicate, insert, overwrite, swap,
)  # fmt: skip


def mutated(rng: Random, content: bytes) -> bytes:
    """``content`` with one to three kinds of damage; never ``content`` itself."""
    while True:
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(MUTATIONS)(rng, data)
        if data != content:
            return bytes(data)


def _deep(value: Any) -> Any:
    for _ in range(70):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-308, "", "x",
    "../x", "\0", "x" * 1000, [], {}, [[]], [0] * 100, [None], {"part": None}, {"part": "fmq"},
    {"part": "best_of_n", "n": -1}, {"part": "mlp_flow", "depth": 0}, {"part": "minimum"},
    {"part": "distilled"}, {"part": "run"}, {"part": "spec", "obs": [3], "action": 2}, _deep(1),
    {"": ""}, {"part": "x", "y": 1}, ["a", 1, None, {}], float("inf"), float("nan"),
)  # fmt: skip


def mutated_tree(rng: Random, tree: Any) -> Any:
    """A JSON tree with one node replaced by something else, lost, renamed, or swapped in."""
    places = list(_nodes(tree, ()))
    place = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        return _with(tree, place, rng.choice(VALUES))
    if kind == 1:
        return _with(tree, place, _at(tree, rng.choice(places)))
    if kind == 2:
        return _without(tree, place)
    return _with(tree, place, {rng.choice(("part", "n", "eta", "x")): _at(tree, place)})


def _nodes(tree: Any, place: tuple[Any, ...]) -> Any:
    yield place
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from _nodes(tree[key], (*place, key))


def _at(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def _with(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[place[0]] = _with(tree[place[0]], place[1:], value)
    return copy


def _without(tree: Any, place: tuple[Any, ...]) -> Any:
    if not place:
        return None
    parent = _at(tree, place[:-1])
    copy = dict(parent) if isinstance(parent, dict) else list(parent)
    del copy[place[-1]]
    return _with(tree, place[:-1], copy)
