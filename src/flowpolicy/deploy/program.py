"""Programs as data: a list of steps over numbered values, read from JSON and run with numpy.

A body has ``inputs`` values that are given, ``values`` (the kind of each, the inputs first),
``tensors`` (values that lie in a file of tensors, by name), ``numbers`` (values written out),
``steps``, each ``[name, values read, values written, parameters]``, and ``outputs``. Names are
looked up in a closed table; nothing is executed that is not in it.

Reading a program tries every step once on zeros and compares what comes with what is announced.
Steps that depend on no input are done then, once and for all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flowpolicy.deploy.loops import LOOPS
from flowpolicy.deploy.steps import RULES
from flowpolicy.deploy.values import (
    Function,
    Kind,
    Params,
    a_list,
    an_object,
    ints,
    number,
    read_kind,
    sized,
)
from flowpolicy.errors import CorruptFile

STEPS, DEPTH, BYTES, WORK = 100_000, 8, 2**30, 2**34
"""Limits: steps in all, bodies within bodies, bytes of a body's values, multiplications a call."""

STEP = 1000
"""Multiplications that take about as long as a step by itself, however little it computes."""
_FIELDS = ("inputs", "values", "tensors", "numbers", "steps", "outputs")
Tensors = Mapping[str, np.ndarray]
_WRONG = (
    ArithmeticError, AttributeError, IndexError, LookupError, MemoryError, TypeError, ValueError,
)  # fmt: skip


class Body:
    """Steps compiled to a list of functions; called with arrays, it returns a tuple of arrays."""

    def __init__(self, data: Any, tensors: Tensors, depth: int = 0) -> None:
        """Checks ``data`` and tries it; raises ``CorruptFile`` naming the step."""
        if depth > DEPTH:
            raise CorruptFile(f"bodies lie within bodies more than {DEPTH} deep")
        data = an_object(data, *_FIELDS)
        self.kinds = [read_kind(*sized(kind, 2)) for kind in a_list(data["values"])]
        self.inputs = number(data, "inputs")
        self.outputs = ints(data, "outputs")
        if not 0 <= self.inputs <= len(self.kinds):
            raise CorruptFile(f"{self.inputs} of {len(self.kinds)} values cannot be given")
        if sum(kind.size * kind.numpy.itemsize for kind in self.kinds) > BYTES:
            raise CorruptFile(f"the values take more than {BYTES} bytes")
        self.count, self.work = 0, 0
        self._tensors, self._depth = tensors, depth
        self._base: list[Any] = [None] * len(self.kinds)
        self._steps: list[Callable[[list[Any]], None]] = []
        known = self._constants(data)
        self._compile(a_list(data["steps"]), known)

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        """The outputs for arrays of the inputs' kinds, which the caller checks."""
        values = self._base.copy()
        values[: self.inputs] = given
        for step in self._steps:
            step(values)
        return tuple([values[i] for i in self.outputs])

    def takes(self) -> list[Kind]:
        """The kinds of the inputs."""
        return self.kinds[: self.inputs]

    def gives(self) -> list[Kind]:
        """The kinds of the outputs."""
        return [self.kinds[i] for i in self.outputs]

    def _constants(self, data: Params) -> set[int]:
        """Puts tensors and numbers where they belong; returns which values are constant."""
        known: set[int] = set()
        for place, name in (sized(item, 2) for item in a_list(data["tensors"])):
            array = self._tensors.get(name) if isinstance(name, str) else None
            if array is None or (array.dtype, array.shape) != self._announced(place):
                raise CorruptFile(f"there is no tensor {str(name)[:80]!r} of the announced shape")
            self._put(place, array, known)
        for place, value in (sized(item, 2) for item in a_list(data["numbers"])):
            dtype, shape = self._announced(place)
            if shape or type(value) not in (int, float, bool, str):
                raise CorruptFile(f"value {place} must be a single number")
            self._put(place, _number(value, dtype), known)
        return known

    def _announced(self, place: Any) -> tuple[np.dtype, tuple[int, ...]]:
        kind = self.kinds[self._new(place)]
        return kind.numpy, kind.shape

    def _new(self, place: Any) -> int:
        """``place``, which must be one of the values and neither given nor written before."""
        if type(place) is not int or not self.inputs <= place < len(self.kinds):
            raise CorruptFile(f"there is no value {str(place)[:40]} to write")
        if self._base[place] is not None:
            raise CorruptFile(f"value {place} is written twice")
        return place

    def _put(self, place: int, value: Any, known: set[int]) -> None:
        self._base[place] = value
        known.add(place)

    def _compile(self, steps: list[Any], known: set[int]) -> None:
        """Makes the steps' functions, on the way trying them with zeros for the inputs."""
        self._base[: self.inputs] = [kind.blank() for kind in self.takes()]
        for position, item in enumerate(steps):
            name = "?"
            try:
                name, ins, outs, params = sized(item, 4)
                step = self._step(name, ins, outs, params)
                step(self._base)
                for place in outs:
                    _same(self._base[place], self.kinds[place])
            except (CorruptFile, RecursionError, *_WRONG) as error:
                raise CorruptFile(f"step {position} ({str(name)[:40]}): {error}") from None
            if known.issuperset(ins):
                known.update(outs)
            else:
                self._steps.append(step)
        for place in self.outputs:
            if not 0 <= place < len(self.kinds) or self._base[place] is None:
                raise CorruptFile(f"there is no value {place} to return")
        self._base = [v if i in known else None for i, v in enumerate(self._base)]

    def _step(self, name: Any, ins: Any, outs: Any, params: Any) -> Callable[[list[Any]], None]:
        ins, outs = ints({"reads": ins}, "reads"), ints({"writes": outs}, "writes")
        for place in ins:
            if not 0 <= place < len(self.kinds) or self._base[place] is None:
                raise CorruptFile(f"value {place} is read before it is written")
        for place in outs:
            self._new(place)
        if len(set(outs)) != len(outs) or not outs or not isinstance(params, dict):
            raise CorruptFile("it must write distinct values, and have parameters")
        self.count += 1
        kinds = [self.kinds[i] for i in ins], [self.kinds[i] for i in outs]
        self._toil(_work(name, *kinds))
        return _bound(self._function(name, params, *kinds), ins, outs)

    def _toil(self, work: int) -> None:
        self.work += work
        if self.count > STEPS or self.work > WORK:
            raise CorruptFile(f"more than {STEPS} steps, or {WORK} multiplications a call")

    def _function(
        self, name: Any, params: Params, ins: Sequence[Kind], outs: Sequence[Kind]
    ) -> Function:
        rule = RULES.get(name) if isinstance(name, str) else None
        if rule is not None:
            return rule(params, ins, outs)
        loop = LOOPS.get(name) if isinstance(name, str) else None
        if loop is None:
            raise CorruptFile(f"{str(name)[:40]!r} is none of the steps that are understood")
        return loop(self._body, params, ins, outs)

    def _body(self, data: Any, takes: Sequence[Kind], gives: Sequence[Kind], turns: int) -> "Body":
        body = Body(data, self._tensors, self._depth + 1)
        self.count += body.count
        self._toil(turns * body.work)
        if body.takes() != list(takes) or body.gives() != list(gives):
            raise CorruptFile("a body takes or gives other kinds than the step that holds it")
        return body


def _work(name: Any, ins: Sequence[Kind], outs: Sequence[Kind]) -> int:
    """Multiplications of a step, or entries read and written; not less than there are."""
    moved = STEP + sum(kind.size for kind in (*ins, *outs))
    if name != "dot" or len(ins) != 2:
        return moved
    # (a k) (k b) -> a b: the product of all three sizes is the square of a k b.
    return moved + math.isqrt(ins[0].size * ins[1].size * outs[0].size)


def _bound(function: Function, ins: Sequence[int], outs: Sequence[int]) -> Callable[..., None]:
    """A step as a function of the list of values; one for each usual number of values."""
    if len(outs) > 1:

        def several(values: list[Any]) -> None:
            results = function(*[values[i] for i in ins])
            for place, result in zip(outs, results, strict=True):
                values[place] = result

        return several
    (out,) = outs
    if len(ins) == 1:
        (only,) = ins

        def unary(values: list[Any]) -> None:
            values[out] = function(values[only])

        return unary
    if len(ins) == 2:
        left, right = ins

        def binary(values: list[Any]) -> None:
            values[out] = function(values[left], values[right])

        return binary

    def any_number(values: list[Any]) -> None:
        values[out] = function(*[values[i] for i in ins])

    return any_number


def _number(value: Any, dtype: np.dtype) -> Any:
    """A number as JSON has it; the three that it does not have are text."""
    if isinstance(value, str):
        if value not in ("inf", "-inf", "nan") or dtype.kind != "f":
            raise CorruptFile(f"{value[:20]!r} is not a number")
        value = float(value)
    try:
        return np.asarray(value).astype(dtype)[()] if dtype.kind == "f" else dtype.type(value)
    except (OverflowError, ValueError):
        raise CorruptFile(f"{str(value)[:20]} is not a number of type {dtype}") from None


def _same(value: Any, kind: Kind) -> None:
    found = np.asarray(value)
    if found.shape != kind.shape or found.dtype != kind.numpy:
        raise CorruptFile(
            f"gives {found.dtype}{list(found.shape)}, announced as {kind.dtype}{list(kind.shape)}"
        )


def _names(value: Any) -> list[str]:
    if not all(isinstance(name, str) for name in a_list(value)) or len(set(value)) != len(value):
        raise CorruptFile(f"inputs and outputs need distinct names, got {str(value)[:60]}")
    return value


FORMAT = 1


class Program:
    """A body with named inputs and outputs: what ``program.json`` holds."""

    def __init__(self, data: Any, tensors: Tensors) -> None:
        """Raises ``CorruptFile`` for whatever is not a program of this format."""
        data = an_object(data, "format", "inputs", "outputs", "body")
        if data["format"] != FORMAT:
            raise CorruptFile(f"format {str(data['format'])[:20]}, this version reads {FORMAT}")
        self._inputs, self._outputs = _names(data["inputs"]), _names(data["outputs"])
        with np.errstate(all="ignore"):
            self._body = Body(data["body"], tensors)
        if (len(self._inputs), len(self._outputs)) != (self._body.inputs, len(self._body.outputs)):
            raise CorruptFile("not every input and output has a name")

    def inputs(self) -> dict[str, Kind]:
        """The kinds of the inputs by name, in their order."""
        return dict(zip(self._inputs, self._body.takes(), strict=True))

    def outputs(self) -> dict[str, Kind]:
        """The kinds of the outputs by name, in their order."""
        return dict(zip(self._outputs, self._body.gives(), strict=True))

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        """The outputs; the caller answers for the inputs' kinds."""
        with np.errstate(all="ignore"):
            return self._body(*given)
