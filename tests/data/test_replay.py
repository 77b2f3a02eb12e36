"""The replay: what windows may hold, where the ring writes, and how often each row is drawn.

Rows are numbered by their observation; actions and rewards are functions of the number, so that
a row from the wrong place shows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy import parts
from flowpolicy.data.chunk import ChunkView, ShorterReturnView
from flowpolicy.data.replay import Draw, OfflineShare, Ring, UniformDraw, sample
from flowpolicy.errors import InvalidConfig
from flowpolicy.types import Rows

H, ONLINE = 3, 1000  # online rows are numbered from 1000, offline rows from 0
compiled_insert = jax.jit(Ring.insert)


def _rows(first, count, period):
    """Rows ``first`` .. ``first + count`` of trajectories of ``period`` steps."""
    number = np.arange(first, first + count)
    last = number % period == period - 1
    x = number.astype(np.float32)
    return Rows(x[:, None], x[:, None] / 4096, x, last & (number % 2 == 0), last, x[:, None] + 0.5)


def _filled(capacity, written, period, padded=5):
    """A ring after ``written`` rows, inserted a few at a time from arrays with padding."""
    ring, at, sizes = Ring.create(_rows(0, 1, period), capacity), 0, [1, 3, 5, 2]
    while at < written:
        count = min(sizes[at % 4], written - at, capacity)
        block = jax.tree.map(lambda x: np.zeros((padded, *x.shape[1:]), x.dtype), _rows(0, 1, 1))
        # padding that would be seen anywhere: an impossible number and a false end
        block = jax.tree.map(lambda x: x + (x.dtype.type(1) if x.dtype == bool else 9e5), block)
        real = _rows(ONLINE + at, count, period)
        for to, x in zip(jax.tree.leaves(block), jax.tree.leaves(real), strict=True):
            to[:count] = x
        ring = compiled_insert(ring, block, jnp.int32(count))
        at += count
    return ring


VIEWS = {
    view: jax.jit(
        lambda ring, starts, view=view: jax.vmap(lambda i: view(*ring.window(i, H)))(starts)
    )
    for view in (ChunkView(H, 0.5), ShorterReturnView(H, 0.5))
}


def _every_window(ring, view):
    """What ``sample`` can return from a ring: one transition for each start it holds."""
    starts = int(ring.oldest) + jnp.arange(ring.capacity)
    made = VIEWS[view](ring, starts)
    return jax.tree.map(lambda x: x[: int(ring.written - ring.oldest)], made)


@pytest.mark.parametrize(
    ("capacity", "written"), [(10, 4), (10, 10), (10, 11), (10, 37), (7, 50), (3, 8), (2, 9)]
)
@pytest.mark.parametrize("period", [1, 2, 4, 100])
@pytest.mark.parametrize("view", VIEWS)
def test_no_window_crosses_an_end_or_the_write_head(capacity, written, period, view):
    """Every start of a ring, filled past its end, against the numbers that belong there.

    The masked rows are start, start + 1, ... up to the trajectory's end or the newest row; the
    action shows which rows they are.
    """
    ring = _filled(capacity, written, period)
    got = _every_window(ring, view)
    newest = ONLINE + written - 1
    starts = range(max(ONLINE, newest - capacity + 1), newest + 1)
    assert got.obs[:, 0].tolist() == [float(i) for i in starts]
    for k, start in enumerate(starts):
        end = start + (-start - 1) % period
        real = list(range(start, min(start + H - 1, end, newest) + 1))
        mask = [1.0] * len(real) + [0.0] * (H - len(real))
        assert got.mask[k].tolist() == mask
        action = [i / 4096 for i in real] + [0.0] * (H - len(real))
        np.testing.assert_allclose(got.action[k], action, atol=1e-7)
        np.testing.assert_allclose(got.reward[k], sum(0.5**j * i for j, i in enumerate(real)))
        whole = len(real) == H
        cut = isinstance(view, ShorterReturnView) and real[-1] == end
        assert got.weight[k] == float(whole or cut)
        if got.weight[k]:
            assert got.next_obs[k, 0] == real[-1] + 0.5


def test_insert_writes_where_it_should_and_padding_nowhere():
    """Row i lies at i modulo the capacity, the oldest are overwritten, the input is not changed."""
    before = _filled(capacity=5, written=3, period=100)
    kept = np.asarray(before.rows.reward).copy()
    after = compiled_insert(before, _rows(ONLINE + 3, 4, 100), jnp.int32(3))
    assert kept.tolist() == [1000, 1001, 1002, 0, 0]
    assert np.array_equal(before.rows.reward, kept)
    assert np.asarray(after.rows.reward).tolist() == [1005, 1001, 1002, 1003, 1004]
    assert (int(after.written), int(after.oldest), after.capacity) == (6, 1, 5)


@pytest.mark.parametrize("capacity", [5, 8])
def test_a_cut_ends_a_trajectory_at_the_newest_row(capacity):
    """Rows of one trajectory, 1000 to 1004 before the cut and 1005 to 1007 after it: a window from
    1003 on ends at 1004, one from 1005 on goes on."""
    ring = compiled_insert(Ring.create(_rows(0, 1, 100), capacity), _rows(ONLINE, 5, 100), 5)
    ring = compiled_insert(jax.jit(Ring.cut)(ring), _rows(ONLINE + 5, 3, 100), 3)
    across, after = (ChunkView(H, 0.5)(*ring.window(jnp.int32(i), H)) for i in (3, 5))
    assert across.mask.tolist() == [1, 1, 0]
    assert after.mask.tolist() == [1, 1, 1]


def test_inserting_nothing_changes_nothing():
    """Count 0, as for a seed that has made all its steps."""
    before = _filled(capacity=5, written=3, period=100)
    after = compiled_insert(before, _rows(0, 4, 100), jnp.int32(0))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


def test_more_rows_at_once_than_fit_leave_the_newest():
    """A chunk longer than the ring: its last rows stay, each in its place."""
    ring = Ring.create(_rows(0, 1, 9), 3)
    after = compiled_insert(ring, _rows(ONLINE, 5, 9), jnp.int32(5))
    assert np.asarray(after.rows.reward).tolist() == [1003, 1004, 1002]


@functools.partial(jax.jit, static_argnames="draw")
def _sample(keys, offline, ring, draw):
    return jax.vmap(lambda k: sample(k, offline, ring, ChunkView(H, 0.5), draw))(keys)


def _draws(count, offline, ring, draw):
    made = _sample(jax.random.split(jax.random.key(1), count), offline, ring, draw)
    return made, np.asarray(made.obs[:, 0]).astype(int)


def test_a_uniform_draw_is_uniform_over_the_union():
    """20 offline and 10 of 25 online rows: each of 30 is drawn 30 000 / 30 times within 6 sigma.

    30 cells, each a binomial of sigma 31: a false alarm in 6e-8 of such tests, were the key new.
    """
    offline, ring = _rows(0, 20, 5), _filled(capacity=10, written=25, period=4)
    _, starts = _draws(30_000, offline, ring, UniformDraw())
    rows = [*range(20), *range(ONLINE + 15, ONLINE + 25)]
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == rows
    sigma = np.sqrt(30_000 * (1 / 30) * (29 / 30))
    assert np.abs(counts - 1000).max() < 6 * sigma


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_offline_rows(share):
    """The share within 6 sigma (2e-9), and uniform on either side.

    A cell's bound is 6.2 or 6.3 of its binomial's sigma: a false alarm in at most 6e-8 of such
    tests, were the key new.
    """
    offline, ring = _rows(0, 20, 5), _filled(capacity=10, written=25, period=4)
    _, starts = _draws(20_000, offline, ring, OfflineShare(share))
    inside = np.mean(starts < ONLINE)
    assert abs(inside - share) <= 6 * np.sqrt(share * (1 - share) / 20_000)
    for side, size in ((starts[starts < ONLINE], 20), (starts[starts >= ONLINE], 10)):
        if len(side):
            counts = np.unique(side, return_counts=True)[1]
            assert len(counts) == size
            assert np.abs(counts - len(side) / size).max() < 6 * np.sqrt(len(side) / size)


@pytest.mark.parametrize("draw", [UniformDraw(), OfflineShare(0.0)])
def test_before_the_first_online_row_everything_is_offline(draw):
    """An empty ring is never read, even where its share is asked to be everything."""
    made, starts = _draws(2000, _rows(0, 20, 5), Ring.create(_rows(0, 1, 5), 10), draw)
    assert set(starts) == set(range(20))
    assert float(made.mask[:, 0].min()) == 1.0


@pytest.mark.parametrize("draw", [UniformDraw(), OfflineShare(0.5)])
def test_windows_of_a_union_stay_on_their_side(draw):
    """The last offline row is followed by nothing, though online rows exist, and the offline rows
    are what they were after the ring went round."""
    offline, ring = _rows(0, 20, 100), _filled(capacity=10, written=25, period=100)
    made, starts = _draws(2000, offline, ring, draw)
    newest = np.where(starts < ONLINE, 19, ONLINE + 24)
    real = np.minimum(newest - starts + 1, H)
    np.testing.assert_array_equal(np.asarray(made.mask).sum(1), real)
    last = starts + real - 1
    gain = sum(np.where(j < real, 0.5**j * (starts + j), 0) for j in range(H))
    np.testing.assert_allclose(made.reward, gain, rtol=1e-6)
    assert np.array_equal(offline.reward, np.arange(20.0))
    whole = np.asarray(made.weight) == 1
    np.testing.assert_array_equal(made.next_obs[whole, 0], last[whole] + 0.5)


def test_one_side_alone():
    """Purely offline and purely online replays are uniform over what there is.

    Ten cells within 6.3 sigma of a binomial: a false alarm in 1e-8 of such tests, were the key new.
    That one of 20 rows is never drawn in 2000 has the probability 6e-44.
    """
    _, starts = _draws(2000, _rows(0, 20, 5), None, UniformDraw())
    assert set(starts) == set(range(20))
    _, starts = _draws(2000, None, _filled(capacity=10, written=25, period=4), UniformDraw())
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == list(range(ONLINE + 15, ONLINE + 25))
    assert np.abs(counts - 200).max() < 6 * np.sqrt(200)


def test_an_empty_online_replay_teaches_nothing():
    """Before any row, all that could be drawn has mask and weight 0."""
    made, _ = _draws(2000, None, Ring.create(_rows(0, 1, 5), 10), UniformDraw())
    assert not np.any(made.weight)
    assert not np.any(made.mask)


def test_the_same_key_draws_the_same_transition(key):
    """A draw is a function of its key."""
    offline, ring = _rows(0, 20, 5), _filled(capacity=10, written=25, period=4)
    one, two = (jax.tree.leaves(_sample(key[None], offline, ring, UniformDraw())) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_what_is_refused():
    """No rows at all, no capacity, a share outside [0, 1]; draws are parts."""
    with pytest.raises(InvalidConfig, match="offline rows, a ring of online rows, or both"):
        sample(jax.random.key(0), None, None, ChunkView(), UniformDraw())
    with pytest.raises(InvalidConfig, match="capacity"):
        Ring.create(_rows(0, 1, 1), 0)
    with pytest.raises(InvalidConfig, match=r"share must be in \[0, 1\], got 1.5"):
        OfflineShare(1.5)
    assert parts.parse("offline_share(share=0.25)") == OfflineShare(0.25)
    assert isinstance(UniformDraw(), Draw)
