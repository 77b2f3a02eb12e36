"""Named parts: the frozen dataclasses and functions that a configuration is made of.

A part has a name, so that a configuration can be written as JSON (``encode``, ``decode``) or as
text on a command line (``parse``, ``describe``), and read back without executing anything:
``best_of_n(n=32)`` is a name and literal keywords, never Python code. Somebody else's parts
(a net, an agent) become readable by decorating them with ``register``.
"""

import ast
import contextlib
import dataclasses
import importlib
import math
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flowpolicy.errors import FlowPolicyError, InvalidConfig, UnknownName, unknown_name

_MAX_DEPTH = 64

T = TypeVar("T", bound=Callable[..., Any])

_PARTS: dict[str, Callable[..., Any]] = {}
_NAMES: dict[Callable[..., Any], str] = {}

_PROGRAMS = ("__main__", "__mp_main__", "<run_path>")
"""What Python calls a file that is run: by itself, in a spawned process, by ``runpy``."""


def register(name: str) -> Callable[[T], T]:
    """Registers a frozen dataclass, or a function that is used as it stands, under ``name``.

    Raises ``InvalidConfig`` where the name is taken by something else, a copy of it in another file
    included, or a class is not a frozen dataclass. A file of yours may be read again.
    """

    def decorate(thing: T) -> T:
        if isinstance(thing, type):
            parameters = getattr(thing, "__dataclass_params__", None)
            if parameters is None or not parameters.frozen:
                raise InvalidConfig(f"part {name!r}: {thing.__name__} must be a frozen dataclass")
        known = _PARTS.get(name)
        if known is not None and not _again(known, thing):
            raise InvalidConfig(
                f"part {name!r} is already registered as {known.__qualname__} of "
                f"{known.__module__}, and {thing.__qualname__} of {thing.__module__} needs a name "
                "of its own"
            )
        _PARTS[name] = thing
        _NAMES[thing] = name
        return cast(T, thing)

    return decorate


def _again(known: Callable[..., Any], thing: Callable[..., Any]) -> bool:
    """Whether ``thing`` is ``known`` from another reading of its file.

    A reloaded module keeps its name. A file that is run has another one than where it is imported,
    so that of two names one may be a program's; not for the library's parts, which nobody runs.
    """
    if known.__qualname__ != thing.__qualname__:
        return False
    modules = {known.__module__, thing.__module__}
    ours = any(str(module).startswith("flowpolicy.") for module in modules)
    return len(modules) == 1 or (not ours and not modules.isdisjoint(_PROGRAMS))


def lookup(name: str) -> Callable[..., Any]:
    """The part registered under ``name``; ``UnknownName`` otherwise."""
    if name not in _PARTS:
        _import_the_library()
    if name not in _PARTS:
        known = unknown_name("part", name, _PARTS)
        raise UnknownName(f"{known} (if it is yours, import the file that registers it first)")
    return _PARTS[name]


def _import_the_library() -> None:
    """Imports what registers the library's own parts; by name, because this is a lower floor."""
    importlib.import_module("flowpolicy.runs")


def names() -> list[str]:
    """All registered names, sorted."""
    _import_the_library()
    return sorted(_PARTS)


def first_line(name: str) -> str:
    """The first line of the docstring of the part called ``name``."""
    return (lookup(name).__doc__ or "").strip().split("\n")[0]


def name_of(part: Any) -> str:
    """The name under which ``part`` (an instance, class or function) is registered."""
    for candidate in (part, type(part)):
        try:
            if candidate in _NAMES:
                return _NAMES[candidate]
        except TypeError:
            continue
    raise InvalidConfig(
        f"{part!r} is not a registered part; decorate its class with @flowpolicy.register('name')"
    )


def is_part(value: Any) -> bool:
    """Whether ``value`` is a part: a registered function, or an instance of a registered class."""
    if isinstance(value, types.FunctionType):
        return value in _NAMES
    return type(value) in _NAMES


def encode(value: Any) -> Any:
    """Strict-JSON form of a part, or of a tuple, mapping or number."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidConfig(f"{value!r} cannot be written as strict JSON")
        return value
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    name = name_of(value)
    if isinstance(value, types.FunctionType):
        return {"part": name}
    fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    return {"part": name, **fields}


def decode(tree: Any) -> Any:
    """Inverse of ``encode``; lists come back as tuples.

    Raises ``InvalidConfig`` or ``UnknownName`` for unknown names and fields, values of another type
    than their field's, and trees deeper than 64, whoever wrote them.
    """
    return _decoded(tree, _MAX_DEPTH)


def _decoded(tree: Any, depth: int) -> Any:
    if depth < 0:
        raise InvalidConfig(f"a configuration may be nested {_MAX_DEPTH} deep, and this is deeper")
    if isinstance(tree, list):
        return tuple(_decoded(v, depth - 1) for v in tree)
    if not isinstance(tree, dict):
        return tree
    values = {k: _decoded(v, depth - 1) for k, v in tree.items() if k != "part"}
    if "part" not in tree:
        return values
    if not isinstance(tree["part"], str):
        raise InvalidConfig(f"part name must be text, not {_short(tree['part'])}")
    return _build(tree["part"], values)


def completed(tree: Any) -> Any:
    """An encoded configuration with the defaults of the fields that it has not: it may be of a
    version before they were added. Parts that nobody registered stay as they are.
    """
    if isinstance(tree, list):
        return [completed(v) for v in tree]
    if not isinstance(tree, dict):
        return tree
    known = _defaults(tree["part"]) if isinstance(tree.get("part"), str) else {}
    return {k: completed(v) for k, v in tree.items()} | {
        k: v for k, v in known.items() if k not in tree
    }


def _defaults(name: str) -> dict[str, Any]:
    """The encoded defaults of a part's fields."""
    try:
        thing = lookup(name)
    except FlowPolicyError:
        return {}
    if not isinstance(thing, type):
        return {}
    found = {}
    for f in dataclasses.fields(thing):
        if f.init and f.default is not dataclasses.MISSING:
            found[f.name] = encode(f.default)
        elif f.init and f.default_factory is not dataclasses.MISSING:
            found[f.name] = encode(f.default_factory())
    return found


def replace(part: Any, **changes: Any) -> Any:
    """``part`` with some fields replaced, checked as those that are read from text."""
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
    return _build(name_of(part), {**fields, **changes})


def _build(name: str, fields: dict[str, Any]) -> Any:
    thing = lookup(name)
    if not isinstance(thing, type):
        if fields:
            raise InvalidConfig(f"{name} takes no arguments, got {', '.join(fields)}")
        return thing
    known = {f.name for f in dataclasses.fields(thing) if f.init}
    for field in fields:
        if field not in known:
            raise unknown_name(f"field of {name}", field, known)
    hints = typing.get_type_hints(thing)
    fields = {f: _checked(f"{name}.{f}", value, hints[f]) for f, value in fields.items()}
    try:
        return thing(**fields)
    except FlowPolicyError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        # Fields of type Any reach a part's own checks as they are.
        raise InvalidConfig(f"{name}: {error}") from error


def _checked(field: str, value: Any, hint: Any) -> Any:
    """The value as its field holds it: a whole number as a float where a float belongs."""
    if hint is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidConfig(f"{field} must be finite, got {value!r}")
    if typing.get_origin(hint) is tuple:
        return _checked_tuple(field, value, hint)
    if isinstance(hint, types.UnionType):
        for alternative in typing.get_args(hint):
            with contextlib.suppress(InvalidConfig):
                return _checked(field, value, alternative)
        raise InvalidConfig(f"{field} must be {hint}, got {_short(value)}")
    trouble = _trouble(value, hint)
    if trouble:
        raise InvalidConfig(f"{field} must be {trouble}, got {_short(value)}")
    return value


def _checked_tuple(field: str, value: Any, hint: Any) -> tuple[Any, ...]:
    kinds = typing.get_args(hint)
    if not isinstance(value, tuple | list):
        raise InvalidConfig(f"{field} must be {hint}, got {_short(value)}")
    if kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise InvalidConfig(f"{field} must have {len(kinds)} entries, got {_short(value)}")
    pairs = enumerate(zip(value, kinds, strict=True))
    return tuple(_checked(f"{field}[{i}]", v, kind) for i, (v, kind) in pairs)


def _trouble(value: Any, hint: Any) -> str:
    """What the value must be and is not; empty where it is."""
    if hint is Any:
        return ""
    if hint in (int, float, bool, str, types.NoneType):
        return "" if type(value) is hint else hint.__name__
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        return "" if value in allowed else f"one of {', '.join(map(repr, allowed))}"
    function = typing.get_origin(hint) is Callable
    if not function and (not isinstance(hint, type) or hint.__module__ == "builtins"):
        return ""
    if not is_part(value):
        return "a part"
    if function:
        return "" if callable(value) else "a part that is a function"
    return "" if isinstance(value, hint) else f"a part that is a {hint.__name__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def parse(text: str) -> Any:
    """Reads ``name`` or ``name(key=value, ...)``; values are literals or parts themselves."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InvalidConfig(
            f"cannot read {text[:80]!r}; write a name, or name(key=value, ...), "
            "as in best_of_n(n=32)"
        ) from None
    return _from_node(node, text)


def _from_node(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return _build(node.id, {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.args:
            raise InvalidConfig(f"{text!r}: every value needs its name, as in best_of_n(n=32)")
        fields = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise InvalidConfig(f"{text!r}: ** is not understood here")
            if keyword.arg in fields:
                raise InvalidConfig(f"{text!r}: {keyword.arg} is given twice")
            fields[keyword.arg] = _from_node(keyword.value, text)
        return _build(node.func.id, fields)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_from_node(item, text) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise InvalidConfig(
            f"{text[:80]!r}: only names, numbers, text and tuples are read"
        ) from None


def describe(value: Any) -> str:
    """Text that ``parse`` reads back: ``best_of_n(n=32)``."""
    if isinstance(value, tuple):
        inner = ", ".join(describe(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if not is_part(value):
        return repr(value)
    name = name_of(value)
    if isinstance(value, types.FunctionType):
        return name
    fields = [f.name for f in dataclasses.fields(value) if f.init]
    return f"{name}({', '.join(f'{f}={describe(getattr(value, f))}' for f in fields)})"
