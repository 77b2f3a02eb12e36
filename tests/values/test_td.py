"""Temporal differences: by hand, and on a chain whose values a linear system gives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.types import Transition
from flowpolicy.values import Critic, expectile_loss, mean, minimum, polyak, td_loss, td_target


class Table(eqx.Module):
    """A critic of one number a state; the state is given one-hot, the action is ignored."""

    values: jax.Array

    def __call__(self, s, a):
        del a
        return s @ self.values


class Line(eqx.Module):
    """q = slope * (s[0] + a[0])."""

    slope: jax.Array

    def __call__(self, s, a):
        return self.slope * (s[0] + a[0])


def _transition(reward=1.0, discount=0.9, weight=1.0):
    return Transition(
        obs=jnp.array([1.0]),
        action=jnp.array([0.5]),
        reward=jnp.array(reward),
        discount=jnp.array(discount),
        next_obs=jnp.array([2.0]),
        mask=jnp.array([1.0]),
        weight=jnp.array(weight),
    )


CRITIC = Critic(Line(jnp.array([2.0, 4.0])))
NEXT = jnp.array([-1.0])


def test_the_target_by_hand():
    """1 + 0.9 * aggregate(2 * 1, 4 * 1): the next state 2 with the next action -1."""
    assert td_target(CRITIC, minimum, _transition(), NEXT) == pytest.approx(1 + 0.9 * 2)
    assert td_target(CRITIC, mean, _transition(), NEXT) == pytest.approx(1 + 0.9 * 3)


def test_nothing_is_bootstrapped_past_a_termination():
    """Discount 0: the target is the reward, whatever the critic says."""
    for action in (-1.0, 7.0):
        y = td_target(CRITIC, mean, _transition(discount=0.0), jnp.array([action]))
        assert y == 1.0


def test_the_loss_by_hand():
    """((3 - 2)^2 + (6 - 2)^2) / 2: the state 1 with the action 0.5, of the transition."""
    assert td_loss(CRITIC, _transition(), jnp.array(2.0)) == pytest.approx((1 + 16) / 2)


def test_the_loss_trains_each_member_towards_the_target():
    """d/dslope of the mean over 2 members of (1.5 slope - 2)^2 is 1.5 (1.5 slope - 2)."""
    gradient = jax.grad(td_loss)(CRITIC, _transition(), jnp.array(2.0))
    np.testing.assert_allclose(gradient.members.slope, [1.5, 6.0], rtol=1e-6)


def test_weight_0_teaches_nothing():
    """Neither loss nor gradient; weight 1/2 is half of each."""
    y = jnp.array(2.0)
    assert td_loss(CRITIC, _transition(weight=0.0), y) == 0.0
    gradient = jax.grad(td_loss)(CRITIC, _transition(weight=0.0), y)
    assert np.array_equal(gradient.members.slope, [0.0, 0.0])
    assert td_loss(CRITIC, _transition(weight=0.5), y) == pytest.approx(17 / 4)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_the_expectile_of_two_values_in_closed_form(expectile):
    """q = 0 or 1, half each: the loss is least at v = expectile, where its slope
    e (1 - v) - (1 - e) v vanishes; 0.5 is the mean."""

    def loss(v):
        return sum(expectile_loss(jnp.float32(q), v, expectile) for q in (0.0, 1.0))

    least = jnp.float32(expectile)
    assert jax.grad(loss)(least) == pytest.approx(0.0, abs=1e-6)
    assert min(loss(least - 0.05), loss(least + 0.05)) > loss(least)
    above = expectile_loss(jnp.float32(3.0), jnp.float32(1.0), expectile)
    assert above == pytest.approx(4 * expectile)


def test_polyak_by_hand():
    """(1 - tau) target + tau online; tau 0 and 1 are the one and the other."""
    target, online = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([3.0, 2.0])}
    np.testing.assert_allclose(polyak(target, online, 0.25)["w"], [1.5, -1.0])
    np.testing.assert_array_equal(polyak(target, online, 0.0)["w"], target["w"])
    np.testing.assert_array_equal(polyak(target, online, 1.0)["w"], online["w"])


def test_polyak_forgets_geometrically():
    """After n steps towards a fixed network, (1 - tau)^n of the beginning is left."""
    target = jnp.array(1.0)
    for _ in range(10):
        target = polyak(target, jnp.array(0.0), 0.1)
    assert target == pytest.approx(0.9**10)


# A walk on five states, up or down with probability 1/2; stepping off the top ends with reward 1,
# off the bottom with reward 0.2, and every other step costs its state's number / 10.
GAMMA = 0.9
REWARDS = [[0.2, 0.0], [-0.1, -0.1], [-0.2, -0.2], [-0.3, -0.3], [-0.4, 1.0]]


def _chain():
    """Both transitions of each state, ten in all, in equal shares."""
    eye, rows = np.eye(5), []
    for state in range(5):
        for side, step in enumerate((-1, 1)):
            ends = not 0 <= state + step < 5
            rows.append(
                Transition(
                    obs=jnp.asarray(eye[state]),
                    action=jnp.zeros(1),
                    reward=jnp.asarray(REWARDS[state][side]),
                    discount=jnp.asarray(0.0 if ends else GAMMA),
                    next_obs=jnp.asarray(eye[min(max(state + step, 0), 4)]),
                    mask=jnp.ones(1),
                    weight=jnp.ones(()),
                )
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def _solution():
    """V = (I - gamma P)^-1 r."""
    moves = np.zeros((5, 5))
    for state in range(5):
        for step in (-1, 1):
            if 0 <= state + step < 5:
                moves[state, state + step] = 0.5
    return np.linalg.solve(np.eye(5) - GAMMA * moves, np.mean(REWARDS, axis=1))


def _learn(tau, steps):
    """Gradient steps on ``td_loss`` towards ``td_target``, the target network following by tau.

    Each state is in 2 of 10 rows and each of 2 members counts half, so that the loss is
    0.1 (V_k - y)^2 for each entry and the rate 5 jumps to its minimum.
    """
    batch, none = _chain(), jnp.zeros(1)

    def loss(critic, target):
        def one(row):
            return td_loss(critic, row, td_target(target, mean, row, none))

        return jnp.mean(jax.vmap(one)(batch))

    def step(carry, _):
        critic, target = carry
        gradient = jax.grad(loss)(critic, target)
        critic = jax.tree.map(lambda p, g: p - 5.0 * g, critic, gradient)
        return (critic, polyak(target, critic, tau)), None

    start = Critic(Table(jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))))
    (critic, target), _ = jax.lax.scan(step, (start, start), length=steps)
    return critic.members.values, target.members.values


@pytest.mark.parametrize(("tau", "steps"), [(1.0, 200), (0.2, 1500)])
def test_td_learning_finds_the_values_of_the_chain(tau, steps):
    """Both members and their targets reach the linear solve.

    The error shrinks by at most 1 - tau (1 - gamma) a step, so that 0.9^200 = 7e-10 of it is left
    for tau = 1 and 0.98^1500 = 7e-14 for tau = 0.2.
    """
    with jax.enable_x64(True):
        for values in _learn(tau, steps):
            np.testing.assert_allclose(values, np.tile(_solution(), (2, 1)), atol=1e-8)
