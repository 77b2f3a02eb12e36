"""What the flow policies' papers prove, learned by nets: ``python -m benchmarks.theory``.

Tests hold the losses to these closed forms at their optimum. Here nets are trained by them from
samples, and what the trained flows do stands beside what was proved: QAM's tilted Gaussians and its
lean adjoint, FPMD's weighted flow matching, SWFP's proximal step, GFP without guidance, and which
way trajectories of streaming flows go where two cross. One action entry, one state; a law is told
by ``SAMPLES`` samples, so that a mean has a standard error of 1/64 of a deviation.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from flowpolicy import flows
from flowpolicy.agents import FQL, GFP
from flowpolicy.agents.reconstructed import SWFP
from flowpolicy.agents.reconstructed.swfp import block_loss
from flowpolicy.flows import FlowMap, Latent, Moments, Stabilised, StandardisedWeights
from flowpolicy.nets import Adam, MLPCritic, MLPOneStep, MLPVelocity, Trainable
from flowpolicy.types import Spec, Transition
from flowpolicy.values import member

MEAN, WIDTH = 0.3, 0.5
"""Of the Gaussian that every case begins with."""
SLOPE, HEIGHT, BEST = 0.7, 4.0, 0.8
"""Q = SLOPE a, and Q = -HEIGHT / 2 (a - BEST)^2."""
TAU, STEPS, LAMBDA = 2.0, 50, 0.5
ETA, ALPHA = 0.3, 0.2
SAMPLES, BATCH, POINTS = 4096, 256, 48
QUARTERS = (0.25, 0.5, 0.75, 1.0)
"""Times at which streams are looked at."""
PAIRS: dict[str, Any] = {
    "parting": lambda t: jnp.where(t > 0.3, ((t - 0.3) / 0.7) ** 2, 0.0),
    "crossing": lambda t: jnp.cos(jnp.pi * t),
}
"""One trajectory of two; the other is its mirror image."""
S = jnp.zeros(1)
NET = MLPVelocity(width=64, depth=2)
COLUMNS = ("case", "what", "proved", "found", "apart")
Row = tuple[str, str, float, float]
Loss = Callable[[Any, jax.Array], jax.Array]


class Behaviour(eqx.Module):
    """The velocity that carries N(0, 1) to N(MEAN, WIDTH^2) on the linear path."""

    def __call__(self, r: jax.Array, t: jax.Array, a: jax.Array, s: jax.Array) -> jax.Array:
        """Affine in the action."""
        del t, s
        variance = (1 - r) ** 2 + (r * WIDTH) ** 2
        return MEAN + (r * WIDTH**2 - (1 - r)) / variance * (a - r * MEAN)


BASE = FlowMap(Behaviour(), 1)


def main(arguments: list[str] | None = None) -> None:
    """Trains, compares, writes the results and prints them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.theory")
    parser.add_argument("--updates", type=int, default=3_000)
    parser.add_argument("--out", type=Path, default=None, help="a folder, for a check")
    options = parser.parse_args(arguments)
    machine, begun = measure.machine(), time.process_time()
    cases = (tilted, adjoint, mirrored, proximal, unguided, streamed)
    rows = [row for case in cases for row in case(options.updates)]
    content = {"machine": machine, "updates": options.updates, "samples": SAMPLES}
    content["rows"] = [dict(zip(COLUMNS, (*r, abs(r[2] - r[3])), strict=True)) for r in rows]
    content["cpu_seconds"] = round(time.process_time() - begun, 1)
    measure.write("theory", content, options.out)
    shown = [(*r[:2], f"{r[2]:.4g}", f"{r[3]:.4g}", f"{abs(r[2] - r[3]):.2g}") for r in rows]
    measure.show(f"theory; {content['cpu_seconds']} CPU seconds", COLUMNS, shown)


def learned(loss: Loss, updates: int, size: int = 1) -> FlowMap:
    """A net's flow after descending the mean of ``loss`` over ``BATCH`` keys."""
    net = NET.init(jax.random.key(0), Spec((1,), size), size)
    rate = Adam(rate=2e-3, hold=updates // 2, anneal=updates - updates // 2)

    def step(state: Any, key: jax.Array) -> tuple[Any, None]:
        keys = jax.random.split(key, BATCH)
        mean = lambda flow: jnp.mean(jax.vmap(lambda k: loss(flow, k))(keys))  # noqa: E731
        return state.step(jax.grad(mean)(state.model)), None

    start = Trainable.create(FlowMap(net, size), rate)
    keys = jax.random.split(jax.random.key(1), updates)
    return jax.jit(lambda s: jax.lax.scan(step, s, keys)[0])(start).model


def law(flow: FlowMap, steps: int = 100) -> tuple[float, float]:
    """Mean and standard deviation of what Euler steps make of noise."""
    noise = jax.random.normal(jax.random.key(2), (SAMPLES, 1))
    made = jax.jit(jax.vmap(lambda a: flows.integrate(flow, steps, a, S)))(noise)
    return float(made.mean()), float(made.std())


def gaussian(case: str, proved: tuple[float, float], found: tuple[float, float]) -> list[Row]:
    """Rows for a mean and a standard deviation."""
    return [(case, what, *pair) for what, *pair in zip(("mean", "std"), proved, found, strict=True)]


def tilted(updates: int) -> list[Row]:
    """QAM: the behaviour times exp(TAU Q), by adjoint matching on the flow's own paths."""

    def found(gradient: Callable[[jax.Array], jax.Array]) -> tuple[float, float]:
        def loss(flow: FlowMap, key: jax.Array) -> jax.Array:
            path = flows.memoryless_path(key, jax.lax.stop_gradient(flow), BASE, STEPS, S)
            back = flows.lean_adjoint(BASE, path, -TAU * gradient(path[-1]), S)
            return flows.adjoint_matching(flow, BASE, path, back, S) / STEPS

        return law(learned(loss, updates), STEPS)

    moved = MEAN + TAU * SLOPE * WIDTH**2, WIDTH
    precision = WIDTH**-2 + TAU * HEIGHT
    peaked = (MEAN * WIDTH**-2 + TAU * HEIGHT * BEST) / precision, precision**-0.5
    return [
        *gaussian("QAM, Q linear", moved, found(lambda a: jnp.full_like(a, SLOPE))),
        *gaussian("QAM, Q quadratic", peaked, found(lambda a: -HEIGHT * (a - BEST))),
    ]


def adjoint(updates: int) -> list[Row]:
    """QAM: the lean adjoint of v = A a + a / (2 t) is exp(2 (1 - t) A^T) g_1; its first entry at
    the path's start."""
    del updates
    a, g1 = np.array([[0.3, -1.0], [0.5, 0.2]]), np.array([1.0, -2.0])
    values, vectors = np.linalg.eig(a.T)
    exact = (vectors @ np.diag(np.exp(2 * values)) @ np.linalg.inv(vectors)).real @ g1
    flow = FlowMap(lambda r, t, x, s: jnp.asarray(a, jnp.float32) @ x + x / (2 * r), 2)
    rows = []
    for steps in (10, 100, 1000):
        path = jnp.zeros((steps + 1, 2))
        found = flows.lean_adjoint(flow, path, jnp.asarray(g1, jnp.float32), S)[0, 0]
        rows.append((f"lean adjoint, {steps} steps", "entry", float(exact[0]), float(found)))
    return rows


def mirrored(updates: int) -> list[Row]:
    """FPMD: flow matching on N(m, w^2) weighted by exp(Q / lambda), lambda in units of Q's own
    spread, learns precision w^-2 + H / lambda."""
    noise = np.random.default_rng(0).normal(size=1_000_000)
    q = -HEIGHT / 2 * (MEAN + WIDTH * noise - BEST) ** 2
    moments = Moments(jnp.float32(q.mean()), jnp.float32(q.std()))
    weigh = StandardisedWeights(LAMBDA, 1e9)

    def loss(flow: FlowMap, key: jax.Array) -> jax.Array:
        key_noise, key_action, key_time = jax.random.split(key, 3)
        a = MEAN + WIDTH * jax.random.normal(key_action, (1,))
        t = jax.random.uniform(key_time)
        pair = flows.Path(jax.random.normal(key_noise, (1,)), a, S)
        residual = flows.diagonal(flow, flow, flows.Times(t, t, t), pair)
        value = -HEIGHT / 2 * (a - BEST) ** 2
        # Over the largest weight there is, and not over a batch's.
        top = weigh(jnp.concatenate([value, jnp.zeros(1)]), moments, jnp.float32(1.0))
        return jnp.mean(jnp.square(residual)) * top[0]

    tilt = HEIGHT / (LAMBDA * float(q.std()))
    precision = WIDTH**-2 + tilt
    proved = (MEAN * WIDTH**-2 + tilt * BEST) / precision, precision**-0.5
    return gaussian("FPMD, weighted flow matching", proved, law(learned(loss, updates)))


def proximal(updates: int) -> list[Row]:
    """SWFP: one block's proximal step from N(m, w^2), without entropy and with it."""
    rows = []
    for alpha in (0.0, ALPHA):
        config = SWFP(eta=ETA, alpha=alpha, previous=flows.previous_law, volume=flows.exact_volume)

        def loss(flow: FlowMap, key: jax.Array, config: SWFP = config) -> jax.Array:
            a = MEAN + WIDTH * jax.random.normal(key, (1,))
            block = lambda a: a + flow.velocity(jnp.float32(0.0), a, S)  # noqa: E731
            end = jax.lax.stop_gradient(block(a))
            q = lambda a: -HEIGHT / 2 * jnp.sum(jnp.square(a - BEST))  # noqa: E731
            return block_loss(config, key, q, block, block, a, end)[0]

        flow = learned(loss, updates)
        a = MEAN + WIDTH * jax.random.normal(jax.random.key(2), (SAMPLES, 1))
        made = a + jax.vmap(lambda x, f=flow: f.velocity(jnp.float32(0.0), x, S))(a)
        c = HEIGHT + 1 / ETA
        spread = WIDTH / ETA + np.sqrt((WIDTH / ETA) ** 2 + 4 * alpha * c)
        proved = (MEAN / ETA + HEIGHT * BEST) / c, spread / (2 * c)
        case = f"SWFP's block, alpha {alpha}"
        rows += gaussian(case, proved, (float(made.mean()), float(made.std())))
    return rows


def unguided(updates: int) -> list[Row]:
    """GFP with eta 0 is FQL with a normalised critic: the largest gap of a parameter after up to
    100 updates in float32."""
    nets = {"behaviour": NET, "actor": MLPOneStep(64, 2), "critic": MLPCritic(64, 2)}
    shared: dict[str, Any] = nets | {"alpha": 1.0, "discount": 0.9}
    draw = iter(jax.random.split(jax.random.key(3), 4))
    obs, after = (jax.random.normal(next(draw), (BATCH, 3)) for _ in range(2))
    action, one = jax.random.uniform(next(draw), (BATCH, 2), minval=-1.0), jnp.ones(BATCH)
    reward = jax.random.normal(next(draw), (BATCH,))
    batch = Transition(obs, action, reward, 0.9 * one, after, jnp.ones_like(action), one)

    def trained(config: Any) -> Any:
        agent = config.init(jax.random.key(4), Spec((3,), 2))
        keys = jax.random.split(jax.random.key(5), min(updates, 100))
        return jax.jit(
            lambda agent: jax.lax.scan(lambda a, k: (a.update(k, batch)[0], None), agent, keys)[0]
        )(agent)

    ours = trained(GFP(eta=0.0, target=member(0), **shared))
    theirs = trained(FQL(normalise_q=True, **shared))
    names = ("behaviour", "actor", "critic")
    pairs = [
        zip(*(jax.tree.leaves(getattr(x, name)) for x in (ours, theirs)), strict=True)
        for name in names
    ]
    gap = max(float(np.abs(np.asarray(a) - b).max()) for pair in pairs for a, b in pair)
    return [("GFP, eta 0, and normalised FQL", "largest gap", 0.0, gap)]


def streamed(updates: int) -> list[Row]:
    """SFP on two trajectories that part and on two that cross: how far the streamed actions are
    from the data's law at t = 1/4, 1/2, 3/4 and 1, and the share that changes sides."""
    tubes = {
        "deterministic": (Stabilised(0.2, 1.5), 0.0),
        "latent, wide tube": (Latent(0.5, 1.0, 0.5), 0.25),
        "latent, released toy's tube": (Latent(0.001, 0.05, 2.5), 0.0),
    }
    rows = []
    for name, curve in PAIRS.items():
        for kind, (tube, exact) in tubes.items():
            starts, actions = played(tube, curve, updates)
            far = [gap_to(tube, curve, t, x) for t, x in zip(QUARTERS, actions, strict=True)]
            case = f"SFP, {name}, {kind}"
            told = zip(QUARTERS, far, strict=True)
            rows += [(case, f"largest gap to the law at {t:g}", 0.0, gap) for t, gap in told]
            # Where the trajectories part a wide latent's start decides little.
            if name == "crossing" or kind == "deterministic":
                changed = float(np.mean(actions[-1] * starts < 0))
                rows.append((case, "share that changes sides", exact, changed))
    return rows


def played(tube: Any, curve: Any, updates: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions that begin streams of a flow that was trained, and those at ``QUARTERS``."""
    points = jax.vmap(curve)(jnp.linspace(0.0, 1.0, POINTS + 1))[:, None]

    def loss(flow: FlowMap, key: jax.Array) -> jax.Array:
        key_side, key_loss = jax.random.split(key)
        line = jnp.where(jax.random.bernoulli(key_side), points, -points)
        return flows.streaming_loss(key_loss, tube, flow, line, jnp.ones((POINTS, 1)), S)

    flow = learned(loss, updates, tube.copies)
    sides = jnp.where(jnp.arange(SAMPLES) % 2 == 0, 1.0, -1.0)[:, None] * points[0]
    starts = jax.vmap(tube.start)(jax.random.split(jax.random.key(6), SAMPLES), sides)
    at = jnp.asarray([round(t * POINTS) - 1 for t in QUARTERS])
    play = lambda x: flows.streamed(flow, POINTS, 4, x, S)[at, 0]  # noqa: E731
    return np.asarray(starts[:, 0]), np.asarray(jax.jit(jax.vmap(play))(starts)).T


def gap_to(tube: Any, curve: Any, t: float, actions: np.ndarray) -> float:
    """The largest difference of distribution functions at ``t``, from 20 000 draws of the law."""

    def drawn(key: jax.Array) -> jax.Array:
        key_side, key_start = jax.random.split(key)
        side = jnp.where(jax.random.bernoulli(key_side), 1.0, -1.0)
        xi = lambda t: side * curve(t)[None]  # noqa: E731
        x0 = tube.start(key_start, xi(jnp.float32(0.0)))
        return tube.point(jnp.float32(t), x0, xi)[0]

    keys = jax.random.split(jax.random.key(7), 20_000)
    law = np.sort(np.asarray(jax.jit(jax.vmap(drawn))(keys)))
    at = np.sort(actions)
    share = np.searchsorted(law, at) / len(law)
    return float(np.abs(share - (np.arange(len(at)) + 0.5) / len(at)).max())


if __name__ == "__main__":
    main()
