"""What the disk refuses, as one kind of error."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flowpolicy.errors import FlowPolicyError, StorageFailed


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Around what writes ``path``: raises ``StorageFailed`` naming it where the disk refuses."""
    try:
        yield
    except FlowPolicyError:  # some are OSErrors, and say what happened already
        raise
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error}") from error
