"""The public surface: its names, and that each is explained."""

import ast
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import flowpolicy as fp

NAMES = """
Agent BC Dataset FMQ FPMD FQL FlowPolicyError GFP Gymnasium Hardware IFQL MVP Minari OGBench
Offline Online OwnData Policy PushT QAM QC RLPD Result RoboMimic Run RunConfig SFP Spec Transition
action_mean_std action_min_max action_units best_of_n collect compare debug diagnose distil evaluate
load_data min_max one_step package qgbs register report resume standardise sweep_refiner train
trust_region trust_region_box
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
