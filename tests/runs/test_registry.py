"""The named runs: each can be built, written, read, and is what its name says."""

import dataclasses
import re
from pathlib import Path

import pytest

import flowpolicy as fp
from flowpolicy import parts, runs
from flowpolicy.agents.base import AgentConfig
from flowpolicy.agents.heads import EditHead, FlowHead, OneStepHead
from flowpolicy.agents.qam import back_propagate
from flowpolicy.data.ogbench import dataset_of
from flowpolicy.data.sets import find_set, task_name
from flowpolicy.errors import InvalidConfig, MissingData, UnknownName
from flowpolicy.flows import released_weights
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.runs import summary
from flowpolicy.runs.guided import LARGE_BATCH, gfp, gfp_batch
from flowpolicy.runs.paper import OGBENCH, PAGE, TASKS
from flowpolicy.runs.tilted import row, tilted, tilted_e, tilted_f
from flowpolicy.train.task import Task
from flowpolicy.values import mean, member, minimum


def test_every_run_can_be_built_written_and_read():
    """As JSON and as text; its agent and task are what the loop asks for."""
    names = runs.names()
    assert len(names) == len(set(names)) > 3000
    for name in names:
        run = runs.get(name)
        assert run.name == name
        assert summary(name) == run.summary
        assert isinstance(run.config.agent, AgentConfig)
        assert isinstance(run.config.task, Task)
        assert run.config.task.name in (name.rsplit("/", 1)[-1], "point-mass")
    for family in runs.families():
        config = runs.get(
            f"{family.name}/{family.tasks[-1]}" if family.tasks else family.name
        ).config
        assert parts.decode(parts.encode(config)) == config
        assert parts.parse(parts.describe(config)) == config


def test_the_papers_setting():
    """A million updates, a million steps, 5 000 without updates; best-of-32, or one sample."""
    config = runs.get("fmq/cube-double-task3").config
    assert config.phases == (
        fp.Offline(1_000_000), fp.Online(1_000_000, updates_per_step=1, start_after=5_000),
    )  # fmt: skip
    assert (config.batch, config.evaluation.every, config.evaluation.episodes) == (256, 100_000, 50)
    assert config.task.timing == "mixed"
    agent = config.agent
    assert (agent.chunk, agent.discount, agent.ensemble, agent.tau) == (5, 0.99, 2, 0.005)
    assert (agent.act, agent.bootstrap) == (BestOfN(32), BestOfN(32))
    assert (agent.actor.width, agent.actor.depth) == (512, 4)
    assert (agent.gradient, agent.aggregate_online) == (member(0), minimum)
    single = runs.get("fmq-single/cube-double-task3").config
    assert dataclasses.replace(single.agent, act=agent.act) == agent
    assert single.agent.act == OneStep()
    released = runs.get("fmq-released/cube-double-task3").config.agent
    assert (released.aggregate_offline, released.clip_endpoint) == (mean, True)
    assert (agent.aggregate_offline, agent.clip_endpoint) == (minimum, False)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("qc/cube-triple-task4", {"act": BestOfN(32), "aggregate": mean, "steps": 10}),
        ("qc/puzzle-3x3-task1", {"act": BestOfN(64), "bootstrap": BestOfN(64)}),
        ("bfn/scene-task4", {"act": BestOfN(4), "chunk": 1}),
        ("qc-fql/cube-triple-task2", {"alpha": 100.0, "chunk": 5}),
        ("qc-fql/scene-task5", {"alpha": 300.0, "discount": 0.99}),
        ("fql/humanoidmaze-medium-task3", {"alpha": 100.0, "discount": 0.995, "chunk": 1}),
        ("fql/antmaze-giant-task4", {"alpha": 10.0, "discount": 0.995, "aggregate": minimum}),
        ("fql/humanoidmaze-medium-task1", {"aggregate": mean}),
        ("fql/pointmaze-medium-task1", {"alpha": 10.0, "discount": 0.99, "aggregate": mean}),
        ("fql/antmaze-large-task1", {"alpha": 10.0, "discount": 0.99, "aggregate": minimum}),
        ("fql/antsoccer-arena-task4", {"alpha": 30.0, "discount": 0.995, "aggregate": mean}),
        ("fql/puzzle-4x4-task4", {"alpha": 1000.0, "discount": 0.99}),
        ("ifql/antmaze-giant-task4", {"discount": 0.995, "expectile": 0.9, "act": BestOfN(32)}),
        ("ifql/humanoidmaze-medium-task3", {"discount": 0.995}),
        ("ifql/scene-task2", {"discount": 0.99}),
        ("fql/puzzle-3x3-task2", {"alpha": 1000.0}),
        ("qam/puzzle-3x3-task1", {"inverse_temperature": 3.0, "chunk": 5, "discount": 0.99}),
        ("qam/humanoidmaze-medium-task1", {"chunk": 1, "discount": 0.995, "aggregate": mean}),
        ("qam-f/scene-task2", {"head": OneStepHead(300.0), "inverse_temperature": 1.0}),
        ("qam-f/cube-double-task2", {"head": FlowHead(), "inverse_temperature": 1.0}),
        ("qam-e/antmaze-giant-task3", {"head": EditHead(0.1), "inverse_temperature": 10.0}),
        ("qam/antmaze-large-task1", {"inverse_temperature": 10.0, "chunk": 1, "discount": 0.99}),
        ("qam/puzzle-4x4-play-100m-task4", {"inverse_temperature": 30.0, "chunk": 5}),
        ("qam-e/puzzle-4x4-play-100m-task4", {"head": EditHead(0.9), "inverse_temperature": 0.1}),
        ("qam-f/cube-quadruple-play-100m-task2", {"head": OneStepHead(30.0)}),
        ("qam-f/humanoidmaze-large-task1", {"inverse_temperature": 0.3, "discount": 0.995}),
        ("bam/cube-triple-task1", {"improve": back_propagate, "inverse_temperature": 3.0}),
        ("gfp/cube-double-task4", {"alpha": 1.0, "eta": 0.01, "target": mean, "aggregate": mean}),
        ("fql/cube-single-noisy-task1", {"alpha": 300.0, "discount": 0.99}),
        ("gfp/cube-single-noisy-task1", {"alpha": 10.0, "eta": 1e-3, "target": mean}),
        ("gfp/cube-triple-noisy-task2", {"alpha": 0.1, "eta": 1e-5, "target": mean}),
        ("gfp/antmaze-large-stitch-task1", {"eta": 1e-6, "discount": 0.995}),
        ("gfp/humanoidmaze-large-task1", {"steps": 30, "discount": 0.999}),
        ("gfp/scene-task5", {"alpha": 10.0, "eta": 1e-3, "target": member(0)}),
        ("gfp/antmaze-giant-task4", {"eta": 0.1, "aggregate": minimum, "reference": minimum}),
        ("gfp/humanoidmaze-medium-task3", {"alpha": 0.3, "discount": 0.995, "target": mean}),
        ("gfp-released/cube-double-task4", {"target_use_next": False, "alpha": 1.0}),
        ("gfp-released/scene-task5", {"target_use_next": True, "target": member(0)}),
        ("qc-rlpd/cube-double-task4", {"chunk": 5, "bc": 0.01, "ensemble": 10}),
        ("mvp/cube-double-task4", {"weight": 1.0, "act": BestOfN(32)}),
        ("qc/cube-quadruple-play-100m-task2", {"act": BestOfN(32), "chunk": 5}),
        ("qc-fql/cube-quadruple-play-100m-task2", {"alpha": 100.0, "chunk": 5}),
        ("qc/robomimic-square", {"act": BestOfN(16), "bootstrap": BestOfN(16), "chunk": 5}),
        ("fql/robomimic-lift", {"alpha": 10_000.0, "chunk": 1, "discount": 0.99}),
        ("fql-n/robomimic-can", {"alpha": 10_000.0, "chunk": 5}),
        ("fql-n/cube-double-task1", {"alpha": 100.0, "chunk": 5}),
        ("qc-fql/robomimic-can", {"alpha": 10_000.0, "chunk": 5}),
        ("fmq/robomimic-can", {"act": BestOfN(32), "chunk": 5, "discount": 0.99}),
    ],
)
def test_the_papers_values_for_an_environment(name, values):
    """Those of QC's, FQL's and GFP's tables."""
    agent = runs.get(name).config.agent
    assert {field: getattr(agent, field) for field in values} == values


def test_fpmd_runs_purely_online_on_mujoco():
    """R with 20 Euler steps and M with one jump, both one to act; 30 000 random steps of a million,
    as released; small ones are the same methods."""
    for name, steps in (("fpmd-r", 20), ("fpmd-m", 1)):
        config = runs.get(f"{name}/HalfCheetah-v5").config
        assert config.phases == (
            fp.Online(start_after=30_000, random_steps=30_000, updates_per_step=0.2),
        )
        assert (config.agent.steps, config.agent.act_steps) == (steps, 1)
        released = runs.get(f"{name}-released/HalfCheetah-v5").config
        agent = dataclasses.replace(config.agent, weigh=released_weights)
        assert released == dataclasses.replace(config, agent=agent)
        little = runs.get(f"mini/{name}/Hopper-v5").config.agent
        assert little.terms == config.agent.terms
        assert (little.steps, little.actor.width) == (min(steps, 10), 128)


@pytest.mark.parametrize(
    ("env", "alpha", "eta", "discount"),
    [
        ("antmaze-large-navigate", 0.3, 1e-4, 0.995),
        ("antmaze-large-stitch", 0.3, 1e-6, 0.995),
        ("antmaze-large-explore", 0.01, 1e-6, 0.995),
        ("antmaze-giant", 0.1, 0.1, 0.995),
        ("antsoccer-arena-stitch", 0.1, 0.01, 0.995),
        ("humanoidmaze-medium-stitch", 0.3, 1e-3, 0.999),
        ("humanoidmaze-large", 0.3, 1e-4, 0.999),
        ("humanoidmaze-medium", 0.3, 1e-3, 0.995),
        ("cube-single", 10.0, 0.1, 0.99),
        ("cube-double", 1.0, 0.01, 0.99),
        ("cube-triple", 1.0, 1e-5, 0.99),
        ("puzzle-3x3", 3.0, 1e-3, 0.99),
        ("puzzle-4x4", 3.0, 1e-5, 0.99),
        ("scene", 10.0, 1e-3, 0.99),
        ("cube-single-noisy", 10.0, 1e-3, 0.99),
        ("cube-double-noisy", 0.1, 1e-4, 0.99),
        ("cube-triple-noisy", 0.1, 1e-5, 0.99),
        ("puzzle-4x4-noisy", 3.0, 1e-3, 0.99),
        ("scene-noisy", 1.0, 1e-4, 0.99),
        ("visual-cube-double", 0.3, 0.01, 0.99),
        ("visual-puzzle-4x4", 1.0, 1e-4, 0.99),
        ("antmaze-umaze-diverse-v2", 0.1, 1e-3, 0.99),
        ("antmaze-medium-play-v2", 0.03, 1e-3, 0.99),
        ("antmaze-large-diverse-v2", 0.03, 1e-5, 0.99),
        ("hammer-cloned-v1", 10.0, 1e-5, 0.99),
        ("pen-expert-v1", 1.0, 1e-3, 0.99),
        ("D4RL/pen/human-v2", 3.0, 1e-4, 0.99),
    ],
)
def test_gfp_s_values(env, alpha, eta, discount):
    """Rows of its table; the row of stitched data counts where there is one, not navigate's."""
    agent = gfp(env)
    assert (agent.alpha, agent.eta, agent.discount) == (alpha, eta, discount)
    maze = discount > 0.99
    smallest = env.startswith("antmaze")
    assert agent.reference == (minimum if maze else member(0))
    assert agent.aggregate == (minimum if smallest else mean)
    conservative = "cube" in env or env.startswith("humanoidmaze-medium")
    assert agent.target == (mean if conservative else member(0))
    assert agent.steps == (30 if env == "humanoidmaze-large" else 10)


def test_mazes_that_gfp_lacks_have_antmaze_large_s_values():
    """The middle, the teleports, the humanoid's giant and points; not the defaults."""
    lacking = (
        "antmaze-medium",
        "antmaze-teleport-explore",
        "humanoidmaze-giant",
        "pointmaze-large",
    )
    for env in lacking:
        assert gfp(env) == gfp("antmaze-large")
    assert gfp("antmaze-large") != fp.GFP()


@pytest.mark.parametrize(
    ("env", "tau", "tau_f", "alpha", "tau_e", "scale"),
    [
        ("puzzle-3x3", 3.0, 3.0, None, 1.0, 0.1),
        ("scene", 1.0, 1.0, 300.0, 1.0, None),
        ("cube-double", 1.0, 1.0, None, 1.0, None),
        ("cube-triple", 3.0, 10.0, 300.0, 3.0, 0.1),
        ("cube-quadruple", 1.0, 0.3, 30.0, 3.0, 0.1),
        ("puzzle-4x4", 30.0, 3.0, 3.0, 0.1, 0.9),
        ("antmaze-large", 10.0, 3.0, 30.0, 1.0, 0.1),
        ("antmaze-giant", 3.0, 3.0, 30.0, 10.0, 0.1),
        ("humanoidmaze-medium", 3.0, 1.0, 30.0, 3.0, 0.1),
        ("humanoidmaze-large", 3.0, 0.3, 30.0, 3.0, 0.1),
    ],
)
def test_qam_s_values(env, tau, tau_f, alpha, tau_e, scale):
    """All rows of its table; where the weight of a head is 0 there, the variant is QAM."""
    plain, distilled, edited = tilted(env), tilted_f(env), tilted_e(env)
    taus = [agent.inverse_temperature for agent in (plain, distilled, edited)]
    assert taus == [tau, tau_f, tau_e]
    assert plain.head == FlowHead()
    assert distilled.head == (OneStepHead(alpha) if alpha else FlowHead())
    assert edited.head == (EditHead(scale) if scale else FlowHead())


@pytest.mark.parametrize("env", ["antsoccer-arena", "puzzle-4x5", "cube-octuple"])
def test_environments_that_qam_s_table_lacks_are_refused(env):
    """By name, and not by a guess."""
    with pytest.raises(UnknownName, match=f"environment of QAM's table '{env}'"):
        row(env)


@pytest.mark.parametrize("name", ["rlpd", "rlpd-ac", "qc-rlpd", "fmq"])
def test_critics_of_small_runs_end_at_a_rate_of_0(name):
    """Whether or not there are offline updates before the 10 000 online ones."""
    config = runs.get(f"mini/{name}/cube-single-task1").config
    adam = config.agent.critic_optimiser if name == "fmq" else config.agent.optimiser
    assert adam.hold + adam.anneal == config.offline_updates + 10_000


def test_gfp_on_frames_has_its_own_weights():
    """All else is FQL's run on the same frames."""
    ours, theirs = (runs.get(f"{m}/visual-cube-double-task1").config for m in ("gfp", "fql"))
    assert (ours.agent.alpha, ours.agent.eta, ours.agent.target) == (0.3, 0.01, mean)
    assert dataclasses.replace(ours, agent=theirs.agent) == theirs


def test_gfp_has_larger_batches_on_the_largest_tasks():
    """As in its table, and as the document says; noisy data is another set of an environment."""
    large = ("antmaze-giant", "antmaze-large-explore", "humanoidmaze-large", "cube-triple-noisy")
    assert {gfp_batch(env) for env in large} == {1024}
    assert {gfp_batch(env) for env in ("antmaze-large", "antmaze-large-stitch", "scene")} == {256}
    document = (Path(__file__).parents[2] / "docs/gfp.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"the batch is 1024 on ([^.]+)\.", " ".join(document.split()))
    assert set(re.split(", | and ", said)) == set(LARGE_BATCH)
    sizes = {"antmaze-giant": 1024, "cube-triple": 1024, "cube-double": 256, "scene": 256}
    for env, size in sizes.items():
        assert runs.get(f"gfp/{env}-task1").config.batch == size
        assert runs.get(f"qc/{env}-task1").config.batch == 256
    noisy = runs.get("mini/gfp/cube-single-noisy-task1").config
    assert dataset_of("cube-single", "noisy") == "cube-single-noisy-v0"
    with pytest.raises(MissingData, match="cube-single-noisy-v0"):
        dataclasses.replace(noisy.task, rows=77).dataset()
    with pytest.raises(InvalidConfig, match="no noisy data for antmaze-giant"):
        dataset_of("antmaze-giant", "noisy")


def test_methods_of_one_protocol_differ_in_the_method_alone():
    """Small: same task, budget, batch and draw, but for RLPD, whose missing offline phase is its
    method's. At the papers' size FMQ's, MVP's and QC's."""
    own = {"fql", "ifql", "gfp", "gfp-released", "qam", "qam-f", "qam-e", "bam"}
    for prefix, base in (("", "qc"), ("mini/", "mini/fmq")):
        base = runs.get(f"{base}/scene-task4").config
        for family in runs.families():
            small = family.name.startswith("mini/")
            if not family.tasks or small != bool(prefix) or family.name in own:
                continue
            config = runs.get(f"{family.name}/scene-task4").config
            assert (config.task, config.batch, config.normaliser) == (
                base.task, base.batch, base.normaliser,
            )  # fmt: skip
            assert config.phases[-1].env_steps == base.phases[-1].env_steps  # pyright: ignore
            assert bool(config.draw == base.draw) == ("rlpd" not in family.name or small)
            if "rlpd" not in family.name:
                assert (config.phases, config.evaluation.every) == (
                    base.phases, base.evaluation.every,
                )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "phases", "trial"),
    [
        (("fql", "ifql"), (fp.Offline(), fp.Online()), (100_000, 50, 50)),
        (("gfp", "gfp-released"), (fp.Offline(1_000_000),), (100_000, 100, 100)),
        (
            ("qam", "qam-f", "qam-e", "bam"), (fp.Offline(1_000_000), fp.Online(500_000)),
            (50_000, 50, 50),
        ),
        (("rlpd", "rlpd-ac", "qc-rlpd"), (fp.Online(random_steps=5_000),), (100_000, 50, 50)),
    ],
)  # fmt: skip
def test_budgets_of_the_papers(names, phases, trial):
    """GFP's results are offline; QAM has half a million steps online, and twice the evaluations."""
    for name in names:
        config = runs.get(f"{name}/cube-double-task2").config
        told = config.evaluation
        assert config.phases == phases
        assert (told.every, told.episodes, told.final_episodes) == trial


def test_a_small_run_is_the_paper_s_method_with_small_nets():
    """Nets, candidates of the TD target and optimisers, also of an agent inside another."""
    for name in ("qc", "fql", "mvp", "fmq-from-qc", "rlpd", "bc", "qam-f", "qam-e"):
        big = runs.get(f"{name}/cube-single-task1").config.agent
        little = runs.get(f"mini/{name}/cube-single-task1").config.agent
        assert type(little) is type(big)
        assert "512" not in parts.describe(little)
        assert "width=256, depth=3" in parts.describe(little)
        for field in {"act", "steps", "alpha", "weight", "aggregate", "chunk"}:
            assert getattr(little, field, None) == getattr(big, field, None)


def test_every_task_has_every_family():
    """Forty tasks of OGBench and three of RoboMimic, in the paper's size and small, all of FMQ's
    page among them."""
    assert (len(OGBENCH), len(TASKS), len(PAGE)) == (40, 43, 12)
    assert set(PAGE) < set(TASKS)
    big = {family.name for family in runs.families() if family.tasks}
    assert {name for name in big if f"mini/{name}" in big} | {
        name for name in big if name.startswith("mini/")
    } == big
    for family in runs.families():
        assert family.tasks[: len(TASKS)] in ((), TASKS)
        if family.name.startswith("mini/"):
            assert len(family.tasks) in (0, len(TASKS))


QAM_S = "antmaze-large humanoidmaze-large cube-quadruple-play-100m puzzle-4x4-play-100m"
FQL_S = "antmaze-large antsoccer-arena humanoidmaze-large puzzle-4x4"
NOISY = "cube-single-noisy cube-double-noisy cube-triple-noisy puzzle-4x4-noisy scene-noisy"
GFP_S = f"{FQL_S} antmaze-large-stitch antmaze-large-explore antsoccer-arena-stitch {NOISY}"


@pytest.mark.parametrize(
    ("names", "environments"),
    [
        ("fmq mvp mvp-qgbs bc fmq-single mvp-shortcut fmq-from-qc decision-flow", ""),
        ("qc bfn bfn-n qc-fql fql-n rlpd rlpd-ac qc-rlpd", "cube-quadruple-play-100m"),
        ("fql", f"{FQL_S} {NOISY}"),
        ("ifql", FQL_S),
        ("gfp gfp-released", f"{GFP_S} humanoidmaze-medium-stitch"),
        ("qam qam-f qam-e bam", QAM_S),
    ],
)
def test_methods_have_the_environments_of_their_papers(names, environments):
    """Beyond those of all methods; with five tasks each, of data sets that there are."""
    families = {family.name: family for family in runs.families()}
    for name in names.split():
        further = families[name].tasks[len(TASKS) :]
        assert {task.rpartition("-task")[0] for task in further} == set(environments.split())
        assert len(set(further)) == len(further) == 5 * len(environments.split())
        for task in further:
            named = task_name(task)
            assert named is not None
            assert find_set(named.environment, named.kind, sharded=named.sharded)
            assert runs.get(f"{name}/{task}").config.task.name == task


def test_unknown_and_taken_names():
    """The nearest names are suggested; a name is given once."""
    with pytest.raises(UnknownName, match="did you mean 'fmq/cube-single-task1'"):
        runs.get("fmq/cube-singel-task1")
    with pytest.raises(InvalidConfig, match="already registered"):
        runs.add("toy/fmq", "", lambda: runs.get("toy/fmq").config)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"batch": 0}, "batch"),
        ({"capacity": -1}, "capacity"),
        ({"seeds": (1, 1)}, "distinct"),
        ({"seeds": ()}, "distinct"),
        ({"phases": ()}, "at least one phase"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(change, what):
    """By name of the field."""
    with pytest.raises(InvalidConfig, match=what):
        dataclasses.replace(runs.get("toy/fmq").config, **change)


def test_phases_are_checked():
    """Steps below 0, no updates per step."""
    for build in (
        lambda: fp.Offline(-1), lambda: fp.Online(-1), lambda: fp.Online(updates_per_step=0),
    ):  # fmt: skip
        with pytest.raises(InvalidConfig, match=r"at least 0|>= 0"):
            build()


def test_the_toy_task_gives_rows_and_environments_that_fit():
    """Rows of real episodes with ends and successes, the same for the same seed."""
    task = runs.get("toy/fmq").config.task
    data, env = task.dataset(), task.env()
    assert (data.obs_shape, data.action_size) == (env.obs_shape, env.action_size)
    assert data.rows.terminated.sum() > 10
    assert (data.rows.ended & ~data.rows.terminated).sum() > 10
    assert task.dataset() is data
    assert len(runs.PointMassTask(rows=50, seed=1).dataset()) == 50
