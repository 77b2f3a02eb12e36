"""Chunk views against a loop over rows in plain Python, on random streams of episodes.

A window is drawn from a stream of rows in time order in which trajectories end by termination or
by time-out, rows may be terminated in the middle of a trajectory (relabelled play data), and the
newest rows may not exist yet (the head of a ring, the end of a data set).
"""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.data import chunk
from flowpolicy.data.chunk import ChunkView, NStepView, ShorterReturnView, View
from flowpolicy.errors import InvalidConfig
from flowpolicy.types import Rows

GAMMA, LONGEST = 0.8, 4
STALE = 1e6  # what stands in rows that do not exist; it must show up nowhere


def _rows(kinds, exists):
    """Rows numbered from 0; ``kinds`` holds (reward, terminated, ended) of each."""
    number = np.arange(len(kinds), dtype=np.float32)
    reward = np.array([k[0] for k in kinds], np.float32)
    there = np.array(exists)
    return Rows(
        obs=np.where(there, number, STALE)[:, None].astype(np.float32),
        action=np.where(there, number / 10, STALE)[:, None].repeat(2, 1).astype(np.float32),
        reward=np.where(there, reward, STALE).astype(np.float32),
        terminated=np.array([k[1] for k in kinds]),
        ended=np.array([k[2] for k in kinds]),
        next_obs=np.where(there, number + 0.5, STALE)[:, None].astype(np.float32),
    )


def _reference(kinds, exists):
    """Row by row: which rows are executed, the return, whether it terminates."""
    real, gain, value_stops = [], 0.0, False
    for i, (reward, terminated, ended) in enumerate(kinds):
        if not exists[i]:
            break
        real.append(i)
        if not value_stops:
            gain += GAMMA**i * reward
        value_stops = value_stops or terminated
        if ended:
            break
    cut = bool(real) and kinds[real[-1]][2]
    return real, gain, value_stops, cut


@st.composite
def windows(draw):
    """A window of 1 to 4 rows, of which the last may not exist.

    A row may end by time-out, by termination, by both, or be terminated and go on.
    """
    h = draw(st.integers(1, LONGEST))
    kind = st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), st.booleans(), st.booleans())
    kinds = draw(st.lists(kind, min_size=h, max_size=h))
    missing = draw(st.integers(0, h - 1))
    return kinds, [i < h - missing for i in range(h)]


compiled = {
    (view, h): jax.jit(view(h, GAMMA))
    for view in (ChunkView, NStepView, ShorterReturnView)
    for h in range(1, LONGEST + 1)
}


def _check_common(made, kinds, exists):
    real, gain, _, _ = _reference(kinds, exists)
    mask = np.zeros((len(kinds), 2))
    mask[real] = 1
    np.testing.assert_array_equal(made.mask, mask.reshape(-1))
    action = np.arange(len(kinds))[:, None].repeat(2, 1) / 10
    np.testing.assert_allclose(made.action, (mask * action).reshape(-1), atol=1e-7)
    np.testing.assert_allclose(made.reward, gain, atol=1e-5)
    assert made.obs == 0.0


@hypothesis.settings(max_examples=300)
@hypothesis.given(windows())
def test_chunk_view_against_the_loop(window):
    """Mask, return, discount gamma^h or 0, weight 1 only where the last row is real."""
    kinds, exists = window
    h = len(kinds)
    made = compiled[ChunkView, h](_rows(kinds, exists), jnp.array(exists))
    _check_common(made, kinds, exists)
    real, _, stops, _ = _reference(kinds, exists)
    assert made.weight == float(len(real) == h)
    np.testing.assert_allclose(made.discount, 0.0 if stops else GAMMA**h, rtol=1e-6)
    if len(real) == h:
        assert made.next_obs == h - 0.5


@hypothesis.settings(max_examples=300)
@hypothesis.given(windows())
def test_shorter_return_view_against_the_loop(window):
    """The same, with gamma^n and the observation after the last of n real rows.

    Weight 0 is left for a chunk that the head of the ring, and no end, cuts short.
    """
    kinds, exists = window
    h = len(kinds)
    made = compiled[ShorterReturnView, h](_rows(kinds, exists), jnp.array(exists))
    _check_common(made, kinds, exists)
    real, _, stops, cut = _reference(kinds, exists)
    n = len(real)
    assert made.weight == float(n == h or cut)
    np.testing.assert_allclose(made.discount, 0.0 if stops else GAMMA**n, rtol=1e-6)
    assert made.next_obs == n - 0.5


@hypothesis.settings(max_examples=300)
@hypothesis.given(windows())
def test_n_step_view_against_the_loop(window):
    """The first action alone, real always, with the return, discount and weight of h rows."""
    kinds, exists = window
    h = len(kinds)
    made = compiled[NStepView, h](_rows(kinds, exists), jnp.array(exists))
    real, gain, stops, _ = _reference(kinds, exists)
    assert (made.action.tolist(), made.mask.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    np.testing.assert_allclose(made.reward, gain, atol=1e-5)
    np.testing.assert_allclose(made.discount, 0.0 if stops else GAMMA**h, rtol=1e-6)
    assert (made.obs, made.weight) == (0.0, float(len(real) == h))
    if len(real) == h:
        assert made.next_obs == h - 0.5


@pytest.mark.parametrize("view", [ChunkView, NStepView, ShorterReturnView])
@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_one_row_is_the_plain_transition(view, terminated, ended):
    """h = 1: (s, a, r, gamma (1 - terminated), s'), everything real, weight 1."""
    made = view(1, GAMMA)(_rows([(2.0, terminated, ended)], [True]), jnp.array([True]))
    assert (made.obs, made.reward, made.next_obs, made.weight) == (0.0, 2.0, 0.5, 1.0)
    assert made.discount == pytest.approx(0.0 if terminated else GAMMA)
    assert made.mask.tolist() == [1.0, 1.0]


go, goal, over, success = (-1.0, False, False), (0.0, True, False), (-1.0, False, True), (
    0.0, True, True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "qc", "shorter"),
    [
        # (weight, discount, reward) of each view; g = 0.8
        ([go, go, go], (1, GAMMA**3, -2.44), (1, GAMMA**3, -2.44)),
        ([go, go, success], (1, 0.0, -1.8), (1, 0.0, -1.8)),
        ([go, success, go], (0, 0.0, -1.0), (1, 0.0, -1.0)),
        ([go, go, over], (1, GAMMA**3, -2.44), (1, GAMMA**3, -2.44)),
        ([go, over, go], (0, GAMMA**3, -1.8), (1, GAMMA**2, -1.8)),
        ([go, goal, go], (1, 0.0, -1.0), (1, 0.0, -1.0)),
    ],
)
def test_the_named_cases_by_hand(kinds, qc, shorter):
    """Nothing, success on the last row, before it; time-out on the last row, before it; a goal
    reached inside a trajectory that goes on, whose later rewards do not count."""
    for view, wanted in ((ChunkView, qc), (ShorterReturnView, shorter)):
        made = view(3, GAMMA)(_rows(kinds, [True] * 3), jnp.ones(3, bool))
        got = [float(x) for x in (made.weight, made.discount, made.reward)]
        assert got == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("view", [ChunkView, ShorterReturnView])
def test_observations_are_trees(view):
    """A mapping of fields is cut field by field."""
    rows = _rows([go, over], [True, True])
    obs, after = {"a": rows.obs, "b": rows.obs + 7}, {"a": rows.next_obs, "b": rows.next_obs + 7}
    both = Rows(obs, rows.action, rows.reward, rows.terminated, rows.ended, after)
    made = view(2, GAMMA)(both, jnp.ones(2, bool))
    assert (made.obs["a"], made.obs["b"]) == (0.0, 7.0)
    assert (made.next_obs["a"], made.next_obs["b"]) == (1.5, 8.5)


@pytest.mark.parametrize(
    ("view", "actions"), [(ChunkView, 3), (NStepView, 1), (ShorterReturnView, 3)]
)
def test_views_are_parts_and_check_their_fields(view, actions):
    """They can be written and read; horizon 0 and a discount above 1 are refused."""
    assert isinstance(view(), View)
    assert (view(3, 0.5).horizon, view(3, 0.5).chunk) == (3, actions)
    assert parts.decode(parts.encode(view(3, 0.5))) == view(3, 0.5)
    for horizon, discount in ((0, 0.9), (2, 1.1), (2, -0.1)):
        with pytest.raises(InvalidConfig, match="horizon >= 1 and discount"):
            view(horizon, discount)


def test_the_named_views_are_those_classes():
    """What a configuration names is the view it says."""
    assert chunk.whole_chunks(3, 0.9) == chunk.ChunkView(3, 0.9)
    assert chunk.shorter_returns(3, 0.9) == chunk.ShorterReturnView(3, 0.9)
    assert chunk.n_step_returns(3, 0.9) == chunk.NStepView(3, 0.9)
