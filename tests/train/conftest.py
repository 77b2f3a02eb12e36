"""These tests compile much and compute little; many of them look at one tiny run."""

import pytest
import small_runs
from moments import playing


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """20 offline updates, 60 environment steps in chunks of 2, three evaluation episodes."""
    return small_runs.train(tmp_path_factory.mktemp("run") / "r")


@pytest.fixture(scope="session")
def play():
    """``play(plan, executor)``: runs that nobody interrupts, to be interrupted."""
    with playing() as found:
        yield found
