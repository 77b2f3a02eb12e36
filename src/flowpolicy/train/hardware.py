"""What a run may use of the machine it is on."""

import dataclasses

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import register


@register("hardware")
@dataclasses.dataclass(frozen=True)
class Hardware:
    """Processes and devices. It decides how fast a run is, not what it computes: results do not
    depend on ``workers`` and ``overlap`` at all, and on the rest up to rounding.
    """

    workers: int = 0
    """Processes that step environments; 0 for none, all in the process that trains. Environments
    are shared out to them, so that more than one helps where several seeds are trained."""
    overlap: bool = True
    """Whether environments step while the device computes the updates; without, every update is
    waited for, and the shares of time say what each part takes alone."""
    seed_devices: int = 1
    """Devices that share the seeds out; their number must divide that of the seeds."""
    batch_devices: int = 1
    """Devices that share every batch out; their number must divide the batch."""
    host_rows: bool = False
    """Whether the offline rows stay in the host's memory, where they do not fit on the device. Rows
    in mapped files (``flowpolicy data convert``) always stay there. Batches are the same."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.workers < 0 or min(self.seed_devices, self.batch_devices) < 1:
            raise InvalidConfig(
                "hardware needs workers >= 0, seed_devices >= 1 and batch_devices >= 1, got "
                f"{self.workers}, {self.seed_devices} and {self.batch_devices}"
            )
