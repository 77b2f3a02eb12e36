"""Q-guided beam search against Algorithm 2 by hand, and what can be proved of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import BEST, CURVATURE, STEEPEST, quadratic, scaled

from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.refine import (
    QGBS,
    BestOfN,
    OneStep,
    QGBSKeepBest,
    TrustRegion,
    displace,
    from_noise,
)
from flowpolicy.refine.qgbs import branch, nfe, top

S = (0.1, -0.2)
FIELDS = {"steps": 2, "beam": 3, "branches": 4, "snr": 1.5, "eta": 0.2}


def _by_hand(key, flow, q, s, *, steps, beam, branches, snr, eta, bound=1.0):
    """Algorithm 2 line by line, in Python loops; returns the beams of every round, in order."""
    value = lambda a: float(q(a))  # noqa: E731
    clip = lambda a: jnp.clip(a, -bound, bound)  # noqa: E731
    t = snr / (1 + snr)
    key_start, *keys = jax.random.split(key, 1 + steps)
    beams = [clip(from_noise(k, flow, s)) for k in jax.random.split(key_start, beam)]
    rounds = [beams]
    for key_round in keys:
        keys_branch = iter(jax.random.split(key_round, beam * branches))
        candidates = []
        for a in beams:
            for _ in range(branches):
                noisy = t * a + (1 - t) * jax.random.normal(next(keys_branch), a.shape)
                candidates.append(clip(flow.flow(jnp.asarray(t), jnp.ones(()), noisy, s)))
        selected = sorted(candidates, key=value, reverse=True)[:beam]
        beams = [clip(a + eta * jax.grad(q)(a) / jnp.linalg.norm(jax.grad(q)(a))) for a in selected]
        rounds.append(beams)
    return rounds


@pytest.mark.parametrize("bound", [1.0, 0.35])
def test_qgbs_is_algorithm_2(key, bound):
    """The arg max of the final beams, over the same keys; with a box that cuts and one that cuts
    more.
    """
    flow, s = scaled(0.8), jnp.array(S)
    search = jax.jit(lambda k: QGBS(**FIELDS, bound=bound)(k, flow, quadratic, s))
    for k in jax.random.split(key, 5):
        final = _by_hand(k, flow, quadratic, s, **FIELDS, bound=bound)[-1]
        best = max(final, key=lambda a: float(quadratic(a)))
        np.testing.assert_allclose(search(k), best, atol=1e-5)


def test_the_beams_are_the_best_candidates_in_order(key):
    """Top-M equals sorting by Q."""
    candidates = jax.random.normal(key, (20, 2))
    order = np.argsort([-float(quadratic(a)) for a in candidates])
    for beam in (1, 6, 20):
        expected = candidates[order[:beam]]
        np.testing.assert_array_equal(top(quadratic, candidates, beam), expected)


def test_a_value_that_is_not_a_number_ranks_last(key):
    """The beams are the best of those whose value is known, and only then the others."""
    candidates = jax.random.normal(key, (20, 2))
    blind = lambda a: jnp.where(a[0] > 0, jnp.nan, quadratic(a))  # noqa: E731
    known = sorted((a for a in candidates if a[0] <= 0), key=lambda a: -float(quadratic(a)))
    assert 3 < len(known) < 20
    np.testing.assert_array_equal(top(blind, candidates, 3), known[:3])
    kept = top(blind, candidates, len(known) + 1)
    np.testing.assert_array_equal(kept[:-1], known)
    assert kept[-1][0] > 0


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
def test_a_search_ends_where_the_critic_knows_something(key, search):
    """Nothing of half the box is ever preferred; a policy that is all NaN stays visible."""
    flow, s, refiner = scaled(0.8), jnp.array(S), search(steps=2, beam=3, branches=4, eta=0.05)
    blind = lambda a: jnp.where(a[0] > 0.4, jnp.nan, quadratic(a))  # noqa: E731
    for k in jax.random.split(key, 10):
        assert refiner(k, flow, blind, s)[0] <= 0.4
    assert jnp.isnan(refiner(key, scaled(jnp.nan), quadratic, s)).all()


def test_branches_are_renoised_and_completed_independently(key):
    """beam * branches completions, each beam's in a row, none with the noise of another."""
    beams = jnp.array([[0.5, 0.5], [-0.5, 0.5]])
    t = 0.6
    completed = branch(key, scaled(1.0), jnp.array(S), beams, 3, 1.5)  # the identity completes
    noise = (np.asarray(completed) - t * np.repeat(beams, 3, axis=0)) / (1 - t)
    expected = jax.vmap(lambda k: jax.random.normal(k, (2,)))(jax.random.split(key, 6))
    np.testing.assert_allclose(noise, expected, atol=1e-5)


def test_completion_jumps_to_the_action_and_does_not_follow_the_diagonal(key):
    """X_{t',1} = t' a + ... + (1 - t') u_{t',1}: here it lands on c, and the diagonal nowhere."""
    c, t = jnp.array([0.25, -0.75]), 0.6

    def net(r, t, a, s):
        return jnp.where(t > r, (c - a) / jnp.where(t > r, t - r, 1.0), 1000.0)

    flow = FlowMap(net, 2)
    completed = branch(key, flow, jnp.array(S), jnp.zeros((2, 2)), 3, t / (1 - t))
    np.testing.assert_allclose(completed, np.tile(c, (6, 1)), atol=1e-5)


@pytest.mark.parametrize("bound", [100.0, 0.5])
def test_a_round_loses_at_most_half_the_curvature_times_eta_squared(key, bound):
    """Q(step) >= Q(selected) - lambda_max eta^2 / 2 on a concave quadratic, clipped or not.

    By Taylor: Q gains |grad| eta >= 0 at first order and loses at most lambda_max eta^2 / 2.
    """
    starts = jnp.clip(jax.random.normal(key, (2000, 2)), -bound, bound)
    for eta in (0.05, 0.3, 1.0):
        moved = jax.vmap(lambda a, eta=eta: displace(quadratic, a, eta))(starts)
        moved = jnp.clip(moved, -bound, bound)
        loss = jax.vmap(quadratic)(starts) - jax.vmap(quadratic)(moved)
        assert loss.max() <= 0.5 * STEEPEST * eta**2 + 1e-5


def test_that_bound_is_reached():
    """Just beside the optimum, along the steepest axis: the whole of it is lost."""
    axis = jnp.asarray(np.linalg.eigh(np.asarray(CURVATURE))[1][:, -1], jnp.float32)
    a, eta = jnp.array(BEST) + 1e-4 * axis, 0.3
    loss = quadratic(a) - quadratic(displace(quadratic, a, eta))
    assert loss == pytest.approx(0.5 * STEEPEST * eta**2, rel=5e-3)


def test_a_round_of_qgbs_keeps_that_bound_against_its_selected_beam(key):
    """The search's result is no worse than its best candidate by more than the bound."""
    flow, s = scaled(0.8), jnp.array(S)
    fields = {**FIELDS, "steps": 1, "eta": 0.8}
    search = jax.jit(lambda k: quadratic(QGBS(**fields)(k, flow, quadratic, s)))

    @jax.jit
    def selected(k):
        key_start, key_round = jax.random.split(k, 2)
        starts = jax.vmap(lambda c: from_noise(c, flow, s))(jax.random.split(key_start, 3))
        candidates = branch(key_round, flow, s, jnp.clip(starts, -1, 1), 4, 1.5)
        return quadratic(top(quadratic, jnp.clip(candidates, -1, 1), 1)[0])

    losses = np.array([float(selected(k) - search(k)) for k in jax.random.split(key, 50)])
    assert losses.max() > 0, "the uphill step is taken even where Q falls"
    assert losses.max() <= 0.5 * STEEPEST * 0.8**2 + 1e-5


def _best_start(key, refiner, flow, s):
    """The best of the first beams, which both searches draw from the first of their keys."""
    first = jax.random.split(key, 1 + refiner.steps)[0]
    return BestOfN(refiner.beam)(first, flow, quadratic, s)


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
def test_no_steps_is_best_of_beam(key, search):
    """K = 0."""
    flow, s, refiner = scaled(0.8), jnp.array(S), search(steps=0, beam=5)
    for k in jax.random.split(key, 5):
        best = _best_start(k, refiner, flow, s)
        np.testing.assert_array_equal(refiner(k, flow, quadratic, s), best)


def _hostile():
    """Samples near the optimum, completions far from it."""

    def net(r, t, a, s):
        return jnp.where(r > 0, 5.0, jnp.array(BEST) - 0.9 * a)

    return FlowMap(net, 2)


def _gains(key, search, flow):
    """Q of the result less Q of the best start, for 50 keys."""
    s = jnp.array(S)

    @jax.vmap
    def gain(k):
        found = search(k, flow, quadratic, s)
        return quadratic(found) - quadratic(_best_start(k, search, flow, s))

    return np.asarray(gain(jax.random.split(key, 50)))


def test_keep_best_never_falls_below_its_start(key):
    """However long the step, and however poor the completions; plain QGBS does fall."""
    for flow, eta in ((scaled(0.8), 2.0), (_hostile(), 0.3)):
        assert _gains(key, QGBSKeepBest(steps=1, eta=eta), flow).min() >= -1e-6
    assert _gains(key, QGBS(steps=1, eta=0.3), _hostile()).max() < -0.05


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
def test_the_search_approaches_the_optimum_with_its_steps(key, search):
    """|a - a*| falls from the starts' to less than half a step's length, over 200 keys."""
    flow, s, eta = scaled(0.8), jnp.array(S), 0.1

    def distance(steps):
        refiner = search(steps=steps, beam=4, branches=4, snr=4.0, eta=eta)

        @jax.vmap
        def away(k):
            return jnp.linalg.norm(refiner(k, flow, quadratic, s) - jnp.array(BEST))

        return float(jnp.mean(away(jax.random.split(key, 200))))

    start, one, three = distance(0), distance(1), distance(3)
    assert start > 1.5 * one > 1.5 * three
    assert three < 0.5 * eta


class Counting:
    """A flow that counts each evaluation for one sample, batched or not."""

    action = 2

    def nfe(self, r):
        return 1

    def __init__(self):
        self.calls = 0

    def flow(self, r, t, a, s):
        def count(_):
            self.calls += 1

        jax.debug.callback(count, a)  # under vmap it is called once for each sample
        return 0.5 * a


@pytest.mark.parametrize(
    ("refiner", "expected"),
    [
        (OneStep(), 1),
        (BestOfN(7), 7),
        (TrustRegion(start=BestOfN(3)), 3),
        (QGBS(steps=0, beam=5), 5),
        (QGBS(), 4 * (1 + 1 * 4)),
        (QGBS(steps=2, beam=2, branches=3), 2 * (1 + 2 * 3)),
        (QGBSKeepBest(steps=1, beam=3, branches=2), 3 * (1 + 1 * 2)),
    ],
)
def test_the_number_of_evaluations_is_counted(key, refiner, expected):
    """NFE = M (1 + K B) for the searches: what a flow that counts its calls has seen."""
    flow = Counting()
    refiner(key, flow, quadratic, jnp.array(S)).block_until_ready()
    jax.effects_barrier()
    assert flow.calls == expected == refiner.nfe
    if isinstance(refiner, QGBS | QGBSKeepBest):
        assert nfe(refiner.steps, refiner.beam, refiner.branches) == expected


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
@pytest.mark.parametrize(
    "field", [{"steps": -1}, {"beam": 0}, {"branches": 0}, {"snr": 0.0}, {"eta": -0.1}]
)
def test_searches_refuse_what_makes_no_sense(search, field):
    """The message shows every field, and what it allows."""
    (name,) = field
    with pytest.raises(InvalidConfig, match=f"{name} >.*{name}={field[name]}"):
        search(**field)


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
@pytest.mark.parametrize("field", ["snr", "eta"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_search_refuses_what_is_not_finite(search, field, value):
    """Every action would be NaN, or a corner of the box."""
    with pytest.raises(InvalidConfig, match=rf"snr and eta finite.*{field}={value}"):
        search(**{field: value})


@pytest.mark.parametrize(("search", "name"), [(QGBS, "qgbs"), (QGBSKeepBest, "qgbs_keep_best")])
@pytest.mark.parametrize("bound", [0.0, -1.0, np.nan])
def test_a_search_refuses_a_box_without_a_point(search, name, bound):
    """As the other refiners do: clipped to [1, -1], every action would be one of its walls."""
    with pytest.raises(InvalidConfig, match=rf"^{name}\.bound must be above 0, got {bound}"):
        search(bound=bound)


@pytest.mark.parametrize("search", [QGBS, QGBSKeepBest])
@pytest.mark.parametrize("field", [{"steps": 10**9}, {"beam": 2**20}, {"branches": 2**20}])
def test_a_search_without_end_is_refused(search, field):
    """Its rounds would be traced one by one, also to read a stranger's run."""
    with pytest.raises(InvalidConfig, match=r"steps <= 256 and beam \* branches <= 1048576, got"):
        search(**field)
