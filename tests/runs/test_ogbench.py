"""The papers' settings: one table, and the named runs agree with it."""

import re

import pytest

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.data.sets import ENVIRONMENTS, SETS
from flowpolicy.envs.make import make_env, short_name
from flowpolicy.errors import UnknownName
from flowpolicy.runs import paper
from flowpolicy.runs.guided import gfp
from flowpolicy.runs.ogbench import SETTINGS, TASKS, setting
from flowpolicy.simulators import gymnasium_with_ogbench
from flowpolicy.types import Spec

SHAPES = {
    "cube-single": (28, 5, 200),
    "cube-double": (37, 5, 500),
    "cube-triple": (46, 5, 1000),
    "cube-quadruple": (55, 5, 1000),
    "cube-octuple": (91, 5, 1500),
    "scene": (40, 5, 750),
    "puzzle-3x3": (55, 5, 500),
    "puzzle-4x4": (83, 5, 500),
    "puzzle-4x5": (99, 5, 1000),
    "puzzle-4x6": (115, 5, 1000),
    "pointmaze-medium": (2, 2, 1000),
    "pointmaze-large": (2, 2, 1000),
    "pointmaze-giant": (2, 2, 1000),
    "pointmaze-teleport": (2, 2, 1000),
    "antmaze-medium": (29, 8, 1000),
    "antmaze-large": (29, 8, 1000),
    "antmaze-giant": (29, 8, 1000),
    "antmaze-teleport": (29, 8, 1000),
    "humanoidmaze-medium": (69, 21, 2000),
    "humanoidmaze-large": (69, 21, 2000),
    "humanoidmaze-giant": (69, 21, 4000),
    "antsoccer-arena": (42, 8, 1000),
    "antsoccer-medium": (42, 8, 1000),
}
"""Numbers in an observation and in an action, and steps of an episode."""

SLOW = re.compile("cube-(?!single)|scene|puzzle")


@pytest.mark.parametrize(
    "environment",
    [pytest.param(e, marks=pytest.mark.slow if SLOW.match(e) else ()) for e in ENVIRONMENTS],
)
def test_every_environment_builds_its_spec(environment: str):
    """Without a file or a network; the arm's larger ones take seconds each to compile."""
    env = make_env(f"{environment}-task1")
    spec = Spec(env.obs_shape, env.action_size)
    assert (spec.obs_size, spec.action, env.max_steps) == SHAPES[environment]
    env.close()


def test_every_task_is_one_of_ogbench():
    """With every word for its data; the simulator is the same for all of them."""
    registry = gymnasium_with_ogbench().registry
    assert set(ENVIRONMENTS) == set(SHAPES)
    assert len(TASKS) == 5 * len(SHAPES) == 115
    assert set(paper.OGBENCH) < set(TASKS)
    for found in SETS.values():
        for number in range(1, 6):
            name = f"{found.name[:-3]}-task{number}"
            plain = f"{found.environment}-task{number}"
            assert short_name(name) == plain
            assert f"{found.environment}-singletask-task{number}-v0" in registry
            assert fp.OGBench(name).name == name


def test_every_paper_has_a_row_for_every_environment():
    """A row has a source; the longest beginning wins."""
    papers = {row.paper for row in SETTINGS}
    for name in papers:
        for environment in ENVIRONMENTS:
            row = setting(name, environment)
            assert environment.startswith(row.environments)
            assert row.source
            assert row.chunk in (1, 5)
    assert len({(row.paper, row.environments) for row in SETTINGS}) == len(SETTINGS)
    assert setting("fql", "humanoidmaze-medium").discount == 0.995
    assert setting("qc", "puzzle-3x3").sparse
    assert not setting("qc", "puzzle-4x4").sparse
    assert setting("qam", "puzzle-4x4").data == "play-100m"
    with pytest.raises(UnknownName, match="paper"):
        setting("qcc", "scene")


def test_gfp_s_two_tables_agree():
    """On the discount, for every data set with states."""
    for found in SETS.values():
        if not found.environment.startswith("visual-"):
            assert gfp(found.name).discount == setting("gfp", found.name).discount, found.name


@pytest.mark.parametrize("name", ["qc", "fmq", "mvp", "fql", "ifql", "qam", "gfp"])
def test_named_runs_are_the_tables(name: str):
    """Their discount, chunk, rewards and kind of data, on every task that has named runs."""
    source = "fql" if name == "ifql" else name
    (family,) = (family for family in runs.families() if family.name == name)
    for task in family.tasks:
        if task in paper.ROBOMIMIC:
            continue
        config = runs.get(f"{name}/{task}").config
        row = setting(source, paper.environment(task))
        assert (config.agent.view.discount, config.agent.view.chunk) == (row.discount, row.chunk)
        assert config.task.sparse == row.sparse
        assert row.data in task
        assert config.task.timing == "mixed"


def test_rewards_are_those_of_each_paper():
    """Its weights were tuned on them: QAM's puzzle-4x4 and QC's scene pay for the whole task alone,
    FQL's and GFP's for every part."""
    sparse = {
        name: {
            row
            for row in ("cube-triple", "scene", "puzzle-3x3", "puzzle-4x4")
            if setting(name, row).sparse
        }
        for name in ("qc", "fmq", "mvp", "qam", "fql", "gfp")
    }
    whole = {"scene", "puzzle-3x3"}
    assert sparse == {
        "qc": whole, "fmq": whole, "mvp": whole, "qam": {*whole, "puzzle-4x4"},
        "fql": set(), "gfp": set(),
    }  # fmt: skip
