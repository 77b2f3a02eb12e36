"""Traces of JAX's profiler, and what the operations in them are."""

import re
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.readers import Limits, parse_object, read_bytes

MATRIX, RANDOM, COPY, OTHER = (
    "matrix products",
    "random numbers",
    "copies, gathers and reshapes",
    "everything else, element by element",
)
_CONTAINERS = ("while", "call", "conditional", "cond")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = .*?\s(?P<op>[a-z][\w\-]*)\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_CALLS = re.compile(r"calls=%?([\w.\-]+)")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_COPIES = {
    "copy", "gather", "scatter", "dynamic-slice", "dynamic-update-slice", "slice", "concatenate",
    "transpose", "reshape", "bitcast", "broadcast", "pad", "iota", "get-tuple-element", "tuple",
}  # fmt: skip
_BYTES = 512 * 2**20


class Event(NamedTuple):
    """An operation that ran: its name in the program, seconds."""

    name: str
    seconds: float


def read(folder: Path) -> list[Event]:
    """The operations of the newest trace below ``folder``; containers such as loops left out."""
    files = sorted(folder.glob("plugins/profile/*/*.trace.json.gz"))
    if not files:
        raise MissingData(f"{folder} holds no trace: JAX's profiler wrote none")
    limits = Limits(json_bytes=_BYTES, json_values=20_000_000)
    packed = read_bytes(files[-1], limits.json_bytes)
    unpacker = zlib.decompressobj(wbits=31)
    text = unpacker.decompress(packed, limits.json_bytes)
    if unpacker.unconsumed_tail:
        raise CorruptFile(f"{files[-1]} unpacks to more than {limits.json_bytes} bytes")
    events = parse_object(text, str(files[-1]), limits).get("traceEvents", [])
    told = [
        Event(str(e["args"]["hlo_op"]), 1e-6 * float(e["dur"]))
        for e in events
        if e.get("ph") == "X" and "hlo_op" in e.get("args", {})
    ]
    return [event for event in told if event.name.split(".")[0] not in _CONTAINERS]


def kinds(text: str) -> dict[str, str]:
    """The kind of every operation of a compiled program, by name; ``text`` is XLA's."""
    inside: dict[str, set[str]] = {}
    calls: dict[str, str] = {}
    sources: dict[str, str] = {}
    own: dict[str, str] = {}
    where = ""
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            where = begun["name"]
            inside[where] = set()
        elif found := _INSTRUCTION.match(line):
            inside.setdefault(where, set()).add(found["op"])
            own[found["name"]] = found["op"]
            if called := _CALLS.search(line):
                calls[found["name"]] = called[1]
            if source := _SOURCE.search(line):
                sources[found["name"]] = source[1]
    return {
        name: _kind({op} | inside.get(calls.get(name, ""), set()), sources.get(name, ""))
        for name, op in own.items()
    }


def _kind(ops: set[str], source: str) -> str:
    if ops & {"dot", "convolution"} or "dot_general" in source.rsplit("/", 1)[-1]:
        return MATRIX
    if "threefry" in source or "random" in source:
        return RANDOM
    if ops - {"fusion", "parameter", "constant"} <= _COPIES:
        return COPY
    return OTHER


def sources(text: str) -> dict[str, str]:
    """Where in the source every operation comes from, by name."""
    found = {}
    for line in text.splitlines():
        instruction, source = _INSTRUCTION.match(line), _SOURCE.search(line)
        if instruction and source:
            found[instruction["name"]] = source[1]
    return found


class Spent(NamedTuple):
    """Seconds, and in how many calls."""

    name: str
    seconds: float
    calls: int


def total(events: list[Event], names: dict[str, str] | None = None) -> list[Spent]:
    """Events of one name together, the longest first; ``names`` puts several under one."""
    seconds: dict[str, float] = {}
    calls: Counter[str] = Counter()
    for event in events:
        name = event.name if names is None else names.get(event.name, OTHER)
        seconds[name] = seconds.get(name, 0.0) + event.seconds
        calls[name] += 1
    found = [Spent(name, taken, calls[name]) for name, taken in seconds.items()]
    return sorted(found, key=lambda one: -one.seconds)
