"""The tanh-Gaussian against densities computed in double precision by numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.nets import MLPGaussian, TanhGaussian
from flowpolicy.nets.gaussian import EDGE, LOG_STD
from flowpolicy.types import Spec

LAWS = [(0.0, 0.0), (0.8, -1.0), (-1.5, 0.5)]


def law(mean, log_std):
    """The law of one entry."""
    return TanhGaussian(jnp.array([mean], jnp.float32), jnp.array([log_std], jnp.float32))


def density(a, mean, log_std):
    """p(a) = N(artanh a; mean, std) / (1 - a^2), by numpy."""
    std = np.exp(log_std)
    x = np.arctanh(a)
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi)) / (1 - a**2)


def cells():
    """Midpoints of cells of (-1, 1) that are narrow at its ends, and their widths."""
    edges = np.tanh(np.linspace(-7, 7, 4001))
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges)


@pytest.mark.parametrize(("mean", "log_std"), LAWS)
def test_log_prob_is_a_density(mean, log_std):
    """It equals numpy's and integrates to 1 over the box."""
    a, width = cells()
    inside = np.abs(a) < 1 - 2 * EDGE
    found = jax.vmap(law(mean, log_std).log_prob)(jnp.asarray(a[:, None], jnp.float32))[:, 0]
    near = np.abs(a) < 0.99  # nearer the ends float32 no longer tells the actions apart
    np.testing.assert_allclose(found[near], np.log(density(a[near], mean, log_std)), atol=2e-3)
    total = np.sum((np.exp(np.asarray(found, np.float64)) * width)[inside])
    assert total == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize(("mean", "log_std"), LAWS)
def test_samples_have_the_law_they_tell(mean, log_std):
    """Mean of the action and of -log p over 20 000 samples, against integrals, within 5 sigma: a
    false alarm in 1e-6 of such tests, were the key new."""
    a, width = cells()
    p = density(a, mean, log_std) * width
    keys = jax.random.split(jax.random.key(0), 20_000)
    action, log_prob = (np.asarray(x)[:, 0] for x in jax.vmap(law(mean, log_std).sample)(keys))
    wanted = np.sum(p * a), -np.sum(p * np.log(density(a, mean, log_std)))
    for values, integral in ((action, wanted[0]), (-log_prob, wanted[1])):
        assert abs(values.mean() - integral) < 5 * values.std() / np.sqrt(len(values))


def test_a_sample_tells_the_density_that_log_prob_gives_it():
    """Entry by entry: three laws at once, one number each."""
    mean, log_std = (jnp.asarray(column, jnp.float32) for column in zip(*LAWS, strict=True))
    several = TanhGaussian(mean, log_std)
    action, log_prob = several.sample(jax.random.key(3))
    assert log_prob.shape == (3,)
    np.testing.assert_allclose(several.log_prob(action), log_prob, atol=1e-4)


@pytest.mark.parametrize("mean", [-60.0, 60.0])
def test_far_outside_everything_is_finite(mean):
    """Where tanh has rounded to 1, the density and its gradient by the law stay finite.

    log(1 - tanh(x)^2) -> 2 (log 2 - |x|) there, so that -log p falls by 2 for every unit of x.
    """
    far = law(mean, -20.0)
    action, log_prob = far.sample(jax.random.key(0))
    assert abs(float(action[0])) == 1.0
    wanted = 20 - np.log(2 * np.pi) / 2 - 2 * (np.log(2) - abs(mean))
    noise = float(jax.random.normal(jax.random.key(0), (1,))[0])
    assert float(log_prob[0]) == pytest.approx(wanted - noise**2 / 2, abs=1e-2)
    gradient = jax.grad(lambda g: jnp.sum(g.sample(jax.random.key(0))[1]))(far)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert np.isfinite(law(0.0, 0.0).log_prob(jnp.array([np.sign(mean)], jnp.float32))).all()


def test_the_net_has_two_heads_and_clips_one():
    """Mean and log standard deviation of each entry; the latter stays within ``LOG_STD``."""
    net = MLPGaussian(width=8, depth=1).init(jax.random.key(0), Spec(obs=(3,), action=2), 4)
    laws = jax.jit(jax.vmap(net))(1e4 * jax.random.normal(jax.random.key(1), (32, 3)))
    assert laws.mean.shape == laws.log_std.shape == (32, 4)
    assert (float(laws.log_std.min()), float(laws.log_std.max())) == LOG_STD
    assert float(jnp.abs(laws.mean).max()) > 100


def test_the_actor_is_made_of_relu_layers():
    """Without biases a ReLU net is positively homogeneous: f(2 s) = 2 f(s). GELU's is not."""
    net = MLPGaussian(width=8, depth=2).init(jax.random.key(0), Spec(obs=(3,), action=2), 4)
    s = jax.random.normal(jax.random.key(1), (3,))
    np.testing.assert_allclose(net.mlp(2 * s), 2 * net.mlp(s), rtol=1e-5)
