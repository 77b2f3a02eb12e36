"""The table of data sets: OGBench's names, sizes and environments."""

import re

import pytest

from flowpolicy.data.ogbench import dataset_for
from flowpolicy.data.sets import ENVIRONMENTS, SETS, find_set, task_name
from flowpolicy.errors import InvalidConfig, UnknownName
from flowpolicy.simulators import gymnasium_with_ogbench


def test_every_environment_of_ogbench_has_data():
    """Those with single tasks in the installed package, visual ones too, and no others."""
    registry = gymnasium_with_ogbench().registry
    found = [re.fullmatch(r"(.+)-singletask-task1-v0", name) for name in registry]
    environments = {match[1] for match in found if match}
    without = {"humanoidmaze-teleport", "visual-humanoidmaze-teleport"}
    assert environments - without == {s.environment for s in SETS.values()}
    assert set(ENVIRONMENTS) == {s.environment for s in SETS.values() if "visual" not in s.name}


def test_how_many_there_are():
    """OGBench has 82 sets for these environments (85 with three of Powderworld), two more of
    octuple cubes are ours, and seven come in a hundred files."""
    official = [s for s in SETS.values() if s.official and not s.shards]
    assert len(official) == 82
    assert sorted(s.name for s in SETS.values() if not s.official) == [
        "cube-octuple-noisy-v0",
        "cube-octuple-play-v0",
    ]
    assert len([s for s in SETS.values() if s.shards]) == 7
    assert all(s.transitions == 10**8 for s in SETS.values() if s.shards)


@pytest.mark.parametrize(
    ("name", "transitions"),
    [
        ("cube-double-play-v0", 1_000_000),
        ("cube-triple-noisy-v0", 3_000_000),
        ("puzzle-4x6-play-v0", 5_000_000),
        ("antmaze-giant-navigate-v0", 1_000_000),
        ("antmaze-large-explore-v0", 5_000_000),
        ("humanoidmaze-medium-navigate-v0", 2_000_000),
        ("humanoidmaze-giant-stitch-v0", 4_000_000),
        ("antsoccer-medium-navigate-v0", 4_000_000),
        ("visual-cube-single-play-v0", 1_000_000),
    ],
)
def test_sizes(name: str, transitions: int):
    """As OGBench's page has them."""
    assert SETS[name].transitions == transitions


def test_sets_by_environment_and_kind():
    """The usual kind, the one that is asked for, and a refusal that says what there is."""
    assert find_set("scene").name == find_set("scene-play").name == "scene-play-v0"
    assert find_set("antmaze-large", "explore").name == "antmaze-large-explore-v0"
    assert find_set("cube-octuple", sharded=True).name == "cube-octuple-play-100m-v0"
    with pytest.raises(
        InvalidConfig, match=r"no noisy data for antmaze-giant; there is navigate, s"
    ):
        find_set("antmaze-giant", "noisy")
    with pytest.raises(InvalidConfig, match="kind must be 'play' for scene-play"):
        find_set("scene-play", "noisy")
    with pytest.raises(UnknownName, match="did you mean 'puzzle-3x3"):
        find_set("puzle-3x3")


@pytest.mark.parametrize(
    ("task", "dataset"),
    [
        ("cube-single-task1", "cube-single-play-v0"),
        ("cube-single-noisy-task2", "cube-single-noisy-v0"),
        ("cube-single-noisy-singletask-task2-v0", "cube-single-noisy-v0"),
        ("antmaze-large-stitch-task3", "antmaze-large-stitch-v0"),
        ("cube-quadruple-play-100m-task4", "cube-quadruple-play-100m-v0"),
        ("humanoidmaze-giant-navigate-100m-task1", "humanoidmaze-giant-navigate-100m-v0"),
        ("visual-puzzle-4x4-noisy-singletask-task5-v0", "visual-puzzle-4x4-noisy-v0"),
    ],
)
def test_the_data_of_a_task(task: str, dataset: str):
    """Its name says it, in all of OGBench's ways to write it."""
    assert dataset_for(task) == dataset


def test_text_that_is_no_task():
    """And a number that is not."""
    assert task_name("cube-single") is None
    assert task_name("cube-single-taskx") is None
    named = task_name("scene-task3")
    assert named is not None
    assert named == ("scene", "", False, 3)
