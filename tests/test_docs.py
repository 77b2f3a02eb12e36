"""What the documents show runs as it stands there."""

import ast
import dataclasses
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.cli.main import COMMANDS
from flowpolicy.data.collect import collect
from flowpolicy.nets import Adam
from flowpolicy.refine import BestOfN
from flowpolicy.runs import mini
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.phases import Evaluation, RunConfig

ROOT = Path(__file__).parent.parent


def blocks(name: str) -> list[str]:
    """The Python blocks of a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small collected set where the library looks for data."""
    folder = tmp_path_factory.mktemp("data")
    collect("cube-single", 120, folder / "cube-single-play-v0.npz", workers=1, episode_steps=61)
    return folder


def run_block(text: str, folder: Path, name: str | None = None) -> dict:
    """Executes one block as a program of its own, under ``__main__`` where it asks for that."""
    script = folder / "block.py"
    script.write_text(text, encoding="utf-8")
    return runpy.run_path(str(script), run_name=name)


@pytest.mark.parametrize("number", range(len(blocks("README.md"))))
def test_readme_blocks_run(
    number: int, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of the README runs in an empty folder (with two episodes for fifty)."""
    brief = lambda **fields: Evaluation(**{**fields, "final_episodes": 2})  # noqa: E731
    monkeypatch.setattr(mini, "Evaluation", brief)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWPOLICY_DATA", str(data_folder))
    run_block(blocks("README.md")[number], tmp_path)


def test_an_algorithm_from_outside_the_package_learns_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's method pulls its samples towards the better half of the actions."""
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("docs/add_an_algorithm.md")
    space = run_block(text, tmp_path)
    policy = space["policy"]
    actions = [policy.act([0.0, 0.0, 0.0])[0] for _ in range(64)]
    # Uniform actions average 0; the optimum is 0.5 in both entries.
    assert min(sum(a[0] for a in actions), sum(a[1] for a in actions)) / 64 > 0.15


@pytest.mark.parametrize("number", range(len(blocks("docs/your_data.md"))))
def test_own_data_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's first program ends in the robot's units, the second plays in them."""
    monkeypatch.chdir(tmp_path)
    space = run_block(blocks("docs/your_data.md")[number], tmp_path)
    if "degrees" in space:
        assert space["degrees"].shape == (4, 2)
        assert 1.0 < abs(space["degrees"]).max() <= 40.0


def test_the_robot_s_page_trains_adapts_and_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline and online on one arm, then without JAX, in rad/s between those recorded."""
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("docs/robot.md")
    space = run_block(text, tmp_path)
    assert space["run"].finished()
    assert space["run"].load()[1]["env_steps"] == [60]
    actions = space["policy"].act(space["seen"])
    assert actions.shape == (2, 2)
    assert 0.01 < abs(actions).max() <= 1.5


@pytest.mark.slow
def test_the_example_with_workers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds, two processes, which import the file once more."""
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("docs/speed.md")
    run_block(text, tmp_path, "__main__")
    assert RunFolder(tmp_path / "runs" / "two-seeds").finished()


def test_the_closed_form_s_example_is_right(tmp_path: Path) -> None:
    """The numbers in its comments are checked by the block itself; here to two digits."""
    (text,) = blocks("docs/closed_form.md")
    space = run_block(text, tmp_path)
    for name, numbers in (("theorem", (0.3, 1.3)), ("clipped", (0.3, 1.0)), ("boxed", (0.49, 1.0))):
        assert space[name].tolist() == pytest.approx(numbers, abs=0.005)


def test_documents_name_files_that_exist() -> None:
    """Relative links of the documents lead somewhere."""
    pages = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
    for name in ("README.md", "benchmarks/README.md", *pages):
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def rows_of(name: str) -> list[list[str]]:
    """The rows of a document's tables, without their heads."""
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.+) \|$", re.sub(r"\n\|.*\|\n\|[-|]+\|", "", text), flags=re.M)
    return [re.split(r" +\| +", f"{line} ") for line in lines]


def check_names(code: str) -> int:
    """How many parts, fields, functions, commands and runs ``code`` names; all of them exist."""
    words = code.split()
    if words[0] == "flowpolicy":
        assert words[1] in COMMANDS, code
        return 1
    if words[0] == "python":
        assert (ROOT / words[2] / f"{words[3]}.py").exists(), code
        return 1
    if code in RUNS:
        return 1
    found = 0
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = {f.name for f in dataclasses.fields(parts.lookup(node.func.id))}
            fields = {keyword.arg for keyword in node.keywords}
            assert fields <= known, (code, fields)
            found += len(fields) + 1
        elif isinstance(node, ast.Attribute):
            assert pkgutil.resolve_name(re.sub("^fp[.]", "flowpolicy.", ast.unparse(node)))
            found += 1
        elif isinstance(node, ast.Name) and node.id not in ("fp", "flowpolicy"):
            assert node.id in FIELDS or node.id in parts.names(), code
            found += 1
    return found


RUNS = {family.name for family in runs.families()}
FIELDS = {
    field.name
    for part in map(parts.lookup, parts.names())
    if isinstance(part, type) and (part is RunConfig or hasattr(part, "view"))
    for field in dataclasses.fields(part)
} | set(inspect.signature(fp.train).parameters)
"""Of runs and agents, and the keywords of ``fp.train``."""


def test_the_translation_of_flags_names_what_exists() -> None:
    """Every part, field, command and run of docs/from_qc.md is one."""
    rows = rows_of("docs/from_qc.md")
    ours = [code for row in rows for code in re.findall(r"`([^`]+)`", row[1])]
    assert len(rows) > 45
    assert sum(map(check_names, ours)) > 80
    notes = [code for row in rows for code in re.findall(r"`([a-z_.]+\([^`]*\))`", row[2])]
    assert sum(map(check_names, notes)) > 6
    text = (ROOT / "docs/from_qc.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z-]+)/TASK`", text))
    assert len(named) > 10
    assert named <= RUNS
    single = set(re.findall(r"`([a-z-]+/[a-z0-9-]+)`", text))
    assert single <= set(runs.names())


def test_the_translation_of_flags_calls_nothing_missing_that_is_there() -> None:
    """What has no counterpart is listed here, so that building one changes the page; sets in many
    files, frames, D4RL and IFQL have theirs."""
    rows = rows_of("docs/from_qc.md")
    missing = {code for row in rows if "none" in row[1] for code in re.findall(r"`(\w+)`", row[0])}
    assert missing == {
        "dataset_proportion", "save_all_online_states", "weight_decay", "actor_layer_norm",
    }  # fmt: skip
    theirs = {code for row in rows for code in re.findall(r"`([\w.]+)`", row[0])}
    assert {"expectile", "num_samples", "p_aug", "frame_stack", "ogbench_dataset_dir"} <= theirs
    assert not any("not built" in cell for row in rows for cell in row)


def test_the_tour_names_every_reading_that_the_released_run_has_otherwise() -> None:
    """A row of its table for each field in which ``fmq-released`` is not ``fmq``."""
    run, released = (
        runs.get(f"{n}/cube-single-task1").config.agent for n in ("fmq", "fmq-released")
    )
    other = {
        field.name
        for field in dataclasses.fields(run)
        if getattr(run, field.name) != getattr(released, field.name)
    }
    assert other == {"aggregate_offline", "clip_endpoint"}
    told = " ".join(row[0] for row in rows_of("docs/tour.md"))
    assert {name for name in other if f"`{name}`" in told} == other


@pytest.mark.parametrize(
    ("agent", "source"),
    [(fp.FMQ, r"page|Algorithm 1"), (fp.MVP, r"page|QC|Eq"), (fp.QC, "paper|Tab")],
)
def test_the_numbers_of_a_paper_s_agent_say_where_they_are_from(agent: type, source: str) -> None:
    """In the sentences that the help shows: the page or that it is silent, or a table."""
    text = inspect.getsource(agent)
    told = dict(re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', text, flags=re.S | re.M))
    for field in dataclasses.fields(agent):
        if type(field.default) in (int, float, Adam, BestOfN):
            assert re.search(source, told[field.name]), field.name
