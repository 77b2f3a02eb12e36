"""Guards: what is a bad update, what it leads to, and how it is made again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import OFFLINE, QUIET, TINY, train

import flowpolicy as fp
from flowpolicy.agents import AGENTS, Agent
from flowpolicy.agents.td import stood_still
from flowpolicy.data.chunk import ChunkView
from flowpolicy.envs.toy import point_mass_data
from flowpolicy.errors import Diverged, InvalidConfig, InvalidData
from flowpolicy.nets import LARGEST, Adam, MLPCritic, MLPFlow, Trainable
from flowpolicy.train import reproduction
from flowpolicy.train.guards import Bounds, Fault, Guard, examine, trainables
from flowpolicy.types import Transition


class Stub(Agent):
    """As guards see an agent: two things that are trained."""

    actor: Trainable
    critic: dict

    def act(self, key, obs, memory):
        """Not asked."""

    def update(self, key, batch):
        """Not asked."""

    def flow(self):
        """Not asked."""

    def value(self, obs, action):
        """Not asked."""


def stub(norms=(1.0, 2.0), limits=(LARGEST, LARGEST)):
    """With gradients of these norms."""
    made = [
        dataclasses.replace(
            Trainable.create({"w": jnp.zeros(2)}, Adam()), norm=jnp.float32(n), limit=jnp.float32(x)
        )
        for n, x in zip(norms, limits, strict=True)
    ]
    return Stub(made[0], {"online": made[1]})


def batch(**changes):
    """Two transitions."""
    ones = jnp.ones(2)
    fields = {
        "obs": ones[:, None],
        "action": ones[:, None],
        "reward": -ones,
        "discount": 0.9 * ones,
    }
    fields |= {"next_obs": ones[:, None], "mask": ones[:, None], "weight": ones}
    return Transition(**{**fields, **changes})


def look(agent=None, metrics=None, guard=Guard(), **changes):
    """The agent, the metrics and the faults after ``examine``; values in [-200, 100]."""
    bounds = Bounds(jnp.float32(-200.0), jnp.float32(100.0), jnp.float32(100.0))
    metrics = {k: jnp.float32(v) for k, v in (metrics or {"critic/loss": 1.0}).items()}
    agent, metrics, faults = examine(guard, bounds, agent or stub(), batch(**changes), metrics)
    return agent, metrics, Fault(int(faults))


NAN = jnp.array([0.0, jnp.nan])


@pytest.mark.parametrize(
    ("faults", "given"),
    [
        (Fault(0), {}),
        (Fault(0), {"metrics": {"critic/target_mean": 99.0, "critic/target_still": 0.0}}),
        (Fault.DATA, {"reward": NAN}),
        (Fault.DATA, {"discount": NAN}),
        (Fault.DISCOUNT, {"discount": jnp.array([0.9, 1.02])}),
        (Fault.TARGET, {"metrics": {"critic/target_still": 1.0}}),
        (Fault.LOSS, {"metrics": {"critic/loss": np.nan}}),
        (Fault.LOSS, {"metrics": {"critic/loss": np.inf}}),
        (Fault.LOSS, {"agent": stub((1.0, LARGEST))}),
        (Fault.GRADIENT, {"agent": stub((7.0, 2.0), (7.0, 9.0))}),
        (Fault.VALUE, {"metrics": {"critic/target_mean": 101.0}}),
        (Fault.VALUE, {"metrics": {"critic/target_mean": -201.0}}),
        (Fault.DATA | Fault.LOSS, {"reward": NAN, "metrics": {"critic/loss": np.nan}}),
    ],
)
def test_every_fault_is_told_by_its_name(faults, given):
    """And a healthy update has none."""
    assert look(**given)[2] == faults


def test_norms_are_metrics_and_limits_follow_them():
    """The first limit is the factor times the norm, at least the range; then it goes with the
    geometric mean of the norms that were followed."""
    guard = Guard(norm_factor=10.0, norm_memory=4)
    agent, metrics, _ = look(stub((5.0, 300.0)), guard=guard)
    assert {k: float(v) for k, v in metrics.items() if "gradient" in k} == {
        "gradient/actor": 5.0, "gradient/critic['online']": 300.0,
    }  # fmt: skip
    assert [float(x.limit) for x in trainables(agent).values()] == [1000.0, 3000.0]
    after, _, faults = look(stub((4999.0, 700.0), (5000.0, 600.0)), guard=guard)
    assert faults == Fault.GRADIENT
    moved, kept = (float(x.limit) for x in trainables(after).values())
    assert moved == pytest.approx(5000.0 ** (3 / 4) * 49990.0 ** (1 / 4), rel=1e-5)
    assert kept == 600.0


def test_a_target_that_stands_still_is_seen():
    """With tau 0 and only then; not where the critic is where the target is."""
    agent = AGENTS["fmq"](chunk=1, actor=TINY["actor"], critic=TINY["critic"])
    old = agent.init(jax.random.key(0), fp.Spec((2,), 2, 10)).critic
    away = jax.tree.map(lambda x: x + 0.1, old.target)
    for tau, still in ((0.0, 1.0), (1e-5, 0.0), (0.005, 0.0), (1.0, 0.0)):
        new = jax.tree.map(lambda a, b, t=tau: (1.0 - t) * a + t * b, old.target, away)
        assert float(stood_still(old.target, new, away)) == still
        assert float(stood_still(old.target, old.target, old.target)) == 0.0


@pytest.mark.parametrize("discount", [1.0, 1.02, -0.1])
@pytest.mark.parametrize("name", sorted(AGENTS))
def test_a_discount_of_one_or_more_is_refused_by_every_agent(name, discount):
    """Or by its view, before anything is trained or written; what is distilled by its source."""
    asked = "qc" if name == "distilled" else name
    with pytest.raises(InvalidConfig, match=r"discount( must be)? in \[0, 1\)"):
        AGENTS[asked](discount=discount).view  # noqa: B018


@pytest.mark.parametrize(
    "fields", [{"in_a_row": 0}, {"rollbacks": -1}, {"norm_factor": 1.0}, {"value_limit": 0.0}]
)
def test_a_guard_refuses_what_makes_no_sense(fields):
    """The message names the fields."""
    with pytest.raises(InvalidConfig, match=next(iter(fields))):
        Guard(**fields)


# Planted faults, each past the check that refuses it.


@dataclasses.dataclass(frozen=True)
class Growing(ChunkView):
    """A view that says 0.99 and discounts by 1.02."""

    def __call__(self, window, exists):
        return dataclasses.replace(super().__call__(window, exists), discount=jnp.float32(1.02))


fp.register("growing")(Growing)


@fp.register("growing_views")
def growing_views(horizon, discount):
    return Growing(horizon, discount)


def rows(**changes):
    """500 rows of the point mass; ``changes`` of columns are made after all checks."""
    made = fp.Dataset.from_arrays(**point_mass_data(500, 0))
    return dataclasses.replace(made, rows=dataclasses.replace(made.rows, **changes))


def reward(at=(), value=0.0, times=1.0):
    """The rewards, one in ten thousand or all of them altered."""
    made = np.array(rows().rows.reward) * np.float32(times)
    made[list(at)] = value
    return made


@dataclasses.dataclass(frozen=True)
class Unchecked(AGENTS["fmq"]):
    """FMQ whose target does not move."""

    def __post_init__(self):
        """Checks nothing."""


fp.register("unchecked")(Unchecked)
WIDE = {"actor": MLPFlow(width=128, depth=3), "critic": MLPCritic(width=128, depth=3)}


def planted(tmp_path, data=None, **changes):
    """The verdict of a run that has a fault."""
    with pytest.raises(Diverged) as caught:
        train(tmp_path / "r", data=data, phases=(fp.Offline(100),), evaluation=QUIET, **changes)
    status = fp.Run(tmp_path / "r").status()
    assert (status["state"], status["verdict"]) == ("diverged", str(caught.value))
    with pytest.raises(Diverged, match=str(caught.value)[:20]):
        fp.resume(tmp_path / "r", data)
    return str(caught.value)


def test_planted_a_reward_that_is_not_finite(tmp_path):
    """It is found at its first draw, skipped, named, and written down."""
    said = planted(tmp_path, rows(reward=reward([77], np.nan)))
    assert "values that are not finite: reward of sample" in said
    assert not fp.Run(tmp_path / "r").path.joinpath("rollbacks.jsonl").exists()
    (path,) = reproduction.written(fp.Run(tmp_path / "r"))
    found = reproduction.load(path)
    samples = np.flatnonzero(~np.isfinite(found.batch.reward)).tolist()
    assert f"reward of sample {samples[0]}" in found.meta["verdict"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.agent))
    assert found.precision == "float32"
    after, metrics, faults = reproduction.reproduce(path)
    assert Fault.DATA in faults
    assert Fault.LOSS in faults
    assert np.isnan(metrics["critic/loss"])
    for a, b in zip(
        *(jax.tree.leaves(x.critic.online.model) for x in (after, found.agent)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_reproduction_has_the_run_s_precision(tmp_path, monkeypatch):
    """Products are asked for as they were in training, and not as the process has it."""
    planted(tmp_path, rows(reward=reward([77], np.nan)), precision="bfloat16")
    (path,) = reproduction.written(fp.Run(tmp_path / "r"))
    found, asked = reproduction.load(path), []
    real = type(found.agent).update

    def update(self, key, batch):
        asked.append(jax.config.jax_default_matmul_precision)
        return real(self, key, batch)

    monkeypatch.setattr(type(found.agent), "update", update)
    found.again()
    assert asked == ["bfloat16"]


def test_planted_a_discount_above_one(tmp_path):
    """Whatever the configuration says, the transitions' own discount is looked at."""
    said = planted(tmp_path, ends=growing_views)
    assert "a transition's discount is 1.02, above 1" in said


def test_planted_rewards_a_million_times_too_large(tmp_path):
    """Refused before anything is written: -1 a step with gamma 0.95 is -20 in all."""
    with pytest.raises(InvalidData, match=r"rewards of size 1e\+06 make values of up to 2e\+07"):
        train(tmp_path / "r", data=rows(reward=reward(times=1e6)), phases=OFFLINE)
    assert not (tmp_path / "r").exists()


def test_planted_a_learning_rate_a_thousand_times_too_high(tmp_path):
    """The run goes back three times; the verdict names gradients and rates."""
    said = planted(tmp_path, optimiser=Adam(rate=0.3), block=20, checkpoint_every=5, **WIDE)
    assert "a learning rate that is too high (actor: 0.3, critic.online: 0.3)" in said
    assert "after going back 3 times" in said
    told = (tmp_path / "r" / "rollbacks.jsonl").read_text().splitlines()
    assert len(told) == 3


def test_planted_a_target_that_does_not_move(tmp_path):
    """tau = 0: no other random numbers would help, so the run ends at once."""
    agent = Unchecked(
        **{k: v for k, v in TINY.items() if k in Unchecked.__dataclass_fields__}, tau=0.0
    )
    config = fp.RunConfig(
        agent=agent, phases=(fp.Offline(100),), evaluation=QUIET, batch=8, block=10
    )
    with pytest.raises(Diverged, match=r"the target critic stays where it is .* tau that is 0"):
        fp.train(config, rows(), out=tmp_path / "r")
    assert not (tmp_path / "r" / "rollbacks.jsonl").exists()
