"""What Minari's sets say of themselves, and where they lie; D4RL's names for them.

``metadata.json`` is all that is read here. Nothing of it is executed: the environment it names is
told, as text and numbers, and looked up in Gymnasium's registry by whoever makes it.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.boxes import ActionBox
from flowpolicy.errors import (
    CorruptFile,
    FlowPolicyError,
    InvalidConfig,
    InvalidData,
    MissingData,
    unknown_name,
)
from flowpolicy.readers import Limits, parse_object, read_object

_NAME = re.compile(r"[-\w]+(/[-\w]+){0,8}")
_BOXES = re.compile(r"-?Infinity|NaN")

_LEVELS = ("medium", "expert")
_RUNNERS = ("halfcheetah", "hopper", "walker2d", "ant")
_MAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
_POINTS = ("open", "umaze", "medium", "large")
_HANDS = ("pen", "hammer", "door", "relocate")
_KITCHENS = ("complete", "mixed", "partial")

D4RL: dict[str, str] = {
    **{f"{hand}-{who}-v1": f"D4RL/{hand}/{who}-v2" for hand in _HANDS
       for who in ("human", "cloned", "expert")},
    **{f"antmaze-{maze}-v2": f"D4RL/antmaze/{maze}-v1" for maze in _MAZES},
    **{f"maze2d-{maze}{dense}-v1": f"D4RL/pointmaze/{maze}{dense}-v2" for maze in _POINTS
       for dense in ("", "-dense")},
    **{f"kitchen-{rows}-v0": f"D4RL/kitchen/{rows}-v2" for rows in _KITCHENS},
    **{f"{runner}-{level}-v2": f"mujoco/{runner}/{level}-v0" for runner in _RUNNERS
       for level in _LEVELS},
}  # fmt: skip
"""D4RL's names and the Minari sets that carry them on. Hands and kitchen hold D4RL's own rows;
mazes were collected anew in the newer environments, and so were the runners (MuJoCo v5), whose
returns must not be compared with D4RL's."""


@dataclasses.dataclass(frozen=True)
class World:
    """The environment a set names: its registered id, and what it was made with."""

    id: str
    entry_point: str
    max_steps: int
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
    """What a set says of itself.

    observations: shapes of one observation by entry; the only entry of a plain one is ""
    lowest, highest: reference returns of a random and of an expert policy, where they are known
    world: the environment for evaluation where the set names one, else that of the collection
    """

    name: str
    folder: Path
    episodes: int
    steps: int
    observations: Mapping[str, tuple[int, ...]]
    actions: ActionBox
    lowest: float | None
    highest: float | None
    world: World | None
    minari: str

    def normalised(self, returns: float) -> float:
        """100 (returns - lowest) / (highest - lowest), D4RL's normalised score.

        Raises ``InvalidData`` where the set has no reference returns.
        """
        if self.lowest is None or self.highest is None or self.lowest == self.highest:
            raise InvalidData(
                f"{self.name}: the set has no reference returns (ref_min_score, ref_max_score), "
                "so nothing can be normalised by them"
            )
        return 100.0 * (returns - self.lowest) / (self.highest - self.lowest)


def name_of(name: str) -> str:
    """Minari's name of a set, also for D4RL's (``pen-human-v1``)."""
    if not _NAME.fullmatch(name):
        raise unknown_name("data set", name, D4RL)
    if "/" in name or name in D4RL or (folder_of(name) / "metadata.json").is_file():
        return D4RL.get(name, name)
    if re.match("|".join((*_RUNNERS, *_HANDS, "antmaze", "maze2d", "kitchen")), name):
        raise unknown_name("data set of D4RL that Minari has", name, D4RL)
    return name


def folder_of(name: str) -> Path:
    """Where Minari keeps the set ``name``: under $MINARI_DATASETS_PATH or ~/.minari/datasets."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root or Path.home() / ".minari" / "datasets") / name / "data"


def header(name: str, limits: Limits = Limits()) -> Header:
    """What the set ``name`` says of itself.

    Raises ``MissingData`` with the command that fetches it, ``CorruptFile`` naming the file and the
    field, ``InvalidData`` where it is of a kind that is not read.
    """
    name = name_of(name)
    folder = folder_of(name)
    path = folder / "metadata.json"
    if not path.is_file():
        raise MissingData(
            f"there is no Minari set {name} at {folder.parent}; fetch it with: "
            f"minari download {name}"
        )
    said = read_object(path, limits)
    if said.get("data_format", "hdf5") != "hdf5":
        raise InvalidData(f"{path}: data_format must be 'hdf5', got {said['data_format']!r}")
    try:
        action = _space(said, "action_space", path)
        return Header(
            name=name,
            folder=folder,
            episodes=_count(said, "total_episodes"),
            steps=_count(said, "total_steps"),
            observations=_entries(_space(said, "observation_space", path), path),
            actions=_action_box(action, f"{path}: action_space"),
            lowest=_score(said, "ref_min_score"),
            highest=_score(said, "ref_max_score"),
            world=_world(said, path),
            minari=str(said.get("minari_version", "")),
        )
    except FlowPolicyError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CorruptFile(f"{path}: {type(error).__name__}: {error}") from None


def _space(said: Mapping[str, Any], field: str, path: Path) -> dict[str, Any]:
    """A space as Minari writes it: JSON within JSON, unbounded ends as a word that is none."""
    if not isinstance(said.get(field), str):
        raise CorruptFile(f"{path}: {field} is missing, or no text")
    text = _BOXES.sub("null", said[field])
    return parse_object(text.encode(), f"{path}: {field}")


def _entries(space: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the entries that are Boxes; others cannot be asked for."""
    where = f"{path}: observation_space"
    if space.get("type") == "Box":
        return {"": _shape(space, where)}
    if space.get("type") != "Dict" or not isinstance(space.get("subspaces"), dict):
        raise InvalidData(f"{where} must be a Box, or a Dict of Boxes, got {space.get('type')!r}")
    inner = {k: v for k, v in space["subspaces"].items() if v.get("type") == "Box"}
    if not inner:
        raise InvalidData(f"{where} has no entry that is a Box")
    return {name: _shape(sub, f"{where}, {name[:80]!r}") for name, sub in inner.items()}


def _shape(space: Mapping[str, Any], where: str) -> tuple[int, ...]:
    shape = space.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise CorruptFile(f"{where}: shape must be whole numbers above 0, got {shape!r}")
    return tuple(shape)


def _action_box(space: Mapping[str, Any], where: str) -> ActionBox:
    if space.get("type") != "Box" or not str(space.get("dtype", "")).startswith("float"):
        told = f"{space.get('type')!r} of {space.get('dtype')!r}"
        raise InvalidData(f"{where} must be a Box of floats, got {told}")
    low, high = (np.asarray(_bounds(space[end]), np.float64) for end in ("low", "high"))
    if low.shape != _shape(space, where):
        raise CorruptFile(f"{where}: low has shape {low.shape}, and shape is {space['shape']}")
    try:
        return ActionBox.of(low, high, where)
    except InvalidConfig as error:  # nothing that its reader chose
        raise InvalidData(str(error)) from None


def _bounds(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_bounds(value) for value in tree]
    return math.inf if tree is None else float(tree)


def _count(said: Mapping[str, Any], field: str) -> int:
    value = said[field]
    if type(value) is not int or not 0 < value < 2**40:
        raise ValueError(f"{field} must be a whole number above 0, got {value!r}")
    return value


def _score(said: Mapping[str, Any], field: str) -> float | None:
    value = said.get(field)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise ValueError(f"{field} must be a number, got {value!r}")
    return float(value)


def _world(said: Mapping[str, Any], path: Path) -> World | None:
    field = "eval_env_spec" if said.get("eval_env_spec") else "env_spec"
    text = said.get(field)
    if text is None:
        return None
    if not isinstance(text, str):
        raise CorruptFile(f"{path}: {field} must be text")
    spec = parse_object(text.encode(), f"{path}: {field}")
    if spec.get("additional_wrappers"):
        raise InvalidData(
            f"{path}: {field} asks for wrappers, and none is applied because a file says so; "
            "wrap the environment yourself"
        )
    steps, options = spec.get("max_episode_steps") or 0, spec.get("kwargs") or {}
    sound = isinstance(spec.get("id"), str) and type(steps) is int and isinstance(options, dict)
    if not sound or not isinstance(spec.get("entry_point"), str):
        raise CorruptFile(f"{path}: {field} does not tell an environment")
    kept = {name: value for name, value in options.items() if name != "render_mode"}
    return World(spec["id"], spec["entry_point"], steps, kept)
