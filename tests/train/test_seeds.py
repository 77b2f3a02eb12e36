"""Seeds as an axis: several seeds in one process are several runs, number by number."""

import dataclasses

import jax
import numpy as np
import pytest
from small_runs import QUIET, TINY, agents, lines, train

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import InvalidConfig
from flowpolicy.train import updates

SEEDS = (3, 8)
STEPS = 61


@fp.register("uneven")
@dataclasses.dataclass(frozen=True)
class Uneven:
    """Point masses whose episodes are 5 to 11 steps long, as their seed has it."""

    name = "uneven"
    playable = True

    def dataset(self):
        return TINY["task"].dataset()

    def env(self):
        class Env(PointMass):
            def reset(self, seed):
                self.max_steps = 5 + seed % 7
                return super().reset(seed)

        return Env()


def online(updates_per_step=1):
    """All actions are random: a function of (seed, attempt, tick), whatever the agents learned."""
    return fp.Online(STEPS, updates_per_step, start_after=6, random_steps=STEPS)


# In the last a tick has one update and a half, and seeds begin it after different numbers of ticks.
PHASES = {"phases": (fp.Offline(20), online(), online(0.75)), "evaluation": QUIET}


def close(one, other, tolerance):
    """Whether two pytrees of arrays agree within ``tolerance``, relative to 1 or the number."""
    gaps = jax.tree.map(
        lambda a, b: float(np.max(np.abs(np.asarray(a) - np.asarray(b)) / (1 + np.abs(b)))),
        one,
        other,
    )
    return max(jax.tree.leaves(gaps)) <= tolerance


def of(agents_, i):
    """The i-th agent with a seed axis of length one, without what counts all seeds together."""
    return jax.tree.map(lambda x: x[i : i + 1], agents_)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Two seeds, two online phases; chunks of two, so that episodes end amid ticks."""
    return train(
        tmp_path_factory.mktemp("seeds") / "together",
        seeds=SEEDS, task=Uneven(), **PHASES
    )  # fmt: skip


@pytest.mark.parametrize("i", range(len(SEEDS)))
def test_a_recorded_sequence_of_actions_gives_every_seed_what_it_gets_alone(together, tmp_path, i):
    """Ticks, updates and their random numbers are the seed's own, though the others' episodes
    end at other times; rounding apart, the agent is the one of the seed trained alone."""
    alone = train(
        tmp_path / "alone",
        seeds=SEEDS[i : i + 1], task=Uneven(), **PHASES
    )  # fmt: skip
    journal = f"replay/seed-{SEEDS[i]}"
    for file in sorted((alone.path / journal).iterdir()):
        assert file.read_bytes() == (together.path / journal / file.name).read_bytes()
    assert close(of(agents(together), i), agents(alone), 1e-5)
    told = [m["updates"] for m in lines(together, "updates") if m["seed"] == SEEDS[i]]
    assert told[-1] == lines(alone, "updates")[-1]["updates"]


def test_the_sequences_are_not_in_step(together):
    """The case above is worth something: seeds finish after different numbers of ticks."""
    meta = together.load()[1]
    assert len(set(meta["stepper"]["ticks"])) > 1
    assert len(set(meta["made"])) > 1


@pytest.mark.slow
@pytest.mark.parametrize("way", ["in turn", "vmap"])
def test_a_thousand_updates_on_the_same_rows(tmp_path, monkeypatch, way):
    """Five seeds are five runs within 1e-5 after 1 000 updates at a learning rate that moves; also
    by the program that accelerators have."""
    if way == "vmap":
        monkeypatch.setattr(updates, "_in_turn", lambda f, axes: jax.vmap(f, in_axes=axes))
    settings = {"phases": (fp.Offline(1_000),), "evaluation": QUIET, "block": 100}
    seeds = (0, 1, 2, 3, 4)
    together = agents(train(tmp_path / "together", seeds=seeds, **settings))
    for i, seed in enumerate(seeds):
        alone = agents(train(tmp_path / str(seed), seeds=(seed,), **settings))
        assert close(of(together, i), alone, 1e-5)


@pytest.mark.parametrize("seed", [2**32, 2**63, 10**23])
def test_seeds_that_a_key_cannot_tell(tmp_path, seed):
    """The first is the same agent as 0, and the others are no key's; a configuration from before
    they were refused is still read.
    """
    with pytest.raises(InvalidConfig, match=rf"in 0 \.\. 2\*\*32 - 1, got \({seed},\)"):
        train(tmp_path / "r", seeds=[seed])
    assert not (tmp_path / "r").exists()
    old = dataclasses.replace(runs.get("toy/fmq").config, seeds=(seed,))
    assert parts.decode(parts.encode(old)) == old
