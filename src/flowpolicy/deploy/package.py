"""A package, read and checked: what a policy sees and does, its tensors, its program."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from flowpolicy.deploy.files import CONFIG, PROGRAM, TENSORS, read_folder
from flowpolicy.deploy.units import RECORD, read_units
from flowpolicy.deploy.values import Kind, read_kind
from flowpolicy.errors import CorruptFile
from flowpolicy.readers import parse_object, parse_tensors

FORMAT = 1
FIELDS = frozenset(
    {
        "format", "agent", "spec", "online", "normaliser", "refiner", "chunk",
        "observation", "action", "control_interval_s", "source",
    }
)  # fmt: skip
"""What ``config.json`` of a package holds; ``packaging.write`` says what each is."""


@dataclasses.dataclass(frozen=True)
class Package:
    """The content of a package's folder.

    config:   ``config.json``
    tensors:  arrays by name: parameters, normaliser, constants of the program
    program:  ``program.json``, or None where there is none
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    program: Any

    @property
    def obs_shape(self) -> Any:
        """Shape of an observation, or a mapping from field to shape."""
        fields = self.config["observation"]["fields"]
        shapes = {field["name"]: tuple(field["shape"]) for field in fields}
        return shapes if self.config["observation"]["mapping"] else shapes["obs"]

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        return self.config["action"]["size"]

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self.config["chunk"]

    def inputs(self) -> dict[str, Kind]:
        """The kinds of a program's observations by the inputs' names."""
        if not self.config["observation"]["mapping"]:
            return {"obs": Kind("float32", self.obs_shape)}
        return {f"obs/{k}": Kind("float32", v) for k, v in sorted(self.obs_shape.items())}


def read_package(folder: Path) -> Package:
    """Reads ``folder``; ``MissingData`` or ``CorruptFile`` name the file and what is wrong."""
    files = read_folder(folder)
    config = parse_object(files[CONFIG], str(folder / CONFIG))
    _check(config, str(folder / CONFIG))
    tensors = parse_tensors(files[TENSORS], str(folder / TENSORS))
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CorruptFile(f"{folder / TENSORS}: {name[:80]!r} holds values that are not finite")
    program = None
    if PROGRAM in files:
        program = parse_object(files[PROGRAM], str(folder / PROGRAM))
    return Package(folder, config, tensors, program)


def _check(config: dict[str, Any], source: str) -> None:
    """Format first, then every value that is read without JAX."""
    if config.get("format") != FORMAT:
        raise CorruptFile(f"{source} is not a policy's configuration of format {FORMAT}")
    if set(config) != FIELDS:
        odd = sorted(set(config) ^ FIELDS)
        raise CorruptFile(f"{source} has missing or unknown fields: {', '.join(odd)[:200]}")
    observation, action = config["observation"], config["action"]
    if not isinstance(observation, dict) or not isinstance(action, dict):
        raise CorruptFile(f"{source}: observation and action must be objects")
    fields = observation.get("fields")
    if not isinstance(fields, list) or not all(isinstance(f, dict) for f in fields):
        raise CorruptFile(f"{source}: observation.fields must be a list of objects")
    names = [field.get("name") for field in fields]
    for field in fields:
        read_kind(field.get("dtype"), field.get("shape"))
    if not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise CorruptFile(f"{source}: observation fields need distinct names")
    if observation.get("mapping") is not True and names != ["obs"]:
        raise CorruptFile(f"{source}: an observation that is no mapping is one field, 'obs'")
    for what, value in (("chunk", config["chunk"]), ("action.size", action.get("size"))):
        if type(value) is not int or not 1 <= value <= 2**20:
            raise CorruptFile(f"{source}: {what} must be a whole number above 0")
    spec = config["spec"]
    if not isinstance(spec, dict) or spec.get("action") != action["size"]:
        raise CorruptFile(f"{source}: action.size must be spec.action, got {action['size']}")
    if RECORD in action:
        read_units(action[RECORD], action["size"], source)
