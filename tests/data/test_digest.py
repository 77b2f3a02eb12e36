"""The digest tells data sets apart by anything in them; records beside files are not believed."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.data.check import check
from flowpolicy.data.dataset import Dataset
from flowpolicy.data.digest import check_same_rows, digest
from flowpolicy.data.npz import read_npz, sha256, write_npz
from flowpolicy.data.ogbench import load
from flowpolicy.data.record import read_record
from flowpolicy.errors import CorruptFile, InvalidData
from flowpolicy.types import Rows


def _rows(n: int = 4) -> Rows:
    rng = np.random.default_rng(0)
    obs = {"b": rng.normal(size=(n, 2)), "a": rng.normal(size=(n, 3))}
    obs = {name: value.astype(np.float32) for name, value in obs.items()}
    return Rows(
        obs=obs,
        action=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        reward=np.zeros(n, np.float32),
        terminated=np.zeros(n, bool),
        ended=np.arange(n) == n - 1,
        next_obs={name: value[::-1] for name, value in obs.items()},
    )


def test_the_digest_is_what_it_says():
    """Names, dtypes, shapes and values, one array after the other, computed by hand."""
    rows, total = _rows(), hashlib.sha256()
    for name, array in (
        (".obs['a']", rows.obs["a"]),
        (".obs['b']", rows.obs["b"]),
        (".action", rows.action),
        (".reward", rows.reward),
        (".terminated", rows.terminated),
        (".ended", rows.ended),
        (".next_obs['a']", rows.next_obs["a"]),
        (".next_obs['b']", rows.next_obs["b"]),
    ):
        dtype = "|b1" if array.dtype == bool else "<f4"
        total.update(f'["{name}", "{dtype}", {list(array.shape)}]\n'.encode() + array.tobytes())
    assert digest(rows) == total.hexdigest()


def test_any_change_of_any_array_is_another_digest():
    rows = _rows()
    leaves, structure = jax.tree.flatten(rows)
    seen = {digest(rows)}
    for i, leaf in enumerate(leaves):
        flipped = leaf.copy()
        flat = flipped.reshape(-1).view(np.uint8)
        flat[-1] ^= 1
        for changed in (flipped, leaf[:-1], np.expand_dims(leaf, 1), leaf.astype(np.float16)):
            changes = [*leaves[:i], changed, *leaves[i + 1 :]]
            # Not through the constructor, which would refuse some of these shapes.
            seen.add(digest(jax.tree.unflatten(structure, changes)))
    assert len(seen) == 1 + 4 * len(leaves)
    renamed = eqx.tree_at(lambda r: r.obs, rows, {"a": rows.obs["a"], "c": rows.obs["b"]})
    swapped = eqx.tree_at(lambda r: (r.obs, r.next_obs), rows, (rows.next_obs, rows.obs))
    assert len(seen | {digest(renamed), digest(swapped)}) == len(seen) + 2


def test_where_and_how_arrays_lie_is_no_difference():
    """On the device, in another order in memory, in another byte order."""
    rows = _rows()
    for change in (
        jnp.asarray,
        np.asfortranarray,
        lambda x: x.astype(x.dtype.newbyteorder(">")),
        lambda x: np.repeat(x, 2, axis=0)[::2],
    ):
        leaves, structure = jax.tree.flatten(rows)
        assert digest(jax.tree.unflatten(structure, map(change, leaves))) == digest(rows)


def test_other_rows_are_refused_with_both_sums():
    data = Dataset.from_rows(_rows(), {"source": "arrays", "file": "mine.npz"})
    record = json.loads(json.dumps(data.record, allow_nan=False))
    assert record["rows_sha256"] == data.digest == digest(data.rows)
    assert (record["rows"], record["episodes"], record["file"]) == (4, 1, "mine.npz")
    check_same_rows(data.rows, record, "runs/a")
    check_same_rows(data.rows, {"source": "of an older version"}, "runs/a")
    rows = dataclasses.replace(data.rows, reward=data.rows.reward + 1)
    with pytest.raises(InvalidData, match=r"runs/a was trained on other rows.*mine\.npz") as caught:
        check_same_rows(rows, record, "runs/a")
    assert data.digest in str(caught.value)
    assert digest(rows) in str(caught.value)


@pytest.fixture
def copied(maze: Any, tmp_path: Path) -> Path:
    """The maze's file with its record, to be altered."""
    for suffix in (".npz", "-val.npz", ".json"):
        source = maze.path.with_name(maze.path.stem + suffix)
        shutil.copy(source, tmp_path / source.name)
    return tmp_path / maze.path.name


def test_a_file_that_is_not_what_was_collected_is_not_trained_on(copied: Path):
    task = "pointmaze-medium-task1"
    info = load(copied, task).info
    assert (info["bytes"], info["sha256"]) == (copied.stat().st_size, sha256(copied))
    before = sha256(copied)
    arrays = read_npz(copied)
    arrays["observations"][0, 0] += 1e-3
    write_npz(copied, arrays)
    with pytest.raises(CorruptFile, match="is not the file that was collected") as caught:
        load(copied, task)
    assert before in str(caught.value)
    assert sha256(copied) in str(caught.value)
    copied.with_suffix(".json").unlink()  # nothing is promised any more
    load(copied, task)


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "NaN": '{"format": "flowpolicy-data-1", "environment": NaN}',
    "a key twice": '{"format": "flowpolicy-data-1", "format": "flowpolicy-data-1"}',
    "no files": '{"format": "flowpolicy-data-1", "environment": "pointmaze-medium"}',
    "files that are a list": '{"format": "flowpolicy-data-1", "environment": "a", "files": []}',
    "a file that is a text": (
        '{"format": "flowpolicy-data-1", "environment": "a", "files": {"a.npz": "b"}}'
    ),
    "a sum that is a number": (
        '{"format": "flowpolicy-data-1", "environment": "a", "files": {"a.npz": {"sha256": 1}}}'
    ),
    "an environment that is a number": (
        '{"format": "flowpolicy-data-1", "environment": 1, "files": {}}'
    ),
    "deep": "[" * 10_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_an_error_and_for_check_a_problem(copied: Path, name: str):
    copied.with_suffix(".json").write_text(BROKEN[name])
    with pytest.raises(CorruptFile, match=rf"{copied.stem}\.json"):
        read_record(copied)
    with pytest.raises(CorruptFile, match=rf"{copied.stem}\.json"):
        load(copied, "pointmaze-medium-task1")
    found = check(copied)
    assert any(f"{copied.stem}.json" in problem for problem in found.problems)


def test_a_json_of_somebody_else_is_no_record(copied: Path):
    copied.with_suffix(".json").write_text('{"files": 3}')
    assert read_record(copied) is None
    assert check(copied).sound
