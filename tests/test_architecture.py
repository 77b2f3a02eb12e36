"""The rules of the house, read from the source text; imports between floors: see import-linter."""

import ast
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "flowpolicy"
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _found(rule: Callable[[ast.Module], Iterator[tuple[int, str]]], without: str = "") -> list[str]:
    """Where a rule finds something, in all files but those whose name starts with ``without``."""
    assert TREES
    return [
        f"{name}:{line}: {what}"
        for name, tree in TREES.items()
        if not (without and name.startswith(without))
        for line, what in rule(tree)
    ]


def _calls(*names: str) -> Callable[[ast.Module], Iterator[tuple[int, str]]]:
    """The rule that finds calls of plain names, such as ``hasattr(...)``."""

    def rule(tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in names:
                    yield node.lineno, node.func.id

    return rule


def _public(body: list[ast.stmt]) -> Iterator[tuple[ast.ClassDef | Function, bool]]:
    """What users may call, and whether it is a method; nothing that is defined in a function."""

    def walk(body: list[ast.stmt], within: bool) -> Iterator[tuple[ast.ClassDef | Function, bool]]:
        for node in body:
            if isinstance(node, Function):
                if not node.name.startswith("_") or node.name in ("__init__", "__call__"):
                    yield node, within
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node, within
                yield from walk(node.body, True)
            elif isinstance(node, ast.If | ast.Try):
                yield from walk([*node.body, *node.orelse], within)

    return walk(body, False)


def _decorated(node: ast.ClassDef | Function, *names: str) -> bool:
    return any(ast.unparse(d).split(".")[-1] in names for d in node.decorator_list)


def test_a_file_fits_in_400_lines():
    lengths = {
        name: len((SOURCE / name).read_text(encoding="utf-8").splitlines()) for name in TREES
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_a_function_fits_in_60_lines():
    def rule(tree):
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lines = node.end_lineno - node.lineno + 1
                if lines > 60:
                    yield node.lineno, f"{node.name} has {lines} lines"

    assert _found(rule) == []


def test_nothing_is_imported_by_star():
    def rule(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(name.name == "*" for name in node.names):
                yield node.lineno, f"from {node.module} import *"

    assert _found(rule) == []


def test_no_attribute_is_probed():
    assert _found(_calls("hasattr")) == []


def test_no_method_calls_super():
    """A concrete class is never subclassed; gymnasium's classes want it, in ``envs`` only."""
    assert _found(_calls("super"), without="envs/") == []


def test_only_the_command_line_prints():
    assert _found(_calls("print"), without="cli/") == []


UNSAFE_MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib",
    "jsonpickle", "msgpack_numpy", "torch", "yaml", "ruamel", "runpy", "codeop",
}  # fmt: skip
UNSAFE_CALLS = {
    "np.load", "numpy.load", "np.fromfile", "np.loadtxt", "np.genfromtxt", "pd.read_pickle",
    "torch.load", "yaml.load", "os.system", "os.popen", "shutil.unpack_archive",
}  # fmt: skip


def _executing(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Pickle in any form, torch files, YAML, evaluated text, modules whose name is computed."""
    yield from _calls("eval", "exec", "compile", "__import__")(tree)
    for node in ast.walk(tree):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in UNSAFE_CALLS or name.endswith(("extractall", "read_pickle")):
                yield node.lineno, name
            if name.endswith("import_module") and not isinstance(node.args[0], ast.Constant):
                yield node.lineno, f"{name} of a computed name"
        for name in imported:
            if name.split(".")[0] in UNSAFE_MODULES:
                yield node.lineno, f"import {name}"
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield node.value.lineno, node.arg


def test_no_file_content_is_executed():
    """Nothing in the library can run what a file says."""
    lazily = {"__init__.py", "train/sinks.py"}  # names out of tables of their own, or of callers
    found = [line for line in _found(_executing) if "computed name" not in line]
    computed = [line.split(":")[0] for line in _found(_executing) if "computed name" in line]
    assert (found, set(computed) - lazily) == ([], set())


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal, os",
        "import shelve",
        "from torch import load",
        "def f():\n    import yaml",
        "import ruamel.yaml",
        "eval('1')",
        "exec(text)",
        "compile(a, b, c)",
        "__import__('pickle')",
        "importlib.import_module(name)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "np.lib.format.read_array(f, allow_pickle=True)",
        "np.lib.format.read_array(f, allow_pickle=flag)",
        "pd.read_pickle(path)",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_what_would_execute_a_file_is_found(text):
    """The rule above sees each of the ways."""
    assert list(_executing(ast.parse(text)))


def test_json_of_files_is_read_by_the_readers():
    """With limits; not so what our own processes tell each other, or what was just written."""

    def rule(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "json" and node.attr in ("load", "loads", "JSONDecoder"):
                    yield node.lineno, f"json.{node.attr}"

    own = {"data/collect.py", "data/play.py", "data/dataset.py"}
    found = _found(rule, without="readers/")
    assert [line for line in found if line.split(":")[0] not in own] == []


def _is_text(node: ast.AST) -> bool:
    """Whether an expression is a text, or a display that holds one."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(_is_text, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _switches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Comparisons of an attribute with a text, and matches on texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(s, ast.Attribute) for s in sides) and any(map(_is_text, sides)):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.MatchValue) and _is_text(node.value):
            yield node.lineno, f"case {ast.unparse(node)}"


def test_no_text_decides_what_an_agent_does():
    """A loss, an actor or an aggregation is a part, not the value of a text field."""
    assert [found for found in _found(_switches) if found.startswith("agents/")] == []


def test_what_is_public_is_documented():
    def rule(tree):
        if tree.body and not ast.get_docstring(tree):
            yield 1, "the module"
        for node, _ in _public(tree.body):
            exempt = node.name.startswith("__") or _decorated(node, "overload", "setter")
            if not exempt and not ast.get_docstring(node):
                yield node.lineno, node.name

    assert _found(rule) == []


def test_what_is_public_is_annotated():
    def rule(tree):
        for node, method in _public(tree.body):
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args]
            if method and not _decorated(node, "staticmethod"):
                arguments = arguments[1:]
            arguments += [*node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            for argument in arguments:
                if argument is not None and argument.annotation is None:
                    yield node.lineno, f"{node.name}: {argument.arg}"
            if node.returns is None and node.name != "__init__":
                yield node.lineno, f"{node.name}: what it returns"

    assert _found(rule) == []


def _is_concrete(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    functions = [function for function in node.body if isinstance(function, Function)]
    return not (
        bases & {"Protocol", "ABC"} or any(_decorated(f, "abstractmethod") for f in functions)
    )


def test_a_concrete_class_is_never_subclassed():
    """What is concrete is wrapped or composed; only errors form a family."""
    concrete = {
        node.name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and _is_concrete(node) and name != "errors.py"
    }

    def rule(tree):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if ast.unparse(base).split("[")[0].split(".")[-1] in concrete:
                        yield node.lineno, f"{node.name}({ast.unparse(base)})"

    assert _found(rule, without="errors.py") == []


def _tracked() -> list[Path]:
    """Files that git knows; empty where there is no git or no clone."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return []
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def test_the_repository_names_no_machine_and_no_registry():
    """No absolute path of whoever wrote it, and no address that packages come from."""
    tracked = _tracked()
    if not tracked:
        pytest.skip("not a git clone")
    folders = r"(?<![\w.$}~-])/(?:work|root|home|Users|opt|tmp)/[\w.]"
    registries = r"\bpythonhosted\.|\bpypi\.org|\bfile:/"
    notes = r"\bshared/(?:design|models|reference|seeds)"
    forbidden = re.compile("|".join([folders, registries, notes]))
    found = []
    for path in tracked:
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image
        for number, line in enumerate(text.splitlines(), 1):
            if match := forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-extras.lock")
"""Each holds the one before it."""


def test_the_locks_hold_versions_and_hashes_only():
    entry = re.compile(r"[\w.-]+==\S+( ; [^/]+)? \\|    --hash=sha256:\w{64}( \\)?")
    for name in LOCKS:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not entry.fullmatch(line)] == []


def test_the_locks_agree():
    """The second lock is the first one and what tests need on top, the third the extras too."""
    entry = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    runtime, tests, extras = (
        dict(entry.findall((ROOT / name).read_text(encoding="utf-8"))) for name in LOCKS
    )
    assert runtime.items() <= tests.items() <= extras.items()
    assert runtime["mujoco"] == "3.3.7"
