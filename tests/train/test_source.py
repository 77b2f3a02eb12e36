"""Offline rows on the host: the run that rows on the device make, whatever is foreseen."""

import threading

import jax
import numpy as np
import pytest
from small_runs import QUIET, TINY, agents, lines, train

import flowpolicy as fp
from flowpolicy.data.mapped import map_rows, write_rows
from flowpolicy.train import memory, source

SETTINGS = {
    "seeds": (3, 5),
    "phases": (fp.Offline(25), fp.Online(20, start_after=4, random_steps=20)),
    "evaluation": QUIET,
}


@pytest.fixture(scope="module")
def on_device(tmp_path_factory):
    """Two seeds, offline in blocks of ten and five, then online; all actions are random."""
    return train(tmp_path_factory.mktemp("source") / "device", **SETTINGS)


def same(run, other):
    """Losses and parameters agree; the programs differ, so that rounding may."""
    for name in ("critic/loss", "critic/target_mean"):
        ours, theirs = ([line[name] for line in lines(r, name)] for r in (run, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(agents(run)), jax.tree.leaves(agents(other)), strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), atol=1e-5)


def test_rows_in_the_hosts_memory(on_device, tmp_path):
    same(train(tmp_path / "r", hardware=fp.Hardware(host_rows=True), **SETTINGS), on_device)


def test_rows_in_mapped_files_stay_there(on_device, tmp_path, monkeypatch):
    """Unasked; the estimate of the device's memory does not count them."""
    data = map_rows(write_rows(tmp_path / "rows", [TINY["task"].dataset()]))
    counted = []
    made = memory.check
    monkeypatch.setattr(
        memory, "check", lambda c, s, rows, *more: counted.append(rows) or made(c, s, rows, *more)
    )
    run = train(tmp_path / "r", task=TINY["task"], **SETTINGS)
    config = run.config()
    other = fp.train(config, data, out=tmp_path / "mapped")
    assert source.mapped(data.rows)
    assert [rows is None for rows in counted] == [False, True]
    same(other, on_device)


def test_the_next_block_is_gathered_ahead_offline_alone(tmp_path, monkeypatch):
    """Online it depends on rows that are not there yet."""
    asked = []
    made = source.OnHost.windows

    def windows(self, keys, first, count, rings):
        found = made(self, keys, first, count, rings)
        asked.append((rings is None, all(guess is not None for guess in self._guess)))
        return found

    monkeypatch.setattr(source.OnHost, "windows", windows)
    train(tmp_path / "r", hardware=fp.Hardware(host_rows=True), **SETTINGS)
    assert set(asked) == {(True, True), (False, False)}
    assert not [t for t in threading.enumerate() if t.name.startswith("flowpolicy-ahead")]
