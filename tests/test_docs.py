"""What the documents show runs as it stands there."""

import dataclasses
import re
import runpy
from pathlib import Path

import pytest

from flowpolicy import parts, runs
from flowpolicy.data.collect import collect
from flowpolicy.runs import mini
from flowpolicy.train.phases import Evaluation

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


def run_block(text: str, folder: Path) -> dict:
    """Executes one block as a program of its own."""
    script = folder / "block.py"
    script.write_text(text, encoding="utf-8")
    return runpy.run_path(str(script))


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


@pytest.mark.slow
def test_the_example_with_workers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds, two processes."""
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("docs/speed.md")
    space = run_block(text, tmp_path)
    assert space["run"].finished()


def test_the_closed_form_s_example_is_right(tmp_path: Path) -> None:
    """The numbers in its comments are checked by the block itself; here to two digits."""
    (text,) = blocks("docs/closed_form.md")
    space = run_block(text, tmp_path)
    for name, numbers in (("theorem", (0.3, 1.3)), ("clipped", (0.3, 1.0)), ("boxed", (0.49, 1.0))):
        assert space[name].tolist() == pytest.approx(numbers, abs=0.005)


def test_documents_name_files_that_exist() -> None:
    """Relative links of the documents lead somewhere."""
    pages = (
        "tour", "notation", "add_an_algorithm", "closed_form", "qam", "resume", "deploy",
        "your_data", "speed", "tasks", "gfp", "fpmd", "swfp",
        "sfp", "decision_flow", "robomimic", "from_qc", "existing_flows",
    )  # fmt: skip
    for name in ("README.md", *(f"docs/{page}.md" for page in pages)):
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_the_translation_of_flags_names_parts_and_fields_that_exist() -> None:
    """Every ``part(field=...)`` of docs/from_qc.md is one, and every run it names is registered."""
    text = (ROOT / "docs/from_qc.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    calls = re.findall(r"(?<![\w.])([a-z_]+)\(([^()]*)\)", " ".join(re.findall(r"`([^`]+)`", text)))
    checked = 0
    for name, arguments in calls:
        known = {f.name for f in dataclasses.fields(parts.lookup(name))}
        fields = set(re.findall(r"(\w+)=", arguments))
        assert fields <= known, (name, fields)
        checked += len(fields)
    assert checked > 20
    families = {family.name for family in runs.families()}
    named = set(re.findall(r"`([a-z-]+)/TASK`", text))
    assert len(named) > 10
    assert named <= families
