"""These tests compile much and compute little."""

import pytest

from quick import quick_compilation


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Compiles quickly."""
    with quick_compilation():
        yield
