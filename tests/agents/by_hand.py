"""The nets, samplers and losses of the papers again, in numpy, batched, from the equations."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def double(*trees):
    """Double precision, the numbers of ``trees`` in it: 1e-6 is then about the equations."""

    def cast(x):
        return x.astype(jnp.float64) if x.dtype == jnp.float32 else x

    with jax.enable_x64(True):
        yield jax.tree.map(cast, trees)


def mlp(net, *inputs):
    """A net's ``MLP`` on (batch, size) inputs: affine, GELU (tanh form), LayerNorm where it is."""
    weights = np.concatenate([np.asarray(w) for w in net.mlp.first.weights])
    x = np.concatenate(inputs, axis=-1) @ weights + np.asarray(net.mlp.first.bias)
    layers = [None, *net.mlp.hidden]
    for i, layer in enumerate(layers):
        if layer is not None:
            x = x @ np.asarray(layer.weight) + np.asarray(layer.bias)
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        if net.mlp.norms:
            norm = net.mlp.norms[i]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * np.asarray(norm.weight) + np.asarray(norm.bias)
    return x @ np.asarray(net.mlp.last.weight) + np.asarray(net.mlp.last.bias)


def critics(critic, s, a):
    """Q_k(s, a), (k, batch)."""
    size = jax.tree.leaves(critic.members)[0].shape[0]
    members = [jax.tree.map(lambda x, k=k: x[k], critic.members) for k in range(size)]
    return np.stack([mlp(net, s, a)[:, 0] for net in members])


def velocity(net, t, a, s):
    """v_t(a | s), t (batch,)."""
    return mlp(net, s, a, t[:, None])


def euler(net, steps, z, s):
    """Explicit Euler at t = i / steps, clipped once, at the end."""
    a = z
    for i in range(steps):
        a = a + velocity(net, np.full(len(a), i / steps), a, s) / steps
    return np.clip(a, -1, 1)


def flow_matching(net, z, t, action, s, mask):
    """mean over batch and entries of mask (v_t((1 - t) z + t a) - (a - z))^2."""
    at = (1 - t)[:, None] * z + t[:, None] * action
    return np.mean(mask * (velocity(net, t, at, s) - (action - z)) ** 2)


def td_loss(critic, y, batch):
    """mean over members and batch of weight (Q_k(s, a) - y)^2."""
    q = critics(critic, np.asarray(batch.obs), np.asarray(batch.action))
    return np.mean(np.asarray(batch.weight) * (q - y) ** 2)


def cloning_draws(key, size, d, terms=1):
    """Noise and times that ``Cloning`` draws of ``key`` for its first term on the diagonal."""

    def one(key):
        key_noise, key_time = jax.random.split(jax.random.split(key, terms)[0])
        return jax.random.normal(key_noise, (d,)), jax.random.uniform(key_time)

    z, t = jax.vmap(one)(jax.random.split(key, size))
    return np.asarray(z), np.asarray(t)


def noise(key, size, n, d):
    """Noise of ``n`` candidates for each of ``size`` states, (size, n, d), as best-of-n draws."""

    def one(key):
        return jax.vmap(lambda k: jax.random.normal(k, (d,)))(jax.random.split(key, n))

    return np.asarray(jax.vmap(one)(jax.random.split(key, size)))
