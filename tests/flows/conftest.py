"""Fixtures of the flow tests."""

import jax
import pytest
from gaussian import SCHEDULES


@pytest.fixture(params=SCHEDULES.values(), ids=SCHEDULES.keys())
def schedule(request):
    """Each interpolant with its closed forms."""
    return request.param


@pytest.fixture
def x64():
    """Double precision, so that a tolerance is about the mathematics and not about rounding."""
    with jax.enable_x64(True):
        yield
