"""RLPD against closed forms: a law that is the same everywhere, critics that are lines or bowls."""

import dataclasses

import agents_setup as setup
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.agents.rlpd import RLPD, actor_terms
from flowpolicy.envs.toy import two_mode_data
from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import Adam, MLPCritic, MLPGaussian, TanhGaussian
from flowpolicy.types import Spec, Transition
from flowpolicy.values import Critic, minimum

D = setup.CHUNK * setup.ACTION
STEEP = 5.0


class Law(eqx.Module):
    """The same law in every state."""

    mean: jax.Array
    log_std: jax.Array

    def __call__(self, s):
        return TanhGaussian(self.mean, self.log_std)


class Line(eqx.Module):
    """Q(s, a) = slope . a."""

    slope: jax.Array

    def __call__(self, s, a):
        return jnp.dot(self.slope, a)


class Bowl(eqx.Module):
    """Q(s, a) = -STEEP |a|^2; the leaf makes it a net."""

    zero: jax.Array

    def __call__(self, s, a):
        return self.zero - STEEP * jnp.sum(jnp.square(a))


@dataclasses.dataclass(frozen=True)
class LawNet:
    log_std: float = 0.0

    def init(self, key, spec, action):
        return Law(jnp.full(action, 0.3), jnp.full(action, self.log_std))


@dataclasses.dataclass(frozen=True)
class LineNet:
    def init(self, key, spec, action):
        return Line(jnp.ones(action))


@dataclasses.dataclass(frozen=True)
class BowlNet:
    def init(self, key, spec, action):
        return Bowl(jnp.zeros(()))


def _unteaching():
    return dataclasses.replace(setup.batch(), weight=jnp.zeros(setup.BATCH))


def _agent(log_std, critic, **changes):
    return setup.make("rlpd", True, actor=LawNet(log_std), critic=critic, ensemble=2, **changes)


def _sloped(agent, *slopes):
    slopes = jnp.stack([jnp.full(D, x, jnp.float32) for x in slopes])
    where = lambda a: (a.critic.online.model.members.slope, a.critic.target.members.slope)  # noqa: E731
    return eqx.tree_at(where, agent, (slopes, jnp.copy(slopes)))


@pytest.mark.parametrize(("aggregate", "wanted"), [(None, 1.0), (minimum, -1.0)])
def test_the_target_is_the_mean_and_has_no_entropy(aggregate, wanted):
    """y = r + 0.9 mean_k Q(s', tanh 0.3): the law is a point, whose log density is about 80.

    With an entropy term at temperature 1, y would lie some 70 lower. ``aggregate`` may say the
    minimum instead.
    """
    changes = {} if aggregate is None else {"aggregate": aggregate}
    agent = _sloped(_agent(-20.0, LineNet(), **changes), 3.0, -1.0)
    data = dataclasses.replace(_unteaching(), discount=jnp.full(setup.BATCH, 0.9))
    _, metrics = setup.update(agent, jax.random.key(0), data)
    y = float(data.reward.mean()) + 0.9 * wanted * D * np.tanh(0.3)
    assert metrics["critic/target_mean"] == pytest.approx(y, abs=1e-4)
    assert metrics["rlpd/entropy"] < -70


def test_the_actor_climbs_the_mean_of_the_critics():
    """For a law that is a point, d/dmean of Q is the mean slope times 1 - tanh^2."""
    critic = Critic(Line(jnp.stack([jnp.full(D, 3.0), jnp.full(D, -1.0)])))
    sample = jax.tree.map(lambda x: x[0], setup.batch())
    net = Law(jnp.full(D, 0.3), jnp.full(D, -20.0))
    slope = jax.grad(lambda n: actor_terms(jax.random.key(0), n, critic, sample).q)(net).mean
    np.testing.assert_allclose(slope, np.full(D, 1 - np.tanh(0.3) ** 2), rtol=1e-5)


def test_terms_by_numpy():
    """Q, entropy and likelihood of one sample; entries that are masked have none."""
    critic = Critic(Line(jnp.stack([jnp.full(D, 3.0), jnp.full(D, -1.0)])))
    action = np.array([0.9, -0.5, 0.2, 0.0])
    mask = np.array([1.0, 1.0, 1.0, 0.0])
    sample = jax.tree.map(lambda x: x[0], setup.batch())
    sample = dataclasses.replace(
        sample, action=jnp.asarray(action, jnp.float32), mask=jnp.asarray(mask, jnp.float32)
    )
    mean, std = np.linspace(-0.5, 0.5, D), np.linspace(0.5, 1.5, D)
    net = Law(jnp.asarray(mean, jnp.float32), jnp.asarray(np.log(std), jnp.float32))
    terms = actor_terms(jax.random.key(4), net, critic, sample)

    def log_density(x):
        gauss = -np.square((x - mean) / std) / 2 - np.log(std * np.sqrt(2 * np.pi))
        return gauss - np.log(1 - np.tanh(x) ** 2)

    x = mean + std * np.asarray(jax.random.normal(jax.random.key(4), (D,)), np.float64)
    assert terms.q == pytest.approx(np.tanh(x).sum(), rel=1e-4)
    assert terms.entropy == pytest.approx(-log_density(x).sum(), rel=1e-4)
    assert terms.nll == pytest.approx(-(mask * log_density(np.arctanh(action))).sum(), rel=1e-4)


def _moments(std):
    """Entropy and E[a^2] of tanh(x), x ~ N(0, std^2), by a fine sum."""
    z, dz = np.linspace(-9, 9, 20001, retstep=True)
    p = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * dz
    slope = 2 * (np.log(2) - std * z - np.logaddexp(0, -2 * std * z))
    entropy = np.log(std) + 0.5 * np.log(2 * np.pi * np.e) + np.sum(p * slope)
    return entropy, np.sum(p * np.tanh(std * z) ** 2)


def test_entropy_and_temperature_reach_what_the_optimum_needs():
    """On Q = -5 |a|^2 the best law of entropy -0.5 an entry, and the temperature it is best at.

    alpha = d(5 E[a^2]) / dH along the standard deviation. Averages of the last 200 of 1 000 steps
    of 8 samples each.
    """
    agent = _agent(0.0, BowlNet(), optimiser=Adam(rate=2e-2))
    data = _unteaching()

    @jax.jit
    def run(agent, keys):
        return jax.lax.scan(lambda a, k: a.update(k, data), agent, keys)

    agent, metrics = run(agent, jax.random.split(jax.random.key(0), 1000))
    stds = np.linspace(0.05, 0.5, 400)
    entropy, square = np.array([_moments(std) for std in stds]).T
    alpha = STEEP * np.gradient(square, stds) / np.gradient(entropy, stds)
    wanted = np.interp(-0.5, entropy, alpha)
    assert float(metrics["rlpd/entropy"][:1].mean()) > 0
    assert float(metrics["rlpd/entropy"][-200:].mean()) == pytest.approx(-0.5 * D, abs=0.15)
    assert float(metrics["rlpd/temperature"][-200:].mean()) == pytest.approx(wanted, rel=0.15)
    np.testing.assert_allclose(jnp.tanh(agent.actor.model.mean), 0.0, atol=0.1)


def test_bc_pulls_towards_the_data():
    """QC-RLPD's summand: with a heavy weight the law's mean goes to artanh of the data's action."""
    data = dataclasses.replace(_unteaching(), mask=jnp.ones((setup.BATCH, D)))
    data = dataclasses.replace(data, action=jnp.full((setup.BATCH, D), -0.4))
    for bc, near in ((0.0, False), (100.0, True)):
        agent = _sloped(_agent(-1.0, LineNet(), bc=bc), 1.0, 1.0)
        after = setup.train(agent, jax.random.key(0), data, 150)
        at = np.tanh(np.asarray(after.actor.model.mean))
        assert (np.abs(at + 0.4).max() < 0.05) == near


def test_it_has_no_flow():
    """The error says so; a critic it has."""
    agent = setup.make("rlpd", True)
    with pytest.raises(InvalidConfig, match="rlpd has no flow"):
        agent.flow()
    assert agent.value(jnp.zeros(setup.OBS), jnp.zeros(D)).shape == ()


@pytest.mark.parametrize(
    "wrong", [{"bc": -1.0}, {"temperature": 0.0}, {"tau": 0.0}, {"ensemble": 0}]
)
def test_values_outside_their_range_are_refused(wrong):
    """The message names the field."""
    with pytest.raises(InvalidConfig, match=next(iter(wrong))):
        RLPD(**wrong)


def test_it_learns_the_two_mode_bandit():
    """Half data, half of its own actions: it ends in the better mode (1.0), not the other (0.6).

    The best law of entropy -1.5 an entry earns 0.93 of a mode's height (0.92 to 0.94 over 6 seeds).
    """
    low, high = jnp.array([-0.5, 0.0]), jnp.array([0.5, 0.0])

    def reward(action):
        bump = lambda c: jnp.exp(-jnp.sum(jnp.square(action - c)) / 0.08)  # noqa: E731
        return 0.6 * bump(low) + bump(high)

    rows = jnp.asarray(two_mode_data(2000, 0)["action"])
    config = RLPD(
        chunk=1,
        entropy=-1.5,
        temperature=0.3,
        ensemble=2,
        optimiser=Adam(rate=3e-3),
        actor=MLPGaussian(width=16, depth=1),
        critic=MLPCritic(width=32, depth=2),
    )

    def step(agent, key):
        key_rows, key_own, key_update = jax.random.split(key, 3)
        own = jax.vmap(lambda k: agent.explore(k, jnp.zeros(1), ())[0])(
            jax.random.split(key_own, 32)
        )
        action = jnp.concatenate([rows[jax.random.randint(key_rows, (32,), 0, 2000)], own])
        obs, none = jnp.zeros((64, 1)), jnp.zeros(64)
        batch = Transition(
            obs, action, jax.vmap(reward)(action), none, obs, jnp.ones((64, 2)), none + 1.0
        )
        return agent.update(key_update, batch)[0], jnp.mean(jax.vmap(reward)(own))

    @jax.jit
    def learn(key):
        agent = config.init(jax.random.key(1), Spec(obs=(1,), action=2))
        return jax.lax.scan(step, agent, jax.random.split(key, 1500))[1]

    earned = np.asarray(learn(jax.random.key(0)))
    assert earned[:20].mean() < 0.3
    assert abs(earned[-100:].mean() - 0.93) < 0.05
