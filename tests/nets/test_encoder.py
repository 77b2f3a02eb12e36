"""The encoder of frames: by hand, and in front of the nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from flowpolicy import parts
from flowpolicy.errors import InvalidConfig
from flowpolicy.flows import FlowMap
from flowpolicy.nets import MLPCritic, MLPFlow, MLPOneStep, MLPValue, MLPVelocity, Plain
from flowpolicy.nets.encoder import Conv, Impala, Stack
from flowpolicy.nets.frames import ImpalaCritic, ImpalaFlow, ImpalaOneStep, ImpalaValue
from flowpolicy.types import Spec

SMALL = Impala(channels=(2, 3), width=5)
SPEC = Spec(obs={"state": (4,), "front": (7, 6, 3)}, action=2)
INNER = {"width": 4, "depth": 1}


def _observation(key):
    return {
        "front": jax.random.randint(key, (7, 6, 3), 0, 256).astype(jnp.uint8),
        "state": jnp.arange(4.0),
    }


def _conv(layer, x):
    """Cross-correlation channel by channel, zeros around."""
    weight, maps = np.asarray(layer.weight, np.float64), []
    for out in range(weight.shape[3]):
        per = [correlate2d(x[..., c], weight[:, :, c, out], "same") for c in range(x.shape[2])]
        maps.append(np.sum(per, axis=0) + float(layer.bias[out]))
    return np.stack(maps, axis=-1)


def _pooled(x):
    """The greatest of 3 x 3 around every second pixel; an even side begins at its first pixel."""
    first = [(side + 1) % 2 for side in x.shape[:2]]
    wide = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = (range(f, side, 2) for f, side in zip(first, x.shape[:2], strict=True))
    return np.array([[wide[i : i + 3, j : j + 3].max((0, 1)) for j in columns] for i in rows])


def test_a_stack_by_hand(key):
    """Convolve, pool, and one residual block, on a frame of odd height and even width."""
    stack = Stack(key, 3, 2, 1)
    stack = jax.tree.map(lambda leaf: leaf + 0.1, stack)  # biases that are not zero
    x = np.random.default_rng(0).uniform(size=(7, 6, 3))
    expected = _pooled(_conv(stack.first, x))
    one, two = stack.blocks[0]
    expected = expected + _conv(two, np.maximum(_conv(one, np.maximum(expected, 0)), 0))
    np.testing.assert_allclose(stack(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_start_by_variance_scaling(key):
    """Variance 2 / (9 (in + out)): 36 864 uniform weights have a relative error of 0.0047, six of
    which are allowed."""
    weight = np.asarray(Conv(key, 64, 64).weight)
    assert weight.var() == pytest.approx(2 / (9 * 128), rel=0.03)


def test_bytes_may_be_floats(key):
    """As where a policy is asked; the other fields follow the frames, as they are."""
    encoder = SMALL.init(key, SPEC)
    obs = _observation(key)
    seen = encoder(obs)
    assert seen.shape == (SMALL.size(SPEC),) == (9,)
    np.testing.assert_array_equal(seen[5:], obs["state"])
    floats = {**obs, "front": obs["front"].astype(jnp.float32)}
    np.testing.assert_array_equal(encoder(floats), seen)
    other = {**obs, "front": 255 - obs["front"]}
    assert np.abs(np.asarray(encoder(other) - seen)).max() > 1e-3


def test_the_papers_size():
    """FQL's visual runs: 64 x 64, three frames; 8 x 8 x 32 numbers go into the dense layer."""
    encoder = jax.eval_shape(
        lambda: Impala().init(jax.random.key(0), Spec(obs=(64, 64, 9), action=5))
    )
    (net,) = encoder.nets
    assert [stack.first.weight.shape[3] for stack in net.stacks] == [16, 32, 32]
    assert net.last.weight.shape == (8 * 8 * 32, 512)


def test_nets_that_see(key):
    """Each is its inner net at the encoded observation."""
    obs, a, t = _observation(key), jnp.ones(4), jnp.asarray(0.5)
    embed = Plain()
    flow = ImpalaFlow(SMALL, MLPFlow(**INNER, embed=embed)).init(key, SPEC, 4)
    velocity = ImpalaFlow(SMALL, MLPVelocity(**INNER, embed=embed)).init(key, SPEC, 4)
    one_step = ImpalaOneStep(SMALL, MLPOneStep(**INNER)).init(key, SPEC, 4)
    critic = ImpalaCritic(SMALL, MLPCritic(**INNER)).init(key, SPEC, 4)
    value = ImpalaValue(SMALL, MLPValue(**INNER)).init(key, SPEC)
    for net in (flow, velocity):
        e = net.encoder(obs)
        np.testing.assert_array_equal(net(t, t, a, obs), net.net(t, t, a, e))
    np.testing.assert_array_equal(one_step(a, obs), one_step.net(a, one_step.encoder(obs)))
    np.testing.assert_array_equal(critic(obs, a), critic.net(critic.encoder(obs), a))
    np.testing.assert_array_equal(value(obs), value.net(value.encoder(obs)))
    leaves = jax.tree.leaves((flow, one_step, critic, value))
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


def test_a_flow_map_over_frames_is_differentiated(key):
    """Its jvp in time and the gradient of its weights are there, though bytes have none."""
    net = ImpalaFlow(SMALL, MLPFlow(**INNER, embed=Plain())).init(key, SPEC, 4)
    obs = _observation(key)

    def loss(net):
        flow = FlowMap(net, 4)
        t, one = jnp.asarray(0.3), jnp.ones(())
        return jnp.sum(jax.jvp(lambda t: flow.flow(t, one, jnp.ones(4), obs), (t,), (one,))[1])

    gradients = jax.tree.leaves(jax.grad(loss)(net).encoder)
    assert max(float(jnp.abs(g).max()) for g in gradients) > 0


def test_configurations():
    """Read from text, and refused where there is nothing to see."""
    text = (
        "impala_critic(encoder=impala(channels=(2, 3), width=5), net=mlp_critic(width=4, depth=1))"
    )
    built = parts.parse(text)
    assert built == ImpalaCritic(SMALL, MLPCritic(**INNER))
    with pytest.raises(InvalidConfig, match=r"frames .* got \(29,\)"):
        built.init(jax.random.key(0), Spec(obs=(29,), action=2), 4)
    with pytest.raises(InvalidConfig, match="channels and width"):
        Impala(channels=())
