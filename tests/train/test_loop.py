"""The loop, on the named run toy/fmq at a size of seconds."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from small_runs import CHUNK, OFFLINE, QUIET, TINY, agents, fingerprint, lines, train

import flowpolicy as fp
from flowpolicy import api, runs
from flowpolicy.data.chunk import ChunkView
from flowpolicy.data.replay import UniformDraw
from flowpolicy.envs.fleet import Local
from flowpolicy.envs.toy import PointMass
from flowpolicy.errors import Diverged, InvalidConfig, InvalidData, UnknownName
from flowpolicy.train.checkpoint import checkpoints
from flowpolicy.train.clock import PARTS
from flowpolicy.train.guards import Guard
from flowpolicy.train.normalise import Identity, Standardise
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.stepper import Stepper
from flowpolicy.train.updates import Updater

SEEN = []  # what the environments of ``Spoiled`` were given, action by action


@fp.register("spoiled")
@dataclasses.dataclass(frozen=True)
class Spoiled:
    """Point masses without data; one step's reward is ``reward``, or its observation where NaN."""

    reward: str = "-1.0"
    at: int = 10
    name = "spoiled"
    playable = True

    def dataset(self):
        return None

    def env(self):
        reward, at = float(self.reward), self.at

        class Env(PointMass):
            def step(self, action):
                SEEN.append(np.array(action))
                step = super().step(action)
                return step._replace(reward=reward) if self._steps == at else step

        return Env()


def test_what_a_run_leaves_behind(run):
    """config.json, metrics.jsonl, evaluations.csv, checkpoints with a manifest."""
    names = {p.name for p in run.path.iterdir()}
    assert {"config.json", "metrics.jsonl", "evaluations.csv", "checkpoints"} <= names
    record = json.loads((run.path / "config.json").read_text())
    assert {"config", "spec", "versions", "commit", "task", "data"} <= set(record)
    assert run.config().agent.bootstrap == TINY["bootstrap"]
    for path in checkpoints(run.path / "checkpoints"):
        assert {p.name for p in path.iterdir()} == {
            "state.safetensors", "loop.safetensors", "meta.json", "manifest.json",
        }  # fmt: skip
    for text in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not strict JSON"))


def test_the_evaluations(run):
    """The columns to the letter, and a row per seed at the end of each phase."""
    with open(run.path / "evaluations.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert ",".join(header) == "seed,phase,step,refiner,episodes,success,return,length,seconds"
    assert [row[:5] for row in rows] == [
        ["0", "offline", "20", "own", "3"],
        ["0", "online", "60", "own", "3"],
    ]
    for row in run.evaluations():
        assert 0 <= row.success <= 1
        assert 1 <= row.length <= PointMass.max_steps
        assert -row.length <= row.returns <= 0


def test_environment_steps_episodes_and_updates_are_counted_exactly(run):
    """60 steps in chunks of 2; the first tick has no rows yet, all others make 2 updates.

    Every episode of this run ends by time-out at 40 steps, which is a whole number of chunks.
    """
    _, meta = run.load()
    assert meta["env_steps"] == [60]
    assert meta["stepper"]["episodes"] == [1]
    assert [(e["env_steps"], e["episode/length"]) for e in lines(run, "episode/length")] == [
        (40, 40)
    ]
    assert meta["updates"] == 20 + (30 - 1) * CHUNK
    counts = [line["updates"] for line in lines(run, "critic/loss")]
    assert counts == [10, 20, 30, 40, 50, 60, 70, 78]
    assert int(agents(run).count[0]) == 78


def test_the_shares_of_the_time_add_up(run):
    """Per phase: what stepping, the policy, updates, checkpoints, evaluations and the rest take."""
    offline, online = lines(run, "time/rest")
    assert (offline["phase"], online["phase"]) == ("offline", "online")
    for line in (offline, online):
        shares = [line[f"time/{k}"] for k in (*PARTS, "rest")]
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1.0)
        assert min(line["time/updates"], line["time/evaluation"], line["time/checkpoint"]) > 0
    assert offline["time/environment"] == offline["time/policy"] == 0
    assert min(online["time/environment"], online["time/policy"]) > 0


def test_the_same_configuration_gives_the_same_bits(run, tmp_path):
    """Parameters, optimiser, episodes and evaluations; another seed gives others."""
    again = train(tmp_path / "again")
    assert fingerprint(again) == fingerprint(run)
    drop = lambda rows: [dataclasses.replace(row, seconds=0.0) for row in rows]  # noqa: E731
    assert drop(again.evaluations()) == drop(run.evaluations())
    assert fingerprint(train(tmp_path / "other", seeds=[1])) != fingerprint(run)


def test_two_updates_a_step_a_late_start_and_a_cut_chunk(tmp_path):
    """59 steps are 30 ticks, the last of one step; with 20 steps before the first update, 20 of
    them are followed by 2 * 2 updates."""
    phases = (fp.Online(59, updates_per_step=2, start_after=20),)
    run = train(tmp_path / "r", phases=phases, evaluation=QUIET, block=4)
    _, meta = run.load()
    assert (meta["env_steps"], meta["updates"]) == ([59], 20 * 2 * CHUNK)
    assert [line["step"] for line in lines(run, "critic/loss")] == [*range(22, 59, 2), 59]


def test_fewer_updates_than_steps(tmp_path):
    """Three updates in ten steps, chunks of two: .6 a tick, never two ticks' worth at once."""
    phases = (fp.Online(20, updates_per_step=0.3, start_after=0),)
    run = train(tmp_path / "r", phases=phases, evaluation=QUIET, block=1)
    # Before the first row there is nothing to learn from; sums 1.2, 1.8, 2.4, ... of ticks.
    assert run.load()[1]["updates"] == int(10 * 0.6) - int(1 * 0.6)
    assert [line["updates"] for line in lines(run, "critic/loss")] == [1, 2, 3, 4, 5, 6]


def test_an_online_phase_has_steps():
    """One of none is left out, and not met after the offline training."""
    with pytest.raises(InvalidConfig, match=r"env_steps >= 1 .*got 0"):
        fp.Online(0)


def test_the_best_state_goes_by_the_return_where_nothing_succeeds(tmp_path):
    """Gymnasium's environments know no success; of equal ones the larger return is kept."""
    run = train(
        tmp_path / "r", phases=(fp.Online(40, start_after=0),),
        evaluation=Evaluation(every=10, episodes=1, final_episodes=1, side_by_side=1),
    )  # fmt: skip
    rows = run.evaluations()
    assert {row.success for row in rows} == {0.0}
    best = max(rows, key=lambda row: row.returns)
    assert run.load(best=True)[1]["returns"] == pytest.approx(best.returns)


def test_purely_offline_and_purely_online(tmp_path):
    """One phase of either kind; online without data, offline without a task."""
    task = Spoiled()
    online = train(tmp_path / "on", task=task, phases=(fp.Online(48, start_after=0),))
    assert [row.phase for row in online.evaluations()] == ["online"]
    assert int(agents(online).count[0]) == 46
    data = TINY["task"].dataset()
    config = dataclasses.replace(run_config(), task=None, phases=OFFLINE)
    offline = fp.train(config, data, out=tmp_path / "off")
    assert offline.evaluations() == []
    assert int(agents(offline).count[0]) == 20
    with pytest.raises(InvalidConfig, match="needs data"):
        train(tmp_path / "neither", task=task, phases=OFFLINE)


def run_config():
    """toy/fmq with the tiny overrides, as a configuration."""
    return api.override(runs.get("toy/fmq").config, TINY)


def test_two_seeds_side_by_side_are_two_runs(tmp_path):
    """Offline, on the same rows: parameters within 1e-5 and each its own."""
    both = agents(train(tmp_path / "both", seeds=[3, 5], phases=OFFLINE, evaluation=QUIET))
    for i, seed in enumerate((3, 5)):
        alone = agents(train(tmp_path / f"{seed}", seeds=[seed], phases=OFFLINE, evaluation=QUIET))
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=1e-5)
    apart = [np.abs(np.float32(x[0] - x[1])).max() for x in jax.tree.leaves(both.actor.model)]
    assert max(apart) > 1e-2


def test_two_seeds_online_have_environments_of_their_own(tmp_path):
    """Steps, episodes and rings per seed; evaluations and metrics name the seed."""
    run = train(tmp_path / "r", seeds=[3, 5], phases=(fp.Online(44, start_after=0),))
    _, meta = run.load()
    assert meta["env_steps"] == [44, 44]
    assert {line["seed"] for line in lines(run, "episode/return")} == {3, 5}
    assert [(row.seed, row.phase) for row in run.evaluations()] == [(3, "online"), (5, "online")]


def test_evaluations_within_a_phase_and_checkpoints_at_intervals(tmp_path):
    """Every 10 updates or steps, and at the end of a phase; checkpoints are begun 29 updates apart,
    so that a kill costs at most 30; the newest two stay."""
    evaluation = dataclasses.replace(TINY["evaluation"], every=10)
    run = train(tmp_path / "r", evaluation=evaluation, checkpoint_every=30)
    told = [(row.phase, row.step, row.episodes) for row in run.evaluations()]
    within = [("online", step, 2) for step in (10, 20, 30, 40, 50)]
    assert told == [("offline", 10, 2), ("offline", 20, 3), *within, ("online", 60, 3)]
    kept = [p.name for p in checkpoints(run.path / "checkpoints")]
    assert kept == ["step-000000058", "step-000000078"]


@pytest.mark.parametrize(
    ("every", "guard", "what"),
    [
        (1000, None, r"critic/loss is (inf|nan)"),
        (1, None, r"critic/loss is (inf|nan)"),
        (1, Guard(), r"rewards of size 1e\+30"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, every, guard, what):
    """A reward of 1e30 overflows the squared error: ``Diverged`` says what, and the last checkpoint
    is finite and loads. Saving at every tick does not let a broken state in. With guards the reward
    itself is refused, as it comes."""
    phases = (fp.Online(8, start_after=0), fp.Online(40, start_after=0))  # 48, as above
    with pytest.raises(Diverged, match=what + r"[^\n]*last good checkpoint stays"):
        train(
            tmp_path / "r", task=Spoiled("1e30"), phases=phases, evaluation=QUIET,
            checkpoint_every=every, guard=guard,
        )  # fmt: skip
    kept, meta = fp.Run(tmp_path / "r").load()
    assert meta["updates"] == 6 if every == 1000 or guard else 6 < meta["updates"] < 40
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept.agents))


@pytest.mark.parametrize("reward", ["nan", "inf"])
def test_a_reward_that_is_not_finite_is_refused(tmp_path, reward):
    """The message says where it came from; no row of it reaches the replay."""
    with pytest.raises(InvalidData, match=r"point-mass: the reward after step 10 of episode 0"):
        train(
            tmp_path / "r", task=Spoiled(reward), phases=(fp.Online(40, start_after=1000),),
            evaluation=QUIET,
        )  # fmt: skip


def test_two_online_phases_draw_noise_of_their_own(tmp_path):
    """Without updates, 40 + 40 steps are the 80 steps of one phase, action by action."""
    seen = {}
    for name, steps in (("two", (40, 40)), ("one", (80,))):
        SEEN.clear()
        phases = tuple(fp.Online(n, start_after=1000) for n in steps)
        train(tmp_path / name, task=Spoiled(), phases=phases, evaluation=QUIET)
        seen[name] = np.stack(SEEN)
    assert seen["two"].shape == (80, 2)
    np.testing.assert_array_equal(seen["two"], seen["one"])


def test_phases_of_one_kind_count_on(tmp_path):
    """Every evaluation and every line of the metrics has a step of its own, within a kind; what is
    evaluated later has the step of the end."""
    phases = (fp.Online(20, start_after=0), fp.Offline(10), fp.Online(12, start_after=0))
    evaluation = Evaluation(every=8, episodes=1, final_episodes=2, side_by_side=1)
    run = train(tmp_path / "r", phases=phases, evaluation=evaluation, block=4)
    rows = run.evaluations()
    assert [(r.phase, r.step, r.episodes) for r in rows] == [
        ("online", 8, 1), ("online", 16, 1), ("online", 20, 2), ("offline", 8, 1),
        ("offline", 10, 2), ("online", 28, 1), ("online", 32, 2),
    ]  # fmt: skip
    logged = [line["step"] for line in lines(run, "critic/loss") if line["phase"] == "online"]
    assert logged == sorted(set(logged))
    assert [line["step"] for line in lines(run, "time/rest")] == [20, 10, 32]
    assert fp.evaluate(run, episodes=2, write=False).rows[0].step == 32


def test_a_folder_that_holds_a_run_is_refused(run):
    """And left as it is."""

    def times():
        return sorted(p.stat().st_mtime_ns for p in run.path.rglob("*") if p.name != ".lock")

    before = times()
    with pytest.raises(InvalidConfig, match="already holds a run"):
        train(run.path)
    assert times() == before


def test_unknown_names_suggest_the_nearest(tmp_path):
    """Runs, and fields of the run or its agent."""
    with pytest.raises(UnknownName, match=r"run 'toy/fmg'; did you mean 'toy/fmq'"):
        fp.train("toy/fmg", out=tmp_path / "r")
    with pytest.raises(UnknownName, match="'bach'; did you mean 'batch'"):
        train(tmp_path / "r", bach=3)
    with pytest.raises(UnknownName, match="'discont'; did you mean 'discount'"):
        train(tmp_path / "r", discont=0.9)
    assert not (tmp_path / "r").exists()


def test_overrides_reach_the_run_and_its_agent(run):
    """Where the name stands is found out."""
    config = run.config()
    assert (config.batch, config.agent.chunk, config.agent.eta) == (8, CHUNK, 0.3)


@pytest.mark.parametrize("method", ["bc", pytest.param("fmq", marks=pytest.mark.slow)])
def test_debug_computes_what_a_compiled_run_does(tmp_path, method):
    """No jit, no scan: parameters within rounding of those of a compiled run."""
    agent = run_config().agent
    if method == "bc":
        agent = fp.BC(chunk=CHUNK, terms=agent.terms, actor=agent.actor)
    small = {"phases": (fp.Offline(2),), "batch": 4, "evaluation": QUIET, "block": 2}
    config = dataclasses.replace(run_config(), agent=agent, **small)
    compiled = fp.train(config, out=tmp_path / "jit")
    with fp.debug():
        plain = fp.train(config, out=tmp_path / "debug")
    for a, b in zip(jax.tree.leaves(agents(compiled)), jax.tree.leaves(agents(plain)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("phases", [TINY["phases"], OFFLINE])
def test_data_and_environment_must_fit(tmp_path, phases):
    """The message shows both shapes, also where the environment is for evaluations alone; nothing
    is written."""
    data = TINY["task"].dataset()
    wide = jax.tree.map(lambda x: x, data.rows)
    wide = dataclasses.replace(wide, action=np.concatenate([wide.action] * 2, -1))
    other = fp.Dataset.from_rows(wide, {})
    with pytest.raises(InvalidConfig, match=r"differ in .*\(\(2,\), 4\) and \(\(2,\), 2\)"):
        fp.train(dataclasses.replace(run_config(), phases=phases), other, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_dead_seeds_keep_their_agent():
    """``alive`` false: every leaf as before, while the other seed's agent moves."""
    config = run_config()
    rows = TINY["task"].dataset().rows
    updater = Updater(
        offline=rows, normaliser=Identity().fit(None), view=ChunkView(CHUNK, 0.9),
        draw=UniformDraw(), batch=4, seeds=2,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 2)
    spec = fp.Spec((2,), 2, 10)
    start = jax.jit(jax.vmap(lambda k: config.agent.init(k, spec)))(keys)
    before = jax.tree.map(np.asarray, start)
    after, _ = updater.update(
        start, None, keys, np.zeros(2, np.int64), np.array([True, False]), count=2
    )
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.array_equal(a[1], b[1])
    assert not np.array_equal(before.actor.model.net.mlp.last.weight[0],
                              after.actor.model.net.mlp.last.weight[0])  # fmt: skip


def test_stepping_a_chunk_by_hand():
    """Rows, padding, ends and idling: within its first chunk the second environment ends by
    time-out, and the third arrives."""

    class Short(PointMass):
        max_steps = 2

    class Near(PointMass):
        def step(self, action):
            there = self._steps == 1
            return super().step(action)._replace(reward=there - 1.0, terminated=there)

    stepper = Stepper(Local(iter([PointMass(), Short(), Near()]).__next__), (0, 1, 2), 3)
    assert stepper.begin().tolist() == [True, True, True]
    at = stepper.observations()
    chunks = np.tile(np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5]], np.float32), (3, 1, 1))
    taken = stepper.step(chunks, limit=100)
    rows, counts, ended = taken.rows, taken.counts, taken.ended
    assert not taken.lost
    assert counts.tolist() == [3, 2, 2]
    assert rows.reward.tolist() == [[-1, -1, -1], [-1, -1, 0], [-1, 0, 0]]
    assert rows.ended.tolist() == [[False] * 3, [False, True, False], [False, True, False]]
    assert rows.terminated.tolist() == [[False] * 3, [False] * 3, [False, True, False]]
    np.testing.assert_array_equal(rows.obs[:, 0], at)
    np.testing.assert_array_equal(rows.obs[:, 1], rows.next_obs[:, 0])
    np.testing.assert_array_equal(rows.action[0], chunks[0])
    assert not rows.action[1, 2].any()
    told = [(e["seed"], e["episode/length"], e["episode/return"]) for e in ended]
    assert told == [(1, 2, -2.0), (2, 2, -1.0)]
    assert stepper.begin().tolist() == [False, True, True]
    assert stepper.step(chunks, limit=4).counts.tolist() == [1, 2, 2]
    assert stepper.env_steps.tolist() == [4, 4, 4]


def test_standardise_is_fitted_to_the_offline_rows():
    """Mean 0, deviation 1, at least the floor for what never changes."""
    rows = TINY["task"].dataset().rows
    flat = dataclasses.replace(rows, obs=np.concatenate([rows.obs, np.ones((300, 1), "f4")], -1))
    seen = np.asarray(Standardise().fit(flat)(flat.obs))
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0), [1, 1, 0], atol=1e-4)
    assert Standardise().fit(None)(5.0) == 5.0
    assert Identity().fit(rows)(5.0) == 5.0


def test_standardising_is_training_on_standardised_rows(tmp_path):
    """The replay keeps raw rows; the agent sees both observations of a transition normalised."""
    data = TINY["task"].dataset()
    see = Standardise().fit(data.rows)
    seen = dataclasses.replace(
        data.rows, obs=np.asarray(see(data.rows.obs)), next_obs=np.asarray(see(data.rows.next_obs))
    )
    small = {"task": None, "phases": OFFLINE, "evaluation": QUIET}
    config = dataclasses.replace(run_config(), **small)
    inside = dataclasses.replace(config, normaliser=Standardise())
    one = fp.train(inside, data, out=tmp_path / "inside")
    two = fp.train(config, fp.Dataset.from_rows(seen, {}), out=tmp_path / "before")
    for a, b in zip(jax.tree.leaves(agents(one)), jax.tree.leaves(agents(two)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_replay_holds_what_was_executed():
    """An action outside the box is executed, and kept, at its wall; by an environment that would
    not have clipped it, too."""
    seen = []

    class Unbounded(PointMass):
        def step(self, action):
            seen.append(np.array(action))
            return super().step(action)

    stepper = Stepper(Local(Unbounded), (0,), 3)
    stepper.begin()
    chunks = np.array([[[2.0, -0.25], [-1.5, 1.0], [0.5, -3.0]]], np.float32)
    rows = stepper.step(chunks, limit=100).rows
    wanted = np.array([[1.0, -0.25], [-1.0, 1.0], [0.5, -1.0]], np.float32)
    np.testing.assert_array_equal(rows.action[0], wanted)
    np.testing.assert_array_equal(seen, wanted)
    assert rows.action.dtype == np.float32
