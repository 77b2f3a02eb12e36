"""Options of every command that trains: what it uses of the machine, and who is told."""

import dataclasses
from typing import Annotated

import tyro

from flowpolicy.train.hardware import Hardware


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The fields of ``Hardware``."""

    workers: int = 0
    """Processes that step environments; 0: none but this one."""
    overlap: bool = True
    """Step environments while the device computes; --no-overlap waits for it, with the same result
    and shares of time that say what each part takes alone."""
    seed_devices: int = 1
    """Devices that share the seeds out."""
    batch_devices: int = 1
    """Devices that share every batch out."""
    host_rows: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the offline rows in the host's memory."""

    def hardware(self) -> Hardware:
        """Processes and devices, as the options have them."""
        return Hardware(
            workers=self.workers,
            overlap=self.overlap,
            seed_devices=self.seed_devices,
            batch_devices=self.batch_devices,
            host_rows=self.host_rows,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToldOptions:
    """Who is told of progress."""

    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """No progress."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write TensorBoard event files (extra: tensorboard)."""
    wandb: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also log to Weights & Biases, offline unless WANDB_MODE is set (extra: wandb)."""
