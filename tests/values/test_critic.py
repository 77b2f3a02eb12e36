"""The ensemble of critics, and the named ways to make one value of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLPCritic
from flowpolicy.types import Spec
from flowpolicy.values import Critic, mean, member, minimum, pessimistic, spread

Q = (0.5, -1.0, 2.0, 0.1)


def test_aggregates_by_hand():
    """mean, minimum, one member, mean - rho * standard deviation (divided by K)."""
    q = jnp.array(Q)
    deviation = np.sqrt(np.mean(np.square(np.asarray(Q) - 0.4)))
    assert mean(q) == pytest.approx(0.4)
    assert minimum(q) == -1.0
    assert [float(member(i)(q)) for i in range(4)] == pytest.approx(Q)
    assert spread(q) == pytest.approx(deviation)
    assert pessimistic(0.5)(q) == pytest.approx(0.4 - 0.5 * deviation)


def test_pessimism_of_1_is_the_minimum_of_two():
    """mean - half the difference is the lesser one; rho = 0 is the mean."""
    for pair in ((1.0, 3.0), (3.0, 1.0), (-2.0, -2.0)):
        q = jnp.array(pair)
        assert pessimistic(1.0)(q) == pytest.approx(min(pair))
        assert pessimistic(0.0)(q) == mean(q)


@pytest.mark.parametrize("aggregate", [mean, minimum, pessimistic(0.7), spread])
def test_the_order_of_members_does_not_matter(aggregate, key):
    """Of any but ``member``."""
    q = jnp.array(Q)
    shuffled = jax.random.permutation(key, q)
    assert not jnp.array_equal(q, shuffled)
    assert aggregate(q) == pytest.approx(float(aggregate(shuffled)), abs=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_agreement_has_a_finite_gradient(size):
    """The square root's slope is infinite at 0; ``spread`` takes 0 there, not infinity or nan."""
    q = jnp.full(size, 0.3)
    assert spread(q) == 0.0
    assert np.array_equal(jax.grad(spread)(q), np.zeros(size))
    np.testing.assert_allclose(jax.grad(pessimistic(0.5))(q), np.full(size, 1 / size), rtol=1e-6)


def test_the_gradient_of_the_spread():
    """(q_k - mean) / (K * spread)."""
    q = jnp.array(Q)
    expected = (q - q.mean()) / (4 * spread(q))
    np.testing.assert_allclose(jax.grad(spread)(q), expected, rtol=1e-5)


@pytest.mark.parametrize("rho", [-0.1, np.nan, np.inf])
def test_pessimism_is_not_optimism(rho):
    """A negative rho is refused, and what is no number."""
    with pytest.raises(InvalidConfig, match=rf"rho must be at least 0 and finite.*got {rho}"):
        pessimistic(rho)


@pytest.mark.parametrize("index", [4, -1])
def test_a_member_that_is_not_there_is_an_error(index):
    """Array indexing would clamp it silently."""
    with pytest.raises(InvalidConfig, match=rf"index must be in \[0, 4\), got {index}"):
        member(index)(jnp.array(Q))


def _critic(key, size=3):
    spec = Spec(obs=(4,), action=2)
    return Critic.create(key, size, lambda k: MLPCritic(width=8, depth=2).init(k, spec, 2))


def test_the_ensemble_is_a_loop_over_its_members(key):
    """One vmapped module gives what each slice of its leaves gives alone."""
    critic, s, a = _critic(key), jnp.arange(4.0), jnp.array([0.3, -0.4])
    alone = [jax.tree.map(lambda leaf, k=k: leaf[k], critic.members)(s, a) for k in range(3)]
    assert critic(s, a).shape == (3,)
    np.testing.assert_allclose(critic(s, a), alone, rtol=1e-5)


def test_members_are_initialised_independently(key):
    """No two share a weight matrix, so that their disagreement means something."""
    q = np.asarray(_critic(key)(jnp.arange(4.0), jnp.array([0.3, -0.4])))
    assert len(set(q.tolist())) == 3
    for weight in jax.tree.leaves(_critic(key).members.mlp.first.weights):
        assert not np.allclose(weight[0], weight[1])


def test_an_ensemble_has_a_member():
    """None is no critic."""
    with pytest.raises(InvalidConfig, match="at least 1 member, got 0"):
        _critic(jax.random.key(0), size=0)
