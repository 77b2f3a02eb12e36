"""The objectives benchmark: its target, its table, and what it writes as it goes."""

import csv

import jax
import numpy as np
import pytest
from benchmarks import objectives

from flowpolicy.report.distance import energy_distance


def test_the_target_is_a_checkerboard():
    """Eight of sixteen cells, no two side by side, equally often: within 5 standard deviations of
    8000 / 8 in each of them, a false alarm in 5e-6 of seeds."""
    points = objectives.checkerboard(jax.random.key(0), 8000)
    assert np.abs(points).max() <= 2
    cell = np.minimum(np.floor(points + 2).astype(int), 3)
    count = np.zeros((4, 4), int)
    np.add.at(count, tuple(cell.T), 1)
    dark = count > 0
    assert np.array_equal(dark, np.indices((4, 4)).sum(axis=0) % 2 == 0)
    assert np.abs(count[dark] - 1000).max() < 5 * (8000 / 8 * 7 / 8) ** 0.5


def test_every_objective_of_the_issue_is_there():
    """Six with a second term, and the diagonal alone."""
    names = {name: [t.residual.__name__ for t in terms] for name, terms in ITEMS}
    assert names.pop("diagonal alone") == ["diagonal"]
    assert [pair[1] for pair in names.values()] == [
        "mean_flow", "eulerian", "lagrangian", "semigroup", "semigroup", "shortcut",
    ]  # fmt: skip


ITEMS = objectives.OBJECTIVES.items()


def test_a_short_training_comes_nearer_to_the_target():
    """Flow matching alone, 300 updates of a small net, by 8 jumps: 0.010 away at most in three
    seeds, where the noise is 0.041 away and two sets of the target scatter by 0.002."""
    budget = objectives.Budget(updates=300, batch=256, samples=1000, width=64, depth=2, rate=3e-3)
    flow = objectives.train(objectives.OBJECTIVES["diagonal alone"], jax.random.key(0), budget)
    samples = objectives.draw_samples(flow, 0, 8, budget)
    target = objectives.checkerboard(jax.random.key(1), 1000)
    noise = np.random.default_rng(0).normal(size=(1000, 2))
    assert energy_distance(samples, target) < 0.5 * energy_distance(noise, target)


def test_rows_are_summed_up_and_written(tmp_path):
    """Mean, least and most over seeds; what is written is read back, unless the budget differs."""
    rows = [
        {"objective": "a", "seed": i, **dict.fromkeys(objectives.COLUMNS[2:], float(v))}
        for i, v in enumerate((1, 2, 6))
    ]
    table = objectives.summary(rows)["a"]["jumps_4"]
    assert table == {"mean": pytest.approx(3.0), "min": 1.0, "max": 6.0}
    budget, noise = objectives.Budget(), objectives.Noise(0.0, 1e-4)
    for count in (1, 3):
        objectives.write(tmp_path, rows[:count], noise, budget)
        with open(tmp_path / "objectives.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == count
        assert objectives.recorded(tmp_path, budget) == rows[:count]
    assert objectives.recorded(tmp_path, budget._replace(updates=1)) == []
    assert objectives.recorded(tmp_path / "none", budget) == []
