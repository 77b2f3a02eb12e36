"""Ctrl-C and SIGTERM as a flag that the loop looks at between dispatches."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from flowpolicy.errors import FlowPolicyError


class Stopped(FlowPolicyError):
    """A signal ended the run after a checkpoint was written.

    signal: its number. ``exit_code``: 130 after Ctrl-C, as everywhere; 75, "try again later", after
    SIGTERM, by which whoever sent it knows that the run can be gone on with.
    """

    def __init__(self, message: str, number: int) -> None:
        """A message for people and the signal's number."""
        self.args = (message,)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """What a command ends with."""
        return 75 if self.signal == signal.SIGTERM else 128 + self.signal


class Halted(Exception):
    """An evaluation was given up because a stop was asked for; nothing of it is written."""


class StopFlag:
    """Which signal asked for a stop, if any."""

    def __init__(self) -> None:
        """None yet."""
        self.signal: int | None = None

    def __bool__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """The first SIGINT or SIGTERM sets the flag, a second SIGINT interrupts at once.

    Outside the main thread, where Python allows no handlers, signals stay as they are.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if flag.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.signal = number
        # Not print: a signal may arrive in the middle of one.
        os.write(2, b"stopping after a checkpoint; Ctrl-C again to stop at once\n")

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
