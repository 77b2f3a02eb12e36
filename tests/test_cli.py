"""The real command line on small real input."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flowpolicy import runs
from flowpolicy.cli import main
from flowpolicy.cli.main import DEFAULTS
from flowpolicy.data.collect import collect
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import attempts
from flowpolicy.train.clock import PARTS
from flowpolicy.train.folder import COLUMNS

TINY = [
    "--actor", "mlp_flow(width=8, depth=1)",
    "--critic", "mlp_critic(width=8, depth=1)",
    "--act", "best_of_n(n=2)",
    "--bootstrap", "best_of_n(n=2)",
    "--batch", "8",
    "--block", "10",
    "--evaluation", "evaluation(every=0, episodes=1, final_episodes=1, side_by_side=1)",
]  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny set of real play data."""
    out = tmp_path_factory.mktemp("play") / "cube-single-play-v0.npz"
    collect("cube-single", 120, out, workers=1, episode_steps=61)
    return out


@pytest.fixture(scope="module")
def run(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on cube-single: one online episode of 200 steps and some more, 41 chunks."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    task = f"ogbench(task='cube-single-task1', file='{collected}')"
    phases = "(offline(steps=20), online(env_steps=205, start_after=195))"
    options = ["--out", str(out), "--quiet", *TINY, "--task", task, "--phases", phases]
    assert main(["train", "mini/fmq/cube-single-task1", *options]) == 0
    return out


def test_a_run_on_the_real_task_steps_updates_and_ends_an_episode(run: Path) -> None:
    """At least two chunks, one online update and one episode end, by the run's own metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ended = [line for line in lines if "episode/length" in line]
    assert len(ended) == 1
    assert ended[0]["episode/length"] == 200  # 40 chunks of 5
    online = [line for line in lines if line["phase"] == "online" and "fmq/loss" in line]
    assert online[-1]["updates"] == 20 + 2 * 5
    shares = next(line for line in lines if "time/rest" in line)
    parts = (*PARTS, "rest")
    assert sum(shares[f"time/{p}"] for p in parts) == pytest.approx(1.0)


def test_the_folder_holds_what_is_promised(run: Path) -> None:
    """Configuration, evaluations with the documented columns, checkpoints."""
    with open(run / "evaluations.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row[1] for row in rows[1:3]] == ["offline", "online"]
    record = json.loads((run / "config.json").read_text())
    assert record["run"] == "mini/fmq/cube-single-task1"
    assert record["versions"]["mujoco"].startswith("3.")
    assert record["data"]["reward_timing"] == "pre"
    assert sorted(p.name for p in (run / "checkpoints").iterdir())


def test_evaluate_and_report_need_the_folder_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another refiner, then the report, from the run folder."""
    refiner = "qgbs(beam=2, branches=2)"
    assert main(["evaluate", str(run), "--refiner", refiner, "--episodes", "1"]) == 0
    assert "6 flow evaluations a chunk" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "cube-single-task1" in page
    assert "data:image" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "mini/fmq/cube-singel-task1"], "mini/fmq/cube-single-task1"),
        (["train", "toy/fmq", "--act", "best_of_m(n=2)"], "best_of_n"),
        (["train", "toy/fmq", "--etta", "0.2"], "--eta"),
        (["train", "toy/fmq", "--eta", "-1", "--quiet"], "at least 0"),
        (["evaluate", "nowhere"], "no run folder nowhere"),
        (["evaluate", "nowhere", "--refiner", "one_stepp"], "one_step"),
        (["report", "nowhere"], "nowhere"),
        (["list", "fqm"], "or 'fmq'?"),
        (["list", "best_of_m", "--parts"], "did you mean 'best_of_n'"),
        (["data", "colect"], "collect"),
        (["data", "collect", "cube-singel"], "cube-single"),
        (["data", "info", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback, the nearest name or the missing file."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    text = "".join(capfd.readouterr())
    assert code == 2
    assert words in " ".join(text.split())
    assert "Traceback" not in text


def test_a_missing_data_set_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What to run to get the data."""
    monkeypatch.setenv("FLOWPOLICY_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "run"
    assert main(["train", "mini/fmq/cube-double-task1", "--out", str(out), "--quiet"]) == 2
    text = " ".join("".join(capfd.readouterr()).split())
    assert "flowpolicy data collect cube-double --rows 100000" in text
    assert not out.exists()


def test_a_run_folder_is_not_overwritten(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The folder of a run is refused."""
    arguments = ["train", "toy/fmq", "--out", str(run), "--quiet", *TINY]
    assert main([*arguments, "--phases", "(offline(steps=1),)"]) == 2
    assert "already holds a run" in " ".join("".join(capfd.readouterr()).split())


@pytest.mark.parametrize("command", ["train toy/fmq", "list", "evaluate", "report", "demo"])
def test_help_is_complete(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Every option of every command has a sentence."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    text = "".join(capfd.readouterr())
    assert "usage: flowpolicy" in text
    assert "PartText" not in text
    assert "<" not in text


def test_data_commands(collected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a file holds, and that it is sound."""
    assert main(["data", "info", str(collected)]) == 0
    text = capsys.readouterr().out
    assert "cube-single" in text
    assert "120 transitions" in text
    assert main(["data", "check", str(collected)]) == 0
    collected.with_name("cut.npz").write_bytes(collected.read_bytes()[:-100])
    assert main(["data", "check", str(collected.with_name("cut.npz"))]) == 2


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each family; runs by part of a name; parts with a sentence each."""
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "fmq/TASK" in text
    assert "cube-single-task1...5" in text
    assert "mini/fmq/TASK" not in text
    assert main(["list", "cube-triple-task4"]) == 0
    assert "mini/fmq/cube-triple-task4" in capsys.readouterr().out
    assert main(["list", "--parts"]) == 0
    assert "best_of_n" in capsys.readouterr().out


def test_the_list_says_which_tasks_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Every name it makes of a method and a task is a run, and no run of a method is left out."""
    assert main(["list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    common, *more = re.findall(r"(?:TASK is one of|: also) ([^.]+(?:\.\.\.[^.]+)*)\.", text)
    assert common.startswith("cube-single-task1...5, ")
    assert common.endswith(", robomimic-lift, robomimic-can, robomimic-square")
    owners = re.findall(r"([a-z-]+(?:, [a-z-]+)*): also", text)
    assert len(owners) == len(more) > 1
    named = {
        name: own for names, own in zip(owners, more, strict=True) for name in names.split(", ")
    }
    for family in runs.families():
        if family.tasks and not family.name.startswith("mini/"):
            said = ", ".join(filter(None, (common, named.get(family.name))))
            assert tuple(_spelled_out(said)) == family.tasks


def _spelled_out(ranges: str) -> list[str]:
    spelled = []
    for item in ranges.split(", "):
        head, several, last = item.rpartition("1...")
        spelled += [f"{head}{i}" for i in range(1, int(last) + 1)] if several else [item]
    return spelled


@pytest.mark.parametrize(
    ("options", "seeds", "again"),
    [
        ([], (0,), "--seed 0"),
        (["--seed", "3"], (3,), "--seed 3"),
        (["--seeds", "2"], 2, "--seeds 0 1"),
        (["--seeds", "4", "7"], (4, 7), "--seeds 4 7"),
    ],
)
def test_how_many_seeds_or_which(options, seeds, again, monkeypatch, tmp_path):
    """One number after --seeds is how many; what is written down trains the same."""
    asked = {}

    def attempt(config, task, dataset, folder, *, record, **_):
        asked.update(seeds=config.seeds, command=record["command"])
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "toy/bc/equal-modes", *options]) == 2
    assert asked["seeds"] == (tuple(range(seeds)) if isinstance(seeds, int) else seeds)
    assert asked["command"].endswith(again)


def test_the_command_that_is_written_down_is_understood(monkeypatch, tmp_path):
    """What it trains is what was trained: truths, text, parts and numbers."""
    asked = []

    def attempt(config, *_, record, **__):
        asked.append((config, record["command"]))
        raise InvalidConfig("enough")

    monkeypatch.setattr(attempts, "run", attempt)
    monkeypatch.chdir(tmp_path)
    given = "--clip-endpoint --no-keep-best --precision bfloat16 --phases offline(steps=3) --eta .2"
    assert main(["train", "toy/fmq", *given.split()]) == 2
    program, *again = shlex.split(asked[0][1])
    assert program == "flowpolicy"
    assert main(again) == 2
    assert asked[1] == asked[0]
    assert asked[0][0].agent.clip_endpoint
    assert not asked[0][0].keep_best


def test_seeds_and_seed_contradict_each_other(capsys):
    assert main(["train", "toy/bc/equal-modes", "--seeds", "2", "--seed", "1"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_compiled_programs_are_kept_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    name = "JAX_COMPILATION_CACHE_DIR"
    monkeypatch.setenv(name, str(tmp_path))
    assert main(["--version"]) == 0
    assert os.environ[name] == str(tmp_path)
    monkeypatch.delenv(name)
    assert main(["--version"]) == 0
    assert Path(os.environ[name]).parts[-2:] == (".flowpolicy", "compiled")


def test_what_is_compiled_is_kept(tmp_path: Path) -> None:
    """By the command line's own settings, of which the size of the folder needs a further package;
    without it JAX would keep nothing, and only warn."""
    code = "import jax; print(jax.jit(lambda x: 2 * x)(3))"
    settings = {
        **DEFAULTS,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **settings}, check=True)
    assert any(path.name.startswith("jit_") for path in tmp_path.iterdir())
