"""From a jaxpr to a program: steps as data, dead ones left out (see ``deploy.program``)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from flowpolicy.deploy.program import FORMAT
from flowpolicy.deploy.values import DTYPES, KEY
from flowpolicy.errors import InvalidConfig
from flowpolicy.packaging.lowering import ALIASES, CALLS, LOWERINGS, is_key, unsupported

Tensors = dict[str, np.ndarray]


def program(
    call: Callable[..., Any],
    weights: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
) -> tuple[dict[str, Any], Tensors]:
    """``call(weights, *inputs)`` as the content of ``program.json``, and its further constants.

    ``call`` takes the list of ``weights`` and then arrays, and returns one array for each of
    ``outputs``; ``inputs`` says of each its shape and type. Raises ``InvalidConfig`` naming a
    primitive for which there is no step.
    """
    closed = jax.make_jaxpr(call)(list(weights.values()), *inputs.values())
    constants: Tensors = {}
    body = _Body(constants)
    variables = closed.jaxpr.invars
    given = [body.given(v) for v in variables[len(weights) :]]
    for name, variable in zip(weights, variables, strict=False):
        body.places[variable] = body.tensor(name, variable.aval)
    body.add(closed.jaxpr, closed.consts)
    data = {
        "format": FORMAT,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "body": body.data(given, [body.read(v) for v in closed.jaxpr.outvars]),
    }
    return data, constants


class _Body:
    """The steps of one body while they are written down; values are numbered as they come."""

    def __init__(self, constants: Tensors) -> None:
        self.places: dict[Any, int] = {}
        self._constants = constants
        self._kinds: list[list[Any]] = []
        self._tensors: list[list[Any]] = []
        self._numbers: dict[tuple[str, Any], int] = {}
        self._steps: list[tuple[str, list[int], list[int], dict[str, Any]]] = []

    def given(self, variable: Any) -> int:
        """A new value for a variable of the jaxpr."""
        self.places[variable] = self._value(variable.aval)
        return self.places[variable]

    def tensor(self, name: str, aval: Any) -> int:
        """A new value that lies in the file of tensors."""
        place = self._value(aval)
        self._tensors.append([place, name])
        return place

    def read(self, atom: Any) -> int:
        """The value of a variable or of a constant."""
        if isinstance(atom, Literal):
            return self._constant(np.asarray(atom.val), atom.aval)
        return self.places[atom]

    def add(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> None:
        """The steps of ``jaxpr``, whose inputs have their places already."""
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            self.places[variable] = self._constant(np.asarray(value), variable.aval)
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            if name in CALLS:
                self._inline(equation, equation.params[CALLS[name]])
            elif name in ALIASES or _changes_nothing(equation):
                for before, after in zip(equation.invars, equation.outvars, strict=True):
                    self.places[after] = self.read(before)
            else:
                self._step(equation)

    def data(self, given: Sequence[int], outputs: Sequence[int]) -> dict[str, Any]:
        """The body as JSON: what no output needs is left out, the rest numbered anew."""
        needed, steps = set(outputs), []
        for step in reversed(self._steps):
            if needed.intersection(step[2]):
                needed.update(step[1])
                needed.update(step[2])
                steps.append(step)
        order = [*given, *sorted(needed.difference(given))]
        new = {old: i for i, old in enumerate(order)}
        numbers = [[new[i], value] for (_, value), i in self._numbers.items() if i in needed]
        return {
            "inputs": len(given),
            "values": [self._kinds[i] for i in order],
            "tensors": [[new[i], name] for i, name in self._tensors if i in needed],
            "numbers": numbers,
            "steps": [
                [name, [new[i] for i in ins], [new[i] for i in outs], params]
                for name, ins, outs, params in reversed(steps)
            ],
            "outputs": [new[i] for i in outputs],
        }

    def _value(self, aval: Any) -> int:
        dtype = KEY if is_key(aval.dtype) else str(aval.dtype)
        if dtype not in DTYPES:
            raise InvalidConfig(f"the numpy back end has no numbers of type {dtype}")
        self._kinds.append([dtype, [int(n) for n in aval.shape]])
        return len(self._kinds) - 1

    def _constant(self, value: np.ndarray, aval: Any) -> int:
        if value.ndim:
            name = f"constant.{len(self._constants)}"
            self._constants[name] = np.asarray(value, order="C")
            return self.tensor(name, aval)
        number = value.item()
        if isinstance(number, float) and not math.isfinite(number):
            number = str(number)
        # With its type: 1, 1.0 and True are equal, and so are 0.0 and -0.0.
        key = (f"{aval.dtype} {number!r}", number)
        if key not in self._numbers:
            self._numbers[key] = self._value(aval)
        return self._numbers[key]

    def _inline(self, equation: Any, inner: Any) -> None:
        jaxpr, consts = (
            (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())
        )
        for variable, atom in zip(jaxpr.invars, equation.invars, strict=True):
            self.places[variable] = self.read(atom)
        self.add(jaxpr, consts)
        for variable, atom in zip(equation.outvars, jaxpr.outvars, strict=True):
            self.places[variable] = self.read(atom)

    def _step(self, equation: Any) -> None:
        name = equation.primitive.name
        if name in LOWERINGS:
            step, params = LOWERINGS[name](equation)
        elif name in ("scan", "while", "cond"):
            step, params = name, self._bodies(equation)
        else:
            raise unsupported(equation)
        ins = [self.read(atom) for atom in equation.invars]
        self._steps.append((step, ins, [self.given(v) for v in equation.outvars], params))

    def _bodies(self, equation: Any) -> dict[str, Any]:
        params = equation.params
        if "branches" in params:
            return {"branches": [self._within(branch) for branch in params["branches"]]}
        if "cond_jaxpr" in params:
            return {
                "cond": self._within(params["cond_jaxpr"]),
                "body": self._within(params["body_jaxpr"]),
                "cond_consts": params["cond_nconsts"],
                "body_consts": params["body_nconsts"],
            }
        return {
            "body": self._within(params["jaxpr"]),
            "length": params["length"],
            "consts": params["num_consts"],
            "carried": params["num_carry"],
            "reverse": params["reverse"],
        }

    def _within(self, closed: ClosedJaxpr) -> dict[str, Any]:
        body = _Body(self._constants)
        given = [body.given(v) for v in closed.jaxpr.invars]
        body.add(closed.jaxpr, closed.consts)
        return body.data(given, [body.read(v) for v in closed.jaxpr.outvars])


def _changes_nothing(equation: Any) -> bool:
    """Whether it only states a type, as conversions to the same one do."""
    if equation.primitive.name != "convert_element_type":
        return False
    return equation.invars[0].aval.dtype == equation.outvars[0].aval.dtype
