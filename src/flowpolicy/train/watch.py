"""Who is told how a run is going: the loop speaks to a ``Watch`` and knows nothing of screens."""

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from flowpolicy.train.folder import EvaluationRow


@runtime_checkable
class Watch(Protocol):
    """Is told of progress."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """A phase of ``total`` units begins."""
        ...

    def advance(self, done: int) -> None:
        """``done`` units of the phase are over."""
        ...

    def compiling(self, what: str) -> contextlib.AbstractContextManager[None]:
        """A program is being compiled for as long as the context lasts."""
        ...

    def metrics(self, line: dict[str, Any]) -> None:
        """A line of metrics was written."""
        ...

    def evaluation(self, row: EvaluationRow) -> None:
        """An evaluation was written."""
        ...

    def say(self, text: str) -> None:
        """Something worth a line happened."""
        ...


class Silent:
    """Says nothing."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, done: int) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Nothing."""
        del what
        yield

    def metrics(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def evaluation(self, row: EvaluationRow) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""
