"""Networks: what they compute, how they start, and what is computed only once."""

import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from flowpolicy.errors import InvalidConfig
from flowpolicy.nets import MLP, Fourier, Linear, MixLinear, MLPCritic, MLPFlow, Plain
from flowpolicy.types import Spec
from flowpolicy.values import Critic

# Sizes that no two dimensions share, so that a matrix product can be recognised by its shapes.
STATE, ACTION, WIDTH, CANDIDATES = 7, 3, 11, 13
SPEC = Spec(obs=(STATE,), action=ACTION)


def test_blocks_are_the_concatenation(key):
    """[x, y, z] W + b with the blocks of W stacked."""
    layer = MixLinear(key, (4, 1, 3), 5)
    inputs = [jax.random.normal(jax.random.key(i), (size,)) for i, size in enumerate((4, 1, 3))]
    joined = jnp.concatenate(inputs) @ jnp.concatenate(layer.weights) + layer.bias
    np.testing.assert_allclose(layer(*inputs), joined, rtol=1e-5, atol=1e-6)


def test_blocks_are_all_asked_for(key):
    """An input too few is an error, not a zero."""
    with pytest.raises(ValueError, match="zip"):
        MixLinear(key, (4, 1), 5)(jnp.ones(4))


@pytest.mark.parametrize("layer", [Linear, lambda key, size, out: MixLinear(key, (600, 400), out)])
def test_weights_start_by_variance_scaling(key, layer):
    """U(-b, b), b^2 = 6 / (fan_in + fan_out): variance 2 / (fan_in + fan_out), biases 0.

    300 000 weights: the sample variance of a uniform has a relative error of
    sqrt(0.8 / 300 000) = 0.0016, six of which are allowed, as of the mean's: a false alarm in 3e-9
    of such tests, were the key new. The largest is not in the last thousandth in e^-300 of them.
    """
    built = layer(key, 1000, 300)
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(built) if leaf.ndim == 2]
    weights = np.concatenate(leaves)
    assert weights.size == 300_000
    assert weights.var() == pytest.approx(2 / 1300, rel=0.01)
    assert np.abs(weights).max() == pytest.approx((6 / 1300) ** 0.5, rel=1e-3)
    assert abs(weights.mean()) < 6 * (2 / 1300 / 300_000) ** 0.5
    assert np.array_equal(built.bias, np.zeros(300))


def test_blocks_start_independently(key):
    """Two blocks of one size do not share their numbers."""
    first, second = MixLinear(key, (4, 4), 5).weights
    assert not np.allclose(first, second)


def test_fourier_by_hand():
    """Cosines, then sines, at frequencies 1, 10^-2, 10^-4 for a size of 6."""
    t = 0.37
    frequencies = np.array([1.0, 1e-2, 1e-4])
    expected = np.concatenate([np.cos(t * frequencies), np.sin(t * frequencies)])
    np.testing.assert_allclose(Fourier(size=6)(jnp.asarray(t)), expected, rtol=1e-5)
    assert Fourier()(jnp.asarray(t)).shape == (64,)


def test_plain_is_the_time():
    """One number."""
    np.testing.assert_array_equal(Plain()(jnp.asarray(0.25)), np.float32([0.25]))
    assert Plain().size == 1


@pytest.mark.parametrize("size", [0, 1, 5])
def test_fourier_needs_pairs(size):
    """Half cosines, half sines."""
    with pytest.raises(InvalidConfig, match=f"even and at least 2, got {size}"):
        Fourier(size=size)


@pytest.mark.parametrize("lowest", [0.0, -1e-4, np.inf, np.nan, 1e39])
def test_fourier_needs_frequencies(lowest):
    """Above 0 and finite, in float32 too: others embed a time as NaN, or not at all."""
    message = r"fourier\.lowest must be above 0 and finite.*1e-4.*got " + re.escape(str(lowest))
    with pytest.raises(InvalidConfig, match=message):
        Fourier(lowest=lowest)
    assert np.isfinite(Fourier(size=4, lowest=10.0)(jnp.asarray(0.5))).all()


def test_an_mlp_needs_a_layer(key):
    """Width and depth are at least 1."""
    for fields in ({"width": 0, "depth": 2}, {"width": 4, "depth": 0}):
        with pytest.raises(InvalidConfig, match="width and depth must be at least 1"):
            MLP(key, (2,), 1, **fields, norm=False)


def test_a_billion_layers_are_refused_before_the_first():
    """Also where a net is built to read a stranger's run."""
    config = MLPFlow(width=4, depth=10**9, embed=Plain())
    with pytest.raises(InvalidConfig, match="depth must be at most 256, got 1000000000"):
        jax.eval_shape(lambda: config.init(jax.random.key(0), SPEC, ACTION))


@pytest.mark.parametrize("norm", [False, True])
def test_an_mlp_by_hand(key, norm):
    """GELU after each hidden layer, then LayerNorm if any, and a linear output."""
    mlp = MLP(key, (2, 3), 4, width=6, depth=3, norm=norm)
    x = jnp.concatenate([jnp.array([0.5, -1.0]), jnp.array([0.1, 2.0, -0.3])])
    expected = x @ jnp.concatenate(mlp.first.weights) + mlp.first.bias
    for layer in (*mlp.hidden, mlp.last):
        expected = jax.nn.gelu(expected)
        if norm:
            expected = (expected - expected.mean()) / jnp.sqrt(expected.var() + 1e-5)
        expected = expected @ layer.weight + layer.bias
    np.testing.assert_allclose(mlp(x[:2], x[2:]), expected, rtol=2e-4, atol=1e-5)
    assert (len(mlp.hidden), len(mlp.norms)) == (2, 3 if norm else 0)


def _flow_net(key, embed=None):
    return MLPFlow(width=WIDTH, depth=2, embed=embed or Fourier(size=4)).init(key, SPEC, ACTION)


def _critic_net(key):
    return MLPCritic(width=WIDTH, depth=2).init(key, SPEC, ACTION)


@pytest.mark.parametrize("init", [_flow_net, _critic_net])
def test_leaves_are_arrays(key, init):
    """A net passes through plain ``jax.jit``, ``grad`` and ``vmap`` as it is."""
    net = init(key)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(net))
    jax.jit(lambda n: jax.tree.map(lambda leaf: 2.0 * leaf, n))(net)


@pytest.mark.parametrize("embed", [Fourier(size=4), Plain()])
def test_a_flow_net_tells_its_four_inputs_apart(key, embed):
    """u(r, t, a, s): each moves the output, and r and t not in the same way."""
    net = _flow_net(key, embed)
    r, t, a, s = jnp.asarray(0.2), jnp.asarray(0.7), jnp.ones(ACTION), jnp.ones(STATE)
    u = net(r, t, a, s)
    assert u.shape == (ACTION,)
    others = [net(t, r, a, s), net(r, r, a, s), net(t, t, a, s), net(r, t, -a, s), net(r, t, a, -s)]
    for other in others:
        assert np.abs(np.asarray(other - u)).max() > 1e-3


def test_observations_may_be_trees(key):
    """Their leaves are raveled and joined in the order of the tree."""
    spec = Spec(obs={"image": (2, 2), "joints": (3,)}, action=ACTION)
    net = MLPCritic(width=WIDTH, depth=1).init(key, spec, ACTION)
    tree = {"joints": jnp.arange(4.0, 7.0), "image": jnp.arange(4.0).reshape(2, 2)}
    a = jnp.ones(ACTION)
    np.testing.assert_allclose(net(tree, a), net(jnp.arange(7.0), a), rtol=1e-6)


def _products(jaxpr):
    """Every matrix product of a jaxpr, those within calls too: shapes of its two operands."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield tuple(v.aval.shape for v in equation.invars)
        for value in equation.params.values():
            if isinstance(value, jax.extend.core.ClosedJaxpr):
                yield from _products(value.jaxpr)


def _state_products(function, *arguments):
    """The products in which a block of weights for the state, of STATE rows, takes part."""
    shapes = list(_products(jax.make_jaxpr(function)(*arguments).jaxpr))
    found = [(x, w) for x, w in shapes if STATE in w[-2:]]
    assert len(shapes) > len(found) > 0
    return found


def test_candidates_share_the_state_s_part_of_the_first_layer(key):
    """Ranking many actions of one state multiplies the state once, for each member alone.

    Were input and weights concatenated, the product would have CANDIDATES rows.
    """
    critic = Critic.create(key, 2, _critic_net)
    s, a = jnp.ones(STATE), jnp.ones((CANDIDATES, ACTION))
    for x, w in _state_products(jax.vmap(critic, in_axes=(None, 0)), s, a):
        assert CANDIDATES not in (*x, *w)
        assert np.prod(x) == STATE


def test_draws_share_the_state_s_part_of_the_first_layer(key):
    """The same of a flow's draws."""
    net, one = _flow_net(key), jnp.ones(())
    s, a = jnp.ones(STATE), jnp.ones((CANDIDATES, ACTION))
    for x, w in _state_products(jax.vmap(lambda a: net(one, one, a, s)), a):
        assert CANDIDATES not in (*x, *w)
        assert np.prod(x) == STATE
