"""LeRobotDataset folders that were cut, altered or made to harm; and what old ones lack."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.own_files import refused, write_lerobot
from flowpolicy.data.own import load_data
from flowpolicy.errors import CorruptFile, FlowPolicyError, MissingData

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.extras


@pytest.fixture
def lerobot(tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "set")
    return tmp_path / "set"


def _info(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "meta" / "info.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))

    return apply


def _table(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.glob(name))
        pq.write_table(change(pq.read_table(path)), path)

    return apply


DATA, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def _set(name: str, values: Any) -> Callable[[Any], Any]:
    return lambda t: t.set_column(t.schema.get_field_index(name), name, pa.array(values))


LEROBOT: dict[str, tuple[Callable[[Path], Any], str, type[FlowPolicyError]]] = {
    "no info": (lambda f: (f / "meta/info.json").unlink(), "info.json does not exist", MissingData),
    "an older version": (
        _info(lambda i: i.update(codebase_version="v2.1")), "must be v3.x, got 'v2.1'", CorruptFile,
    ),
    "no features": (_info(lambda i: i.pop("features")), "features must map", CorruptFile),
    "no action": (_info(lambda i: i["features"].pop("action")), "no action", CorruptFile),
    "no observation": (
        _info(lambda i: i["features"].pop("observation.state")), "no observation", CorruptFile,
    ),
    "a feature without a shape": (
        _info(lambda i: i["features"]["action"].pop("shape")), "dtype and a shape", CorruptFile,
    ),
    "an absurd shape": (
        _info(lambda i: i["features"]["action"].update(shape=[-1])), "has the shape", CorruptFile,
    ),
    "another size": (
        _info(lambda i: i["features"]["action"].update(shape=[3])),
        "action must have 3 numbers in every row", CorruptFile,
    ),
    "no data": (lambda f: shutil.rmtree(f / "data"), "data is not there", MissingData),
    "no episodes": (lambda f: shutil.rmtree(f / "meta/episodes"), "is not there", MissingData),
    "an empty chunk": (
        lambda f: [p.unlink() for p in (f / "data").rglob("*.parquet")], "no chunk-", MissingData,
    ),
    "no action column": (
        _table(DATA, lambda t: t.drop_columns("action")), "column action is missing", CorruptFile,
    ),
    "no episode column": (
        _table(DATA, lambda t: t.drop_columns("episode_index")), "episode_index is", CorruptFile,
    ),
    "missing values": (
        _table(DATA, _set("next.reward", [None] * 15)), "next.reward must have 1", CorruptFile,
    ),
    "text": (_table(DATA, _set("next.reward", ["a"] * 15)), "got string", CorruptFile),
    "rows of different length": (
        _table(DATA, _set("action", [[0.0, 0.0]] * 14 + [[0.0]])),
        "action must have 2 numbers", CorruptFile,
    ),
    "flags that are none": (
        _table(DATA, _set("next.done", [2] * 15)), "next.done must hold flags", CorruptFile,
    ),
    "frames out of order": (
        _table(DATA, lambda t: t.take(pa.array([*range(14), 13]))), "row 14 of", CorruptFile,
    ),
    "a frame that is lost": (_table(DATA, lambda t: t.slice(0, 14)), "whose sum is", CorruptFile),
    "lengths of nothing": (_table(META, _set("length", [10, 20, 0])), "whole numbers", CorruptFile),
    "lengths beyond all": (_table(META, _set("length", [2**62] * 3)), "whose sum is", CorruptFile),
    "lengths that are text": (_table(META, _set("length", ["a"] * 3)), "got string", CorruptFile),
    "episodes by another name": (
        _table(META, _set("episode_index", [0, 1, 3])), "meta/episodes has frame", CorruptFile,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEROBOT)
def test_lerobot_of_another_layout(lerobot: Path, name: str):
    change, says, kind = LEROBOT[name]
    change(lerobot)
    refused(lerobot, says, kind)


def test_links_out_of_the_folder(lerobot: Path, tmp_path: Path):
    path = lerobot / DATA
    shutil.move(path, tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    refused(lerobot, "symbolic link")
    shutil.move(lerobot / "meta", tmp_path / "meta")
    (lerobot / "meta").symlink_to(tmp_path / "meta")
    refused(lerobot, "symbolic link")


def test_a_parquet_bomb_is_not_unpacked(lerobot: Path):
    """Runs of one value: 200 000 frames in a few kB."""
    rows = 200_000
    zeros = pa.array(np.zeros(rows, np.float32))
    table = pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * rows)), 3),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * rows)), 2),
            "next.reward": zeros,
            "next.done": pa.array(np.zeros(rows, bool)),
            "frame_index": pa.array(np.zeros(rows, np.int64)),
            "episode_index": pa.array(np.zeros(rows, np.int64)),
        }
    )
    pq.write_table(table, lerobot / DATA)
    refused(lerobot, "tell of 200,015 frames", rows_ratio=100, npz_free_bytes=2**20)


def test_older_sets_lack_what_they_lack(tmp_path: Path):
    """Without next.reward every reward is 0. Without next.done every end is a time-out; the last
    frames, which alone have a reward here, have no successor and are dropped."""
    for name in ("next.reward", "next.done"):
        write_lerobot(tmp_path / name, without=name)
        data = load_data(tmp_path / name)
        assert name in data.info["missing"]
        assert not data.rows.reward.any()
        assert len(data) == (29 if name == "next.reward" else 27)
        assert data.rows.terminated.any() == (name != "next.done")


def test_files_that_are_cut(lerobot: Path):
    for path in lerobot.rglob("*.parquet"):
        content = path.read_bytes()
        for share in (0.0, 0.3, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            assert str(path) in refused(lerobot, "cannot be read")
        path.write_bytes(content)
