"""Named parts: written as JSON or text and read back as they were, and nothing else is read."""

import dataclasses
import importlib.util
import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpolicy import flows, nets, parts, refine, types, values
from flowpolicy.agents import FMQ
from flowpolicy.errors import FlowPolicyError, InvalidConfig, UnknownName
from flowpolicy.parts import decode, describe, encode, name_of, parse, register

# Parts that cannot be built without being told something.
EXAMPLES = {"spec": types.Spec(obs={"joints": (7,), "image": (8, 8, 3)}, action=5)}
COMPOSED = [
    (flows.Term(flows.diagonal), flows.Term(flows.mean_flow, flows.Curriculum(0.01, 0.1), 0.5)),
    flows.DiagonalShare(flows.Midpoint(flows.LogitNormal(-1.0, 2.0)), 0.25),
    refine.TrustRegion(0.0, refine.BestOfN(8, 0.5)),
    nets.MLPFlow(width=16, depth=2, embed=nets.Plain()),
    types.Spec(obs=(29,), action=40, offline_updates=1000),
    (),
    (flows.linear,),
    None,
    "text with 'quotes', (brackets) and = signs",
    (1, -2.5, 1e-30, True, None, "a"),
]


def _has_default(field):
    missing = dataclasses.MISSING
    return not field.init or field.default is not missing or field.default_factory is not missing


def _everything():
    """One instance, or the function itself, of every part that is registered by now.

    Parts that need to be told something and have no example here are their own tests' business.
    """
    for name, thing in parts._PARTS.items():
        if not isinstance(thing, type):
            yield thing
        elif name in EXAMPLES:
            yield EXAMPLES[name]
        elif all(_has_default(field) for field in dataclasses.fields(thing)):
            yield thing()


def _there_and_back(value):
    """By strict JSON, and by text."""
    text = json.dumps(encode(value), allow_nan=False)
    return decode(json.loads(text)), parse(describe(value))


def test_every_part_comes_back():
    """As it was, with its defaults, under its name."""
    found = list(_everything())
    assert len(found) >= 29
    for part in found:
        assert _there_and_back(part) == (part, part)
        assert parts.lookup(name_of(part)) in (part, type(part))
        assert parts.is_part(part)


def test_a_name_alone_is_the_part_with_its_defaults():
    """``best_of_n`` and ``best_of_n()``; a function is itself."""
    for part in _everything():
        if name_of(part) not in EXAMPLES:
            assert parse(name_of(part)) == part
    assert parse("best_of_n()") == refine.BestOfN()
    assert parse("mean") is values.mean


@pytest.mark.parametrize("value", COMPOSED, ids=range(len(COMPOSED)))
def test_compositions_come_back(value):
    """Parts within parts, tuples, and plain values."""
    assert _there_and_back(value) == (value, value)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=1e-300, allow_infinity=False)
COUNT = st.integers(1, 10**6)
ROUNDS, WIDE = st.integers(0, 256), st.integers(1, 1024)
DRAWS = st.builds(refine.BestOfN, COUNT, POSITIVE) | st.builds(refine.OneStep, POSITIVE)
LAWS = st.recursive(
    st.builds(flows.LogitNormal, FINITE, POSITIVE)
    | st.builds(flows.Dyadic, COUNT)
    | st.just(flows.Triangle()),
    lambda laws: (
        st.builds(flows.DiagonalShare, laws, st.floats(0, 1)) | st.builds(flows.Midpoint, laws)
    ),
    max_leaves=4,
)


@given(
    st.builds(refine.QGBS, ROUNDS, WIDE, WIDE, POSITIVE, POSITIVE, POSITIVE)
    | st.builds(refine.TrustRegion, POSITIVE, DRAWS)
    | st.builds(flows.Term, st.just(flows.semigroup), LAWS, POSITIVE, st.floats(0, 1))
    | st.builds(values.pessimistic, POSITIVE)
    | st.builds(nets.Adam, POSITIVE, POSITIVE)
)
def test_values_come_back_to_the_last_bit(part):
    """Whatever the fields hold, as deep as laws are nested."""
    assert _there_and_back(part) == (part, part)
    assert _there_and_back((part, part)) == ((part, part), (part, part))


@given(st.text(max_size=40))
def test_text_that_is_no_part_is_refused(text):
    """Any text gives a value or one of our errors; never another exception."""
    try:
        parse(text)
    except FlowPolicyError:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('echo')",
        "__import__(name='os')",
        "(lambda: 1)()",
        "[x for x in (1, 2)]",
        "best_of_n(n=__import__('os').getpid())",
        "best_of_n(n=1 + 1)",
        "best_of_n(n=open('x'))",
        "best_of_n.__class__",
        "best_of_n(n=32).__class__",
        "best_of_n(n=f'{1}')",
        "best_of_n(**{'n': 3})",
        "best_of_n(32)",
        "best_of_n(n=)",
        "best_of_n(n=32",
        "x := 3",
        "import os",
        "",
        "best_of_n; best_of_n",
        "linear(t=0)",
        "eval(code='1')",
    ],
)
def test_code_is_never_run(text):
    """Names and literal keywords only; whatever else Python could read is an error of ours."""
    with pytest.raises((InvalidConfig, UnknownName)):
        parse(text)


def test_code_has_no_effect(tmp_path):
    """What a hostile text would do is not done, at any depth of it."""
    trace = tmp_path / "trace"
    attack = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for text in (attack, f"best_of_n(n={attack})", f"trust_region(start=best_of_n(n={attack}))"):
        with pytest.raises(FlowPolicyError):
            parse(text)
    for tree in ({"part": attack}, {"part": "best_of_n", "n": {"part": attack}}):
        with pytest.raises(FlowPolicyError):
            decode(tree)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("best_of_m", "best_of_n"), ("qgbs_keepbest", "qgbs_keep_best"), ("mean_flwo", "mean_flow")],
)
def test_an_unknown_name_is_answered_with_the_nearest(text, nearest):
    """In text and in JSON alike."""
    for read, value in ((parse, text), (decode, {"part": text})):
        with pytest.raises(UnknownName, match=rf"unknown part '{text}'.*{nearest}.*if it is yours"):
            read(value)


def test_an_unknown_field_is_answered_with_the_nearest():
    """Of that part."""
    for read, value in ((parse, "qgbs(beams=3)"), (decode, {"part": "qgbs", "beams": 3})):
        with pytest.raises(UnknownName, match=r"unknown field of qgbs 'beams'.*'beam'"):
            read(value)


@pytest.fixture
def registry(monkeypatch):
    """The parts, put back after the test."""
    for table in ("_PARTS", "_NAMES"):
        monkeypatch.setattr(parts, table, dict(getattr(parts, table)))


@pytest.fixture
def plain(registry):
    """A part of ours, whose fields nobody checks but ``parts``: the import hook leaves it alone."""

    @register("plain_part")
    @dataclasses.dataclass(frozen=True)
    class PlainPart:
        whole: int = 1
        real: float = 0.5
        flag: bool = False
        word: str = "a"

    return PlainPart


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("whole", ["1.0", "'1'", "True", "None", "(1,)", "best_of_n", "mean"]),
        ("real", ["'0.5'", "True", "None", "(0.5,)", "1j", "one_step()"]),
        ("flag", ["0", "1", "'True'", "None"]),
        ("word", ["1", "None", "b'a'", "('a',)"]),
    ],
)
def test_a_field_of_a_wrong_type_is_refused(plain, field, wrong):
    """With its name, its type and the value."""
    for text in wrong:
        with pytest.raises(InvalidConfig, match=rf"plain_part\.{field} must be .*, got "):
            parse(f"plain_part({field}={text})")


def test_a_whole_number_is_a_float(plain):
    """``real=1`` needs no point."""
    assert parse("plain_part(real=1)") == plain(real=1.0)


@pytest.mark.parametrize(
    "text",
    [
        "best_of_n(n=3.0)",
        "best_of_n(n='3')",
        "best_of_n(n=True)",
        "best_of_n(n=None)",
        "pessimistic(rho='high')",
        "pessimistic(rho=True)",
        "pessimistic(rho=(1,))",
        "spec(obs=(3,))",
        "spec(obs=(3,), action=2.5)",
        "best_of_n(n=0)",
        "curriculum(start=0.5, end=0.1)",
    ],
)
def test_values_of_a_wrong_type_or_range_are_refused(text):
    """With the part's name in the message."""
    with pytest.raises(InvalidConfig, match=text.split("(")[0]):
        parse(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_strict_json_cannot_hold_is_not_written(value):
    """Neither alone nor within a part."""
    for holder in (value, (1.0, value), {"x": value}, flows.LogitNormal(mean=value)):
        with pytest.raises(InvalidConfig, match="strict JSON"):
            encode(holder)


@pytest.mark.parametrize("tree", [{"part": 3}, {"part": None}, {"part": ["best_of_n"]}])
def test_a_part_s_name_is_text(tree):
    """Nothing else is looked up."""
    with pytest.raises(InvalidConfig, match="part name must be text"):
        decode(tree)


def test_what_is_not_registered_cannot_be_written():
    """The message says how to register it."""

    @dataclasses.dataclass(frozen=True)
    class Mine:
        size: int = 3

    for write in (encode, name_of):
        with pytest.raises(InvalidConfig, match=r"@flowpolicy\.register"):
            write(Mine())


def test_somebody_else_s_part_becomes_readable(registry):
    """By decorating it."""

    @register("test_own")
    @dataclasses.dataclass(frozen=True)
    class Own:
        size: int = 3

    assert parse("test_own(size=4)") == Own(4)
    assert _there_and_back(refine.TrustRegion(0.1)) == (refine.TrustRegion(0.1),) * 2
    assert _there_and_back((Own(5),)) == ((Own(5),),) * 2


def test_a_taken_name_is_refused(registry):
    """And the part keeps it."""
    with pytest.raises(InvalidConfig, match="'best_of_n' is already registered as BestOfN"):

        @register("best_of_n")
        def other():
            pass

    assert parts.lookup("best_of_n") is refine.BestOfN


def _read_file(folder, module, text):
    """A user's file, imported under that name or, as ``__main__``, run as a program."""
    path = folder / f"{module.strip('_')}.py"
    path.write_text(text, encoding="utf-8")
    if module == "__main__":
        return runpy.run_path(str(path), run_name=module)
    spec = importlib.util.spec_from_file_location(module, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return vars(made)


OWN_FILE = """
import flowpolicy as fp

@fp.register("own_mean")
def own_mean(x):
    return x
"""


@pytest.mark.parametrize("known", [values.mean, FMQ])
def test_a_copy_does_not_take_the_library_s_name(registry, tmp_path, known):
    """A copy of the file it is in, imported or run; the message says which two there are."""
    file = Path(sys.modules[known.__module__].__file__)
    name, text = name_of(known), file.read_text(encoding="utf-8")
    for module in ("copied", "__main__"):
        message = rf"already registered as (\w+) of {known.__module__}, and \1 of {module} needs"
        with pytest.raises(InvalidConfig, match=message):
            _read_file(tmp_path, module, text)
        assert parts.lookup(name) is known


def test_a_file_may_be_read_again(registry, tmp_path):
    """Reloaded, or as a program that is imported as well, in either order; the last one counts."""
    for module in ("once", "once", "__main__", "__main__", "once"):
        made = _read_file(tmp_path, module, OWN_FILE)
        assert parts.lookup("own_mean") is made["own_mean"]
    with pytest.raises(InvalidConfig, match="own_mean of once, and own_mean of twice needs"):
        _read_file(tmp_path, "twice", OWN_FILE)


def test_a_part_must_not_change(registry):
    """A class that is no frozen dataclass is refused."""
    with pytest.raises(InvalidConfig, match="Open must be a frozen dataclass"):

        @register("test_open")
        @dataclasses.dataclass
        class Open:
            size: int = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("term(residual=3)", r"term\.residual must be a part, got 3"),
        ("term(times='triangle')", r"term\.times must be a part, got 'triangle'"),
        (
            "ogbench(timing='later')",
            r"ogbench\.timing must be one of 'pre', 'post', 'mixed', got 'later'",
        ),
    ],
)
def test_a_function_a_law_or_a_choice_that_is_none_is_refused(text, message):
    """Where it is read, with what is allowed."""
    with pytest.raises(InvalidConfig, match=message):
        parse(text)


def _nested(depth):
    tree = {"part": "one_step"}
    for _ in range(depth):
        tree = {"part": "trust_region", "start": tree}
    return tree


def _deep_list(depth):
    tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


# What a file may hold in the place of a configuration, and what the error must say.
HOSTILE = {
    "deep parts": (_nested(5000), "64 deep"),
    "a deep list": (_deep_list(5000), "64 deep"),
    "an unhashable value": ({"part": "ogbench", "timing": [1]}, "ogbench.timing must be one of"),
    "a list for seeds": (
        {"part": "run", "agent": None, "seeds": ["0"]},
        r"run.seeds\[0\] must be int",
    ),
    "text for seeds": ({"part": "run", "agent": None, "seeds": "012"}, "run.seeds must be tuple"),
    "no seeds": ({"part": "run", "agent": None, "seeds": []}, "run.seeds must be distinct"),
    "no agent": ({"part": "run"}, "run: .*agent"),
    "a phase that is none": (
        {"part": "run", "agent": None, "phases": [{"part": "one_step"}]},
        r"run.phases\[0\] must be .*Offline",
    ),
    "phases that are a number": ({"part": "run", "agent": None, "phases": 3}, "run.phases must be"),
    "a net for an optimiser": (
        {"part": "fmq", "optimiser": {"part": "mlp_flow"}},
        "fmq.optimiser must be a part that is a Adam",
    ),
    "a net for a function": (
        {"part": "fmq", "gradient": {"part": "mlp_flow"}},
        "fmq.gradient must be a part that is a function",
    ),
    "a term that is none": ({"part": "fmq", "terms": [3]}, r"fmq.terms\[0\] must be a part"),
    "one of two kinds": ({"part": "mlp_flow", "embed": {"part": "adam"}}, "mlp_flow.embed must be"),
    "infinity": ({"part": "fmq", "eta": math.inf}, "fmq.eta must be finite"),
    "a huge number": ({"part": "fmq", "eta": 10**400}, "fmq.eta must be float"),
    "a long text": ({"part": "ogbench", "timing": "x" * 10**6}, r"x \.\.\.$"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_trees_are_refused_in_words(name):
    """Whatever a file holds, the error is ours, names the field and is short."""
    tree, says = HOSTILE[name]
    with pytest.raises(FlowPolicyError, match=says) as caught:
        decode(tree)
    assert len(str(caught.value)) < 600


def test_what_a_part_s_own_check_stumbles_over_is_told(registry):
    """A field of type Any may hold what the part cannot use."""

    @register("test_any")
    @dataclasses.dataclass(frozen=True)
    class Anything:
        inner: Any = None

        def __post_init__(self) -> None:
            self.inner.horizon / self.inner.chunk

    for wrong in (3, None, [1], {"a": 1}):
        with pytest.raises(InvalidConfig, match=r"test_any: .+ attribute"):
            decode({"part": "test_any", "inner": wrong})


def test_entries_of_tuples_are_floats_too(registry):
    """Whole numbers become floats wherever floats belong."""

    @register("test_tuples")
    @dataclasses.dataclass(frozen=True)
    class Tuples:
        many: tuple[float, ...] = ()
        two: tuple[int, float] = (1, 1.0)
        maybe: float | None = None

    made = decode({"part": "test_tuples", "many": [1, 2], "two": [3, 4], "maybe": 5})
    assert made == Tuples((1.0, 2.0), (3, 4.0), 5.0)
    assert [type(x) for x in (*made.many, *made.two, made.maybe)] == [float] * 2 + [int] + [
        float
    ] * 2
    with pytest.raises(InvalidConfig, match="two must have 2 entries"):
        decode({"part": "test_tuples", "two": [3]})


def test_fields_of_later_versions_get_their_defaults():
    """In parts of parts too; what is there, and what nobody registered, stays."""
    full = parts.encode(FMQ(eta=0.5))
    old = {k: v for k, v in full.items() if k not in ("beta", "act")}
    old["critic"] = {"part": "mlp_critic", "width": 8}
    found = parts.completed([{"part": "of somebody else", "inner": old}])[0]["inner"]
    assert found == full | {"critic": {"part": "mlp_critic", "width": 8, "depth": 4}}
    assert parts.decode(found).eta == 0.5
