"""Command-line options made from the fields of a run and of its agent.

The flags are the keywords of ``flowpolicy.train``: one name in both places. Values that are parts
are written as text, ``--act 'best_of_n(n=8)'``, and read without executing anything.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from typing import Annotated, Any

import tyro

from flowpolicy import parts
from flowpolicy.data.actions import ActionScaling
from flowpolicy.errors import FlowPolicyError, InvalidConfig
from flowpolicy.train.phases import RunConfig

_PLAIN = (bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class PartText:
    """A value that is a part, or a tuple of them, written as text on the command line."""

    value: Any


registry = tyro.constructors.ConstructorRegistry()


def _read(arguments: list[str]) -> Any:
    try:
        return PartText(parts.parse(arguments[0]))
    except FlowPolicyError as error:
        # The type that tyro turns into a message instead of a traceback.
        raise ValueError(str(error)) from None


@registry.primitive_rule
def _part_rule(info: Any) -> Any:
    if info.type is not PartText:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PART",
        instance_from_str=_read,
        is_instance=lambda value: isinstance(value, PartText),
        str_from_instance=lambda value: [parts.describe(value.value)],
    )


def read_scaling(text: str) -> ActionScaling:
    """The value of an option ``--actions``; ``InvalidConfig`` for another kind of part."""
    part = parts.parse(text)
    if not isinstance(part, ActionScaling):
        raise InvalidConfig(
            f"actions must be as_recorded, action_min_max or action_mean_std, got {text!r}"
        )
    return part


def field_docs(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs = {}
    for field, below in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[field.target.id] = " ".join(str(below.value.value).split())
    return docs


def option_fields(part: Any, without: tuple[str, ...]) -> list[Any]:
    """Dataclass fields for the options of ``part``: its fields, their docs, its values."""
    docs, fields = field_docs(type(part)), []
    for field in dataclasses.fields(part):
        if field.name in without:
            continue
        value = getattr(part, field.name)
        value = value if isinstance(value, _PLAIN) else PartText(value)
        kind = type(value)
        option = Annotated[kind, tyro.conf.arg(help=docs.get(field.name, ""))]  # pyright: ignore[reportInvalidTypeForm]
        fields.append((field.name, option, dataclasses.field(default=value)))
    return fields


def read_overrides(
    config: RunConfig, extra: type, arguments: list[str], program: str, about: str
) -> tuple[Any, dict[str, Any]]:
    """Reads ``extra``'s own options and those of ``config`` and its agent.

    Returns an object with all of them, and the overrides whose value differs from ``config``'s.
    """
    of_agent = option_fields(config.agent, ())
    of_run = option_fields(config, ("agent", "seeds", *(name for name, *_ in of_agent)))
    kind = dataclasses.make_dataclass(
        "Options", [*of_run, *of_agent], bases=(extra,), frozen=True, kw_only=True
    )
    with registry:
        chosen = tyro.cli(kind, args=arguments, prog=program, description=about)
    given = {}
    for part, fields in ((config, of_run), (config.agent, of_agent)):
        for name, *_ in fields:
            value = getattr(chosen, name)
            value = value.value if isinstance(value, PartText) else value
            if value != getattr(part, name):
                given[name] = value
    return chosen, given
