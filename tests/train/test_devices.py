"""Several devices: the same numbers up to the order of sums, saved on one mesh and read on another;
and what is said where devices or memory do not suffice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import OFFLINE, QUIET, TINY, agents, train

import flowpolicy as fp
from flowpolicy import api, runs
from flowpolicy.errors import Inexact, InvalidConfig
from flowpolicy.train import memory
from flowpolicy.train.updates import Updater

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What eight devices computed, and the folder with its runs."""
    folder = tmp_path_factory.mktemp("eight")
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "eight_devices.py"), str(folder)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("mesh", ["4 x 1", "2 x 4", "1 x 8"])
def test_a_mesh_computes_what_one_device_does(eight, mesh):
    """Seeds shared out, batches shared out, and both; offline and online."""
    _, found = eight
    assert found["devices"] == 8
    assert found[mesh] <= 1e-5
    assert found[f"{mesh} mesh"] == mesh


def test_what_eight_devices_saved_one_device_goes_on_with(eight, tmp_path):
    """And says that it is not the same to the bit."""
    path = shutil.copytree(eight[0] / "2 x 4", tmp_path / "run")
    (path / "status.json").unlink()
    with pytest.raises(Inexact, match="mesh was '2 x 4' and is None"):
        fp.resume(path)
    run = fp.resume(path, allow_inexact=True)
    assert run.finished()
    for a, b in zip(
        jax.tree.leaves(agents(run)),
        jax.tree.leaves(agents(fp.Run(eight[0] / "2 x 4"))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_run_that_was_stopped_goes_on_with_other_devices(eight, tmp_path):
    """Amid its online phase, from eight to one and from one to eight; it ends where one that had
    one device throughout does."""
    folder, found = eight
    assert 20 < found["stopped at"] < 40
    assert found["one, then eight"] <= 1e-5
    path = shutil.copytree(folder / "eight, stopped", tmp_path / "run")
    run, plain = fp.resume(path, allow_inexact=True), fp.Run(folder / "plain")
    assert run.load()[1]["updates"] == plain.load()[1]["updates"]
    for a, b in zip(jax.tree.leaves(agents(run)), jax.tree.leaves(agents(plain)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_mesh_that_does_not_fit_is_refused(eight):
    """With the numbers that are allowed, before anything is written."""
    folder, found = eight
    assert "is 32, there are 8 devices (cpu)" in found["many"]
    assert "must divide the number of seeds, 4: one of 1, 2, 4; got 3" in found["seeds"]
    assert "must divide the batch, 8: one of 1, 2, 4, 8; got 3" in found["batch"]
    assert not any((folder / name).exists() for name in ("many", "seeds", "batch"))


def test_more_seeds_than_memory_are_refused(tmp_path, monkeypatch):
    """With the estimate and what would fit, before anything is written."""
    config = api.override(runs.get("toy/fmq").config, TINY)
    rows = TINY["task"].dataset().rows
    spec = fp.Spec((2,), 2, 20)
    each = memory.per_seed(config, spec, rows)
    state = jax.eval_shape(lambda key: config.agent.init(key, spec), jax.random.key(0))
    assert each == 3 * memory.size(state) + 60 * (2 * 4 + 2 * 4 + 4 + 1 + 1 + 2 * 4)
    room = memory.size(rows) + 2.5 * each
    monkeypatch.setattr(memory, "free", lambda: int(room / memory.SPARE))
    train(tmp_path / "two", seeds=(1, 2), phases=(*OFFLINE, fp.Online(60)), evaluation=QUIET)
    with pytest.raises(InvalidConfig, match=r"3 seeds need about .* each.*: 2 would fit"):
        train(tmp_path / "three", seeds=(1, 2, 3))
    assert not (tmp_path / "three").exists()


def test_memory_that_runs_out_in_an_update_is_told_in_our_words(tmp_path, monkeypatch):
    """What the estimate before training cannot know; other errors of XLA stay what they are."""

    made = Updater.__init__

    def broken(words):
        def init(self, *arguments, **options):
            made(self, *arguments, **options)
            self._update = block

        def block(*arguments, **options):
            raise jax.errors.JaxRuntimeError(words)

        return init

    monkeypatch.setattr(Updater, "__init__", broken("RESOURCE_EXHAUSTED: Out of memory: 9 GiB"))
    with pytest.raises(InvalidConfig, match=r"2 seeds with batches of 8.*fewer seeds.*9 GiB"):
        train(tmp_path / "r", seeds=(1, 2))
    monkeypatch.setattr(Updater, "__init__", broken("INTERNAL: something else"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(tmp_path / "s")


def test_free_memory_is_known_here():
    if not Path("/proc/meminfo").exists():
        pytest.skip("only Linux says it")
    assert 2**20 < memory.free() < 2**50


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("tensorfloat32", 0, 0), ("bfloat16", 1e-6, 0.05)]
)
def test_precision_changes_an_update_within_its_tolerance(tmp_path, precision, least, most):
    """On a CPU tensorfloat32 is float32; a product of 7-bit mantissas is off by about 2^-8."""
    settings = {"phases": (fp.Offline(1),), "evaluation": QUIET}
    plain = train(tmp_path / "plain", **settings)
    other = train(tmp_path / "other", precision=precision, **settings)
    assert other.config().precision == precision
    (ours,), (theirs,) = (
        [m["critic/loss"] for m in run.metrics() if "critic/loss" in m] for run in (other, plain)
    )
    assert least <= abs(ours - theirs) / theirs <= most


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(InvalidConfig, match="precision"):
        train(tmp_path / "r", precision="float16")
