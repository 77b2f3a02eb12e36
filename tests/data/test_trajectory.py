"""The trajectory view against a loop over rows in plain Python, on random streams of episodes."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_chunk import STALE, _rows

from flowpolicy.data.chunk import View
from flowpolicy.data.replay import UniformDraw, sample
from flowpolicy.data.trajectory import TrajectoryView
from flowpolicy.errors import InvalidConfig

GAMMA = 0.8
SIZES = [(1, 1), (3, 1), (2, 2), (2, 3), (3, 4)]
compiled = {
    size: jax.jit(TrajectoryView(length=size[0], history=size[1], discount=GAMMA)) for size in SIZES
}


@st.composite
def windows(draw):
    """Length and history, a window of rows, of which the last may not exist."""
    size = draw(st.sampled_from(SIZES))
    h = TrajectoryView(*size).horizon
    kind = st.tuples(st.sampled_from([-1.0, 0.5]), st.booleans(), st.booleans())
    kinds = draw(st.lists(kind, min_size=h, max_size=h))
    missing = draw(st.integers(0, h - 1))
    return size, kinds, [i < h - missing for i in range(h)]


@hypothesis.settings(max_examples=300)
@hypothesis.given(windows())
def test_the_view_against_the_loop(window):
    """Points, mask, history, and the one step's reward, discount, next observation and weight."""
    (length, history), kinds, exists = window
    now = max(history - 1, 1)
    made = compiled[length, history](_rows(kinds, exists), jnp.asarray(exists))
    if not exists[now]:
        assert made.weight == 0.0
        assert not np.any(made.mask.reshape(-1, 2)[1:])
        return
    first = now
    while first > 0 and not kinds[first - 1][2]:
        first -= 1
    points, mask = np.zeros((length + 1, 2)), np.zeros((length + 1, 2))
    if first < now:
        points[0], mask[0] = (now - 1) / 10, 1
    for i in range(length):
        if not exists[now + i]:
            break
        points[i + 1], mask[i + 1] = (now + i) / 10, 1
        if kinds[now + i][2]:
            break
    np.testing.assert_allclose(made.action, points.reshape(-1), atol=1e-7)
    np.testing.assert_array_equal(made.mask, mask.reshape(-1))

    seen = [max(i, first) for i in range(now + 1 - history, now + 1)]
    after = [*seen[1:], now + 0.5]
    shape = (1,) if history == 1 else (history, 1)
    np.testing.assert_allclose(made.obs, np.reshape(seen, shape))
    np.testing.assert_allclose(made.next_obs, np.reshape(after, shape))
    reward, terminated, _ = kinds[now]
    assert made.reward == pytest.approx(reward)
    assert made.discount == pytest.approx(0.0 if terminated else GAMMA)
    assert made.weight == 1.0
    assert not np.any(np.abs(made.obs) == STALE)


def test_it_is_a_view_that_the_replay_draws_with(key):
    """A window is the rows before the step and those from it on; observations may be trees."""
    view = TrajectoryView(length=3, history=2, discount=GAMMA)
    assert isinstance(view, View)
    assert (view.horizon, view.chunk, view.before) == (4, 1, 1)
    rows = _rows([(0.0, False, i % 5 == 4) for i in range(20)], [True] * 20)
    fields = lambda x: {"a": x, "b": jnp.tile(jnp.asarray(x), (1, 3))}  # noqa: E731
    rows = type(rows)(
        fields(rows.obs), rows.action, rows.reward, rows.terminated, rows.ended,
        fields(rows.next_obs),
    )  # fmt: skip
    made = sample(key, jax.tree.map(jnp.asarray, rows), None, view, UniformDraw())
    assert made.action.shape == made.mask.shape == (8,)
    assert jax.tree.map(jnp.shape, made.obs) == {"a": (2, 1), "b": (2, 3)}
    assert jax.tree.map(jnp.shape, made.next_obs) == {"a": (2, 1), "b": (2, 3)}


@pytest.mark.parametrize("wrong", [{"length": 0}, {"history": 0}, {"discount": 1.0}])
def test_sizes_that_make_no_sense_are_refused(wrong):
    """With what is allowed."""
    with pytest.raises(InvalidConfig, match="trajectory_view needs"):
        TrajectoryView(**wrong)
