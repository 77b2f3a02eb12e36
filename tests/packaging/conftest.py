"""Agents as in ``tests/agents``, runs as in ``tests/train``; much is compiled."""

import sys
from pathlib import Path

import pytest

from quick import quick_compilation

for folder in ("agents", "train"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Compiles quickly."""
    with quick_compilation():
        yield
