"""What a package says about itself, and what ``flowpolicy package`` does with what is odd."""

import json

import pytest
from small_runs import train

import flowpolicy as fp
from flowpolicy import parts
from flowpolicy.cli import main
from flowpolicy.errors import InvalidConfig, MissingData
from flowpolicy.packaging.card import Success, card
from flowpolicy.report.statistics import Interval, wilson
from flowpolicy.train.phases import Evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An offline run of two seeds, evaluated on five episodes by two refiners."""
    out = tmp_path_factory.mktemp("run") / "r"
    evaluation = Evaluation(every=0, final_episodes=5, refiners=(fp.best_of_n(n=2),))
    return train(out, phases=(fp.Offline(20),), seeds=[0, 3], evaluation=evaluation)


def front(text):
    """The lines between the card's two rules, as a mapping of the plain ones."""
    head = text.split("---\n")[1]
    pairs = [line.split(": ", 1) for line in head.splitlines() if ": " in line]
    return {k.strip(" -"): v for k, v in pairs}


def test_a_package_tells_what_it_is(run, tmp_path, capsys):
    """Success of the packaged seed and refiner at its checkpoint, with Wilson's interval."""
    refiner = "best_of_n(n=2)"
    arguments = ["--refiner", refiner, "--seed-index", "1", "--licence", "mit"]
    out = tmp_path / "p"
    assert main(["package", str(run.path), "--out", str(out), *arguments]) == 0
    assert str(out) in capsys.readouterr().out
    rows = [r for r in run.evaluations() if (r.seed, r.refiner) == (3, parts.describe(
        parts.parse(refiner)))]  # fmt: skip
    (row,) = rows
    low, high = wilson(round(5 * row.success), 5)
    text = (out / "README.md").read_text()
    assert f"{row.success:.3f} ({round(5 * row.success)} of 5 episodes" in text
    assert f"{low:.3f} to {high:.3f}" in text
    said = front(text)
    assert said["license"] == '"mit"'
    assert said["library_name"] == "flowpolicy"
    assert float(said["value"]) == pytest.approx(row.success, abs=1e-4)
    for part in ("point-mass", "seed 3", "20 updates", "numpy ", "| obs |", "(2)"):
        assert part in text, part


def test_its_configuration_is_complete(run, tmp_path):
    """Names, shapes, types and units of what goes in; the source; nothing that is not JSON."""
    config = json.loads((fp.package(run, tmp_path / "p") / "config.json").read_text())
    (field,) = config["observation"]["fields"]
    assert (field["name"], field["shape"], field["dtype"]) == ("obs", [2], "float32")
    assert sum(entry["size"] for entry in field["entries"]) == 2
    assert all(entry["unit"] for entry in field["entries"])
    assert config["source"]["updates"] == 20
    assert config["source"]["seed"] == 0
    assert len(config["source"]["config_sha256"]) == 64
    assert parts.decode(config["agent"]) == run.config().agent


def test_nothing_in_a_card_is_yaml_but_what_is_meant():
    """Names from elsewhere stand in quotes, as JSON, whatever they hold."""
    evil = 'x"\n- !!python/object: y\n---\n'
    config = {
        "source": {"task": evil, "run": evil, "updates": 1, "env_steps": 0, "seed": 0,
                   "versions": {}},
        "agent": {"part": "fmq"}, "refiner": None, "chunk": 1, "control_interval_s": 0.05,
        "observation": {"fields": []}, "action": {"size": 1, "low": -1, "high": 1},
    }  # fmt: skip
    head = card(config, {}, Success(1, 2, Interval(0.1, 0.9)), "").split("\n---\n")[0]
    assert "\n- !!python" not in head
    assert json.dumps(evil) in head
    assert "license" not in head


def test_a_run_without_evaluations_says_so(run, tmp_path):
    """Instead of a number."""
    text = (fp.package(run, tmp_path / "p", refiner=fp.one_step()) / "README.md").read_text()
    assert "was not evaluated" in text
    assert "No licence was stated." in text
    assert "model-index" not in text


def test_what_is_asked_wrongly_is_said(run, tmp_path):
    """And nothing is left behind."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(InvalidConfig, match="exists already"):
        fp.package(run, tmp_path / "taken")
    with pytest.raises(InvalidConfig, match="licence"):
        fp.package(run, tmp_path / "p", licence="do what\nyou want")
    with pytest.raises(InvalidConfig, match=r"seed_index must be in 0 \.\. 1"):
        fp.package(run, tmp_path / "p", seed_index=2)
    with pytest.raises(MissingData, match="no run folder"):
        fp.package(tmp_path / "nowhere")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_package_for_jax_alone(run, tmp_path):
    """Where numpy cannot follow, and that is accepted."""
    folder = fp.package(run, tmp_path / "p", numpy=False)
    assert not (folder / "program.json").exists()
    assert fp.Policy.load(folder).act([0.5, 0.5]).shape == (2, 2)
    with pytest.raises(InvalidConfig, match="without a program"):
        fp.Policy.load(folder, backend="numpy")


def test_the_card_is_of_the_checkpoint_that_is_packaged(run, tmp_path, monkeypatch):
    """Also where the run goes on meanwhile: whatever is loaded later is of more updates."""
    load, loaded = fp.Run.load, []

    def newer(folder, **how):
        trained, meta = load(folder, **how)
        loaded.append(meta["updates"] + len(loaded))
        return trained, meta | {"updates": loaded[-1]}

    monkeypatch.setattr(fp.Run, "load", newer)
    config = json.loads((fp.package(run, tmp_path / "p") / "config.json").read_text())
    assert config["source"]["updates"] == loaded[0] == 20
