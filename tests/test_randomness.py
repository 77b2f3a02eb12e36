"""Streams that stand in for numpy's global generator."""

import numpy as np
import pytest

from flowpolicy.randomness import GlobalNumpy


def _draw() -> list[float]:
    return [np.random.uniform(), np.random.normal(), float(np.random.randint(1000))]


def _draw_from(stream: GlobalNumpy) -> list[float]:
    with stream.active():
        return _draw()


def test_streams_alternate():
    alone = GlobalNumpy(1)
    expected = [_draw_from(alone), _draw_from(alone)]
    one, two = GlobalNumpy(1), GlobalNumpy(2)
    first = _draw_from(one)
    other = _draw_from(two)
    assert [first, _draw_from(one)] == expected
    assert other not in expected


@pytest.mark.parametrize("normals", [0, 1, 2])
def test_what_was_there_goes_on_as_if_nothing_had_happened(normals: int):
    np.random.seed(4)
    np.random.normal(size=normals)
    expected = [_draw(), _draw()]
    np.random.seed(4)
    np.random.normal(size=normals)
    first = _draw()
    _draw_from(GlobalNumpy(9))
    with pytest.raises(ValueError, match="high <= 0"), GlobalNumpy(9).active():
        np.random.randint(-1)
    assert [first, _draw()] == expected


def test_streams_may_nest():
    outer, inner = GlobalNumpy(1), GlobalNumpy(2)
    with outer.active():
        first = _draw()
        nested = _draw_from(inner)
        second = _draw()
    again = GlobalNumpy(1)
    with again.active():
        assert [first, second] == [_draw(), _draw()]
    assert nested == _draw_from(GlobalNumpy(2))
