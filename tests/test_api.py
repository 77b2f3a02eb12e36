"""The public surface: its names, and that each is explained."""

import ast
import dataclasses
import inspect
import re
import runpy
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import attempts
from flowpolicy.train.given import as_seeds

PAGE = (Path(__file__).parents[1] / "docs" / "add_an_algorithm.md").read_text(encoding="utf-8")
NAMES = """
Agent BC Dataset Evaluation FMQ FPMD FQL FlowPolicyError GFP Gymnasium Hardware IFQL MVP Minari
OGBench Offline Online OwnData Policy PushT QAM QC RLPD Result RoboMimic Run RunConfig SFP Spec
Transition action_mean_std action_min_max action_units best_of_n collect compare debug diagnose
distil evaluate load_data min_max one_step package qgbs register report resume standardise
sweep_refiner train trust_region trust_region_box
"""


def test_the_public_names_are_these():
    """A change of this list is a change of the interface: say it in CHANGELOG.md."""
    assert sorted(fp.__all__) == sorted(NAMES.split())


def test_type_checkers_are_told_the_same_names():
    """What is imported for them, what is imported when asked for, and what is promised."""
    tree = ast.parse(Path(fp.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        for alias in node.names
    }
    assert told == fp._HOMES
    assert sorted(told) == sorted(fp.__all__)
    assert set(fp.__all__) <= set(dir(fp))


LATE = """
import sys
import flowpolicy as fp
from flowpolicy import Policy, FlowPolicyError
assert not {"jax", "equinox", "gymnasium", "tyro"} & set(sys.modules), sorted(sys.modules)
from flowpolicy.train import phases
import flowpolicy.report
assert callable(fp.train) and callable(fp.report)
from flowpolicy import train, report
assert train is fp.train and report is fp.report
from flowpolicy.train.phases import Offline
assert Offline is fp.Offline is phases.Offline
import flowpolicy.train.normalise
assert fp.train is train
try:
    fp.nothing
except AttributeError:
    print("done")
"""


def test_names_are_imported_when_they_are_asked_for():
    """JAX stays away until then; functions stay before the folders that share their names."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_nothing_else_looks_public():
    """What stands on the page beside the list is a submodule, or private."""
    others = {
        name for name, value in vars(fp).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }  # fmt: skip
    assert others <= set(fp.__all__)


def test_every_public_name_is_explained():
    """A docstring of its own, not one that ``dataclass`` made, on the thing and its methods."""
    for name in fp.__all__:
        thing = getattr(fp, name)
        text = inspect.getdoc(thing)
        assert text, name
        assert not text.startswith(f"{thing.__name__}("), name
        for label, member in inspect.getmembers(thing, inspect.isfunction):
            if not label.startswith("_") and member.__module__.startswith("flowpolicy"):
                assert inspect.getdoc(member), f"{name}.{label}"


def test_the_version_is_that_of_the_package():
    """``__version__`` and pyproject.toml agree."""
    import importlib.metadata

    assert fp.__version__ == importlib.metadata.version("flowpolicy")


@pytest.mark.parametrize("wrong", [{"batch": "128"}, {"eta": "big"}, {"act": 3}])
def test_overrides_of_a_wrong_type_name_the_field(wrong: dict, tmp_path: Path) -> None:
    """Before training starts, and not as a traceback from the depths."""
    (name,) = wrong
    with pytest.raises(fp.FlowPolicyError, match=name):
        fp.train("toy/fmq", out=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_run_is_named_after_the_agent_that_was_put_in(monkeypatch, tmp_path):
    """Of another kind it is another method; no command line trains it, whatever its kind."""
    asked = []

    def attempt(*_, record, **__):
        asked.append(record)
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    named = runs.get("toy/fmq").config.agent
    for changes in (
        {"eta": 0.2},
        {"agent": dataclasses.replace(named, eta=0.2)},
        {"agent": fp.BC()},
    ):
        with pytest.raises(InvalidConfig, match="enough"):
            fp.train("toy/fmq", **changes)
    assert [record["run"] for record in asked] == ["toy/fmq", "toy/fmq", "bc"]
    assert [record.get("command") for record in asked] == [
        "flowpolicy train toy/fmq --eta 0.2", None, None,
    ]  # fmt: skip


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The configurations of the runs that are asked for, none of which begins."""
    found = []

    def attempt(config, *_, **__):
        found.append(config)
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    return found


def test_fields_are_those_of_the_agent_that_is_put_in(asked):
    """And not of the one that it takes the place of."""
    with pytest.raises(InvalidConfig, match="enough"):
        fp.train("toy/fmq", agent=fp.QC(), steps=5, batch=3)
    assert [(config.agent, config.batch) for config in asked] == [(fp.QC(steps=5), 3)]
    with pytest.raises(fp.FlowPolicyError, match="unknown field of the run or its agent 'eta'"):
        fp.train("toy/fmq", agent=fp.QC(), eta=0.2)
    for wrong in (3, "qc", fp.QC, fp.Offline()):
        with pytest.raises(InvalidConfig, match=r"agent must be .*fp\.FMQ\(\), got"):
            fp.train("toy/fmq", agent=wrong)


@pytest.mark.parametrize(
    ("seeds", "found"),
    [
        (np.int64(2), (0, 1)),
        (np.array(2), (0, 1)),
        (np.arange(3, 5), (3, 4)),
        ([np.int32(7)], (7,)),
        (2, (0, 1)),
        (range(1, 3), (1, 2)),
    ],
)
def test_seeds_may_be_numpy_s_numbers(asked, seeds, found):
    """They are plain integers afterwards, as JSON needs them."""
    with pytest.raises(InvalidConfig, match="enough"):
        fp.train("toy/fmq", seeds=seeds)
    assert [config.seeds for config in asked] == [found]
    assert all(type(seed) is int for seed in asked[0].seeds)


@pytest.mark.parametrize("seeds", [2.0, "2", [0.5], [None], np.ones(2), {"a": 1}])
def test_seeds_that_are_no_whole_numbers(seeds):
    """Refused with the value, and never rounded."""
    with pytest.raises(InvalidConfig, match=r"seeds must be a whole number, or several, .*got"):
        as_seeds(seeds)


@pytest.mark.parametrize("seeds", [0, -2, np.int64(0)])
def test_as_many_seeds_as_none(seeds):
    """The number that was given is told, and not the empty tuple that it stands for."""
    with pytest.raises(InvalidConfig, match=rf"seeds must be at least 1, .*got {seeds};"):
        as_seeds(seeds)


def test_the_page_s_recipe_keeps_the_protocol(monkeypatch, tmp_path):
    """Everything of the named run but its agent; both runs are then compared."""
    trained, seen = {}, []
    monkeypatch.setitem(vars(fp), "train", lambda what, *, seeds, out: trained.update({out: what}))
    monkeypatch.setitem(vars(fp), "compare", lambda *folders: seen.append(folders))
    monkeypatch.setitem(vars(fp), "report", lambda *folders, out: seen.append(folders))
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M)
    (recipe,) = re.findall(r"^```\n(from flowpolicy import runs\n.*?)^```", PAGE, flags=re.S | re.M)
    script = tmp_path / "recipe.py"
    script.write_text(code.partition("# --- train it")[0] + recipe, encoding="utf-8")
    space = runpy.run_path(str(script))
    own, name = trained.values()
    assert dataclasses.replace(own, agent=None) == dataclasses.replace(
        runs.get(name).config, agent=None
    )
    assert own.agent == space["WeightedCloning"](chunk=5)
    assert seen == [tuple(trained)] * 2


def test_the_command_line_knows_parts_that_were_imported(tmp_path):
    """By the page's command; without the import the answer says what to do."""
    (program,) = re.findall(r'^python -c ".*?"', PAGE, flags=re.M)
    (tmp_path / "my_awr.py").write_text(
        "import flowpolicy as fp\n\n@fp.register('mine')\ndef mine():\n    'A part of mine.'\n"
    )
    words = [sys.executable, *shlex.split(program)[1:], "list", "--parts", "mine"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, "A part of mine." in done.stdout) == (0, True), done.stderr
    refused = r"unknown part 'mine'.*if it is yours, import the file that registers it first"
    with pytest.raises(fp.FlowPolicyError, match=refused):
        parts.parse("mine")
