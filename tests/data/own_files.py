"""Small files in other people's layouts, written by the libraries that write theirs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpolicy.data.foreign import read_foreign
from flowpolicy.errors import CorruptFile, FlowPolicyError
from flowpolicy.readers import Limits

LENGTHS = (10, 12, 8)
ROWS = sum(LENGTHS)


def episodes(seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of three trajectories: the first and the last succeed, the second runs out of time."""
    draws = np.random.default_rng(seed)
    frame = np.concatenate([np.arange(n) for n in LENGTHS])
    last = np.append(frame[1:] == 0, True)
    done = last & (np.repeat(np.arange(3), LENGTHS) != 1)
    state = draws.normal(size=(ROWS, 3))
    return {
        "state": state,
        "object": draws.normal(size=(ROWS, 2)),
        "next_state": state + 0.5,
        "next_object": draws.normal(size=(ROWS, 2)),
        "action": draws.uniform(-1, 1, (ROWS, 2)),
        "reward": done.astype(np.float64),
        "done": done,
        "last": last,
        "frame": frame,
        "episode": np.repeat(np.arange(3), LENGTHS),
    }


def write_hdf5(path: Path, *, next_obs: bool = True, scale: float = 1.0) -> dict[str, np.ndarray]:
    """A RoboMimic file with an image beside its vectors, and a filter key; the rows in it."""
    import h5py

    rows = episodes()
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        data.attrs["total"] = ROWS
        for number in range(3):
            here = rows["episode"] == number
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = int(here.sum())
            demo["actions"] = scale * rows["action"][here]
            demo["rewards"] = rows["reward"][here]
            demo["dones"] = rows["done"][here].astype(np.int64)
            for name, prefix in (("obs", ""), ("next_obs", "next_"))[: 1 + next_obs]:
                obs = demo.create_group(name)
                obs["robot0_eef_pos"] = rows[f"{prefix}state"][here]
                obs.create_dataset("object", data=rows[f"{prefix}object"][here], compression="gzip")
                obs["agentview_image"] = np.zeros((here.sum(), 4, 4, 3), np.uint8)
        file["mask/some"] = np.array([b"demo_2", b"demo_0"])
    return rows


def features() -> dict[str, Any]:
    """What ``write_lerobot`` says of its columns."""
    one = {"shape": [1], "names": None}
    return {
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
        "observation.images.top": {"dtype": "video", "shape": [3, 4, 4], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "next.reward": {"dtype": "float32", **one},
        "next.done": {"dtype": "bool", **one},
        "frame_index": {"dtype": "int64", **one},
        "episode_index": {"dtype": "int64", **one},
    }


def write_lerobot(folder: Path, *, without: str = "") -> dict[str, np.ndarray]:
    """A LeRobotDataset of version 3 in two data files; the rows in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = episodes()
    for name in ("meta/episodes/chunk-000", "data/chunk-000"):
        (folder / name).mkdir(parents=True)
    told = {name: value for name, value in features().items() if name != without}
    info = {"codebase_version": "v3.0", "robot_type": "so100", "fps": 30, "features": told}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    state = pa.array(rows["state"].astype(np.float32).reshape(-1))
    columns = {
        "observation.state": pa.FixedSizeListArray.from_arrays(state, 3),
        "action": pa.array(list(rows["action"].astype(np.float32)), pa.list_(pa.float32())),
        "next.reward": pa.array(rows["reward"].astype(np.float32)),
        "next.done": pa.array(rows["done"]),
        "frame_index": pa.array(rows["frame"]),
        "episode_index": pa.array(rows["episode"]),
    }
    table = pa.table({name: column for name, column in columns.items() if name != without})
    pq.write_table(table.slice(0, 15), folder / "data" / "chunk-000" / "file-000.parquet")
    pq.write_table(table.slice(15), folder / "data" / "chunk-000" / "file-001.parquet")
    meta = pa.table({"episode_index": list(range(3)), "length": list(LENGTHS)})
    pq.write_table(meta, folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    return rows


def write_minari(folder: Path) -> dict[str, np.ndarray]:
    """A set as Minari lays it out, ``data/metadata.json`` and ``data/main_data.hdf5``; the rows."""
    import h5py

    rows, data = episodes(), folder / "data"
    data.mkdir(parents=True)
    box = {"type": "Box", "dtype": "float32"}
    seen = {**box, "shape": [3], "low": [-np.inf] * 3, "high": [np.inf] * 3}
    given = {**box, "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    spec = {"id": "Pendulum-v1", "entry_point": "a:B", "max_episode_steps": 12, "kwargs": {}}
    said = {
        "dataset_id": folder.name, "total_episodes": len(LENGTHS), "total_steps": ROWS,
        "data_format": "hdf5", "minari_version": "0.5.4",
        "observation_space": json.dumps(seen), "action_space": json.dumps(given),
        "env_spec": json.dumps(spec), "ref_min_score": -1.0, "ref_max_score": 3.0,
    }  # fmt: skip
    (data / "metadata.json").write_text(json.dumps(said))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number in range(len(LENGTHS)):
            here = rows["episode"] == number
            one = file.create_group(f"episode_{number}")
            one.attrs["total_steps"] = int(here.sum())
            last = rows["next_state"][here][-1:]
            one["observations"] = np.concatenate([rows["state"][here], last]).astype(np.float32)
            one["actions"] = rows["action"][here].astype(np.float32)
            one["rewards"] = rows["reward"][here]
            one["terminations"] = rows["done"][here]
            one["truncations"] = rows["last"][here] & ~rows["done"][here]
    return rows


def write_own_npz(path: Path, **change: Any) -> dict[str, np.ndarray]:
    """OGBench's names, with rewards and masks; the rows in it."""
    rows = episodes()
    arrays = {
        "observations": rows["state"].astype(np.float32),
        "actions": rows["action"].astype(np.float32),
        "terminals": rows["last"],
        "rewards": rows["reward"].astype(np.float32),
        "masks": (~rows["done"]).astype(np.float32),
    }
    np.savez(path, **{k: v for k, v in {**arrays, **change}.items() if v is not None})
    return rows


def refused(source: Path, says: str, kind: type[FlowPolicyError] = CorruptFile, **how: Any) -> str:
    """The error is of that kind and names the source; the source stays and nothing else does."""
    before = _sum(source)
    out = source.parent / "unpacked" / "columns"
    out.parent.mkdir(exist_ok=True)
    what = "lerobot" if source.is_dir() else "robomimic"
    with pytest.raises(kind, match=says) as caught:
        read_foreign(what, source, out, how.pop("options", {}), Limits(**how))
    assert type(caught.value) is kind
    assert str(source) in str(caught.value)
    assert list(out.parent.iterdir()) == []
    assert _sum(source) == before
    return str(caught.value)


def _sum(source: Path) -> str:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
