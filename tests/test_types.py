"""What an agent is told of its problem makes sense, also where a file says it."""

import pytest

from flowpolicy.errors import InvalidConfig
from flowpolicy.parts import decode, encode
from flowpolicy.types import Spec


@pytest.mark.parametrize("obs", [(29,), (8, 8, 3), (), {"joints": (7,), "image": (2, 2)}])
def test_shapes_come_back(obs):
    spec = Spec(obs, 5, 10)
    assert decode(encode(spec)) == spec


@pytest.mark.parametrize(
    "obs",
    [None, 3, "29", (-1,), (0,), (2.0,), (True,), ("3",), ((2,),), (2**40,), {}, {"a": 3}, [3]],
)
def test_what_is_no_shape_is_refused(obs):
    with pytest.raises(InvalidConfig, match=r"spec\.obs must be a shape"):
        Spec(obs, 5)


@pytest.mark.parametrize(("action", "updates"), [(0, 0), (-1, 0), (2, -1)])
def test_sizes_that_are_none_are_refused(action, updates):
    with pytest.raises(InvalidConfig, match="spec needs action >= 1 and offline_updates >= 0"):
        Spec((2,), action, updates)
