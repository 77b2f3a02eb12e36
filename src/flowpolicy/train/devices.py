"""Where arrays lie: on one device, or shared out over a mesh by seed and by sample."""

from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flowpolicy.errors import InvalidConfig
from flowpolicy.train.hardware import Hardware

T = TypeVar("T")
SEEDS, BATCH = "seeds", "batch"


class Devices:
    """The devices of a run. On a single one nothing is placed by hand, as without this class."""

    def __init__(self, hardware: Hardware, seeds: int, batch: int) -> None:
        """Raises ``InvalidConfig`` where there are too few devices, or the seeds or the samples of
        a batch cannot be shared out evenly.
        """
        shape = hardware.seed_devices, hardware.batch_devices
        _check_divides("seed_devices", shape[0], "number of seeds", seeds)
        _check_divides("batch_devices", shape[1], "batch", batch)
        count, there = shape[0] * shape[1], jax.devices()
        if count > len(there):
            raise InvalidConfig(
                f"hardware.seed_devices * hardware.batch_devices is {count}, there are "
                f"{len(there)} devices ({there[0].device_kind})"
            )
        self._shape = shape
        self._mesh = None
        if count > 1:
            grid = np.asarray(there[:count]).reshape(shape)
            self._mesh = Mesh(grid, (SEEDS, BATCH), axis_types=(AxisType.Auto, AxisType.Auto))

    @property
    def record(self) -> dict[str, str]:
        """What a checkpoint says of it: sums over a batch have another order on another mesh."""
        return {} if self._mesh is None else {"mesh": f"{self._shape[0]} x {self._shape[1]}"}

    @property
    def seed_axis(self) -> str | None:
        """The name by which a vmap over seeds is shared out."""
        return None if self._mesh is None else SEEDS

    def by_seed(self, tree: T) -> T:
        """Arrays with a leading seed axis, each seed on its devices."""
        return self._put(tree, PartitionSpec(SEEDS))

    def everywhere(self, tree: T) -> T:
        """Arrays that all seeds share, a copy on every device."""
        return self._put(tree, PartitionSpec())

    def by_sample(self, tree: T) -> T:
        """Within a program: the samples of one seed's batch, shared out."""
        if self._mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(
            tree, NamedSharding(self._mesh, PartitionSpec(BATCH))
        )

    def _put(self, tree: T, spec: PartitionSpec) -> T:
        if self._mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, spec))


def _check_divides(field: str, devices: int, what: str, size: int) -> None:
    if size % devices:
        allowed = ", ".join(str(k) for k in range(1, size + 1) if size % k == 0)
        raise InvalidConfig(
            f"hardware.{field} must divide the {what}, {size}: one of {allowed}; got {devices}"
        )
