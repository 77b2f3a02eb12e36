"""Where the wall time of a phase goes."""

import time

PARTS = ("environment", "policy", "updates", "checkpoint", "evaluation")


class Clock:
    """Wall seconds of one phase by what the training thread was waiting for or doing.

    ``updates`` is the time spent waiting for them; what runs while environments step is not seen.
    What is left over, ``rest``, is the loop's own.
    """

    def __init__(self) -> None:
        """Nothing has been timed."""
        self._spent: dict[str, float] = {name: 0.0 for name in (*PARTS, "rest")}
        self._mark = time.perf_counter()

    def start(self) -> None:
        """From here on; what was before is left out."""
        self._mark = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap went to ``name``."""
        now = time.perf_counter()
        self._spent[name] += now - self._mark
        self._mark = now

    def rest(self) -> None:
        """The time since the last lap went to none of the parts."""
        self.lap("rest")

    def state(self) -> dict[str, float]:
        """The seconds so far."""
        return dict(self._spent)

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from ``state``; an empty one is the beginning."""
        self._spent |= {name: state[name] for name in self._spent if name in state}

    def shares(self) -> dict[str, float]:
        """Each part as a share of the total, and the total in seconds."""
        total = sum(self._spent.values())
        shares = {f"time/{k}": v / max(total, 1e-9) for k, v in self._spent.items()}
        return {**shares, "time/seconds": total}
