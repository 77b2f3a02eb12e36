"""A folder of files, one after the other: which rows an update sees is a function of its number."""

import dataclasses

import jax
import numpy as np
import pytest
from small_runs import agents, train
from test_resume import StopAt
from whole_state import parts_of

import flowpolicy as fp
from flowpolicy import runs
from flowpolicy.data.actions import ActionMinMax
from flowpolicy.data.npz import write_npz
from flowpolicy.envs.toy import point_mass_data
from flowpolicy.errors import InvalidConfig, InvalidData
from flowpolicy.train.normalise import Standardise
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.stop import Stopped
from flowpolicy.train.updates import Updater

ROTATE = 15  # no multiple of the block, 10: the file changes where a block begins
PLAN = {
    "phases": (fp.Offline(50), fp.Online(24, start_after=8)),
    "evaluation": Evaluation(every=0, final_episodes=1, side_by_side=1),
    "normaliser": Standardise(),
    "seeds": (4,),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Three files, told apart by their rewards -1, -2 and -3; the second is the shortest."""
    folder = tmp_path_factory.mktemp("shards")
    for i, rows in enumerate((120, 60, 150)):
        made = point_mass_data(rows, i)
        write_npz(folder / f"{i}.npz", {
            "observations": made["obs"], "actions": made["action"],
            "terminals": made["terminated"] | made["truncated"],
            "rewards": np.full(len(made["reward"]), -1.0 - i, np.float32),
        })  # fmt: skip
    world = runs.PointMassTask()
    return runs.OwnData(str(folder), rotate=ROTATE, world=world)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """The run that nobody interrupts, the file of each of its blocks, and programs compiled."""
    seen, programs = [], []
    update = Updater.update

    def telling(self, agents, rings, keys, first, *more, **options):
        (reward,) = np.unique(self._source.rows.reward)
        out = update(self, agents, rings, keys, first, *more, **options)
        seen.append((int(first[0]), int(-reward - 1)))
        programs.append(self._update._cache_size())
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Updater, "update", telling)
        run = train(tmp_path_factory.mktemp("whole") / "r", task=task, **PLAN)
    return run, seen, programs


def test_a_block_is_of_the_file_of_its_first_update(whole):
    """Offline and online, from the first file to the last and round to the first again."""
    _, seen, programs = whole
    assert [first for first, _ in seen[:5]] == [0, 10, 20, 30, 40]
    assert [number for _, number in seen] == [first // ROTATE % 3 for first, _ in seen]
    assert {number for first, number in seen if first >= 50} >= {0, 1}
    assert (programs[0], programs[4], programs[-1]) == (1, 1, 2)  # offline, and online


def test_the_normaliser_is_that_of_the_first_file(whole, task):
    first = task.dataset().rows.obs
    np.testing.assert_allclose(whole[0].load()[0].normaliser.shift, first.mean(0), atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_a_stopped_run_ends_as_if_it_had_not_been(whole, task, tmp_path, n):
    """Stopped before a file changes, after, and online."""
    with pytest.raises(Stopped):
        train(tmp_path / "r", task=task, watch=StopAt(n), **PLAN)
    run = fp.resume(tmp_path / "r")
    assert list(parts_of(run)) == list(parts_of(whole[0]))


@pytest.mark.slow
def test_files_on_the_host(whole, task, tmp_path):
    """The same parameters as with rows on the device, up to rounding."""
    run = train(tmp_path / "r", task=task, hardware=fp.Hardware(host_rows=True), **PLAN)
    for ours, theirs in zip(*map(jax.tree.leaves, (agents(run), agents(whole[0]))), strict=True):
        np.testing.assert_allclose(np.float64(ours), np.float64(theirs), atol=1e-5)


def test_files_that_would_be_left_out_are_told(task, tmp_path):
    """A block is of one file, whatever is to be trained on within it; so is a chunk's online. Where
    every file comes to a block all the same, nothing is refused."""
    offline = {**PLAN, "block": 45, "phases": (fp.Offline(90),)}
    online = {**PLAN, "phases": (fp.Offline(8), fp.Online(24, updates_per_step=22.5))}
    for plan in (offline, online):  # always three turns, of three files
        with pytest.raises(InvalidConfig, match=r"rotate must be at least 45, .* got 15"):
            train(tmp_path / "r", task=task, **plan)
    assert not (tmp_path / "r").exists()
    short = {**PLAN, "phases": (fp.Offline(9),)}
    train(tmp_path / "r", task=dataclasses.replace(task, rotate=9), **short)


def test_other_files_are_told_apart(whole, task, tmp_path):
    """By names and sizes of all of them; actions are not fitted to one of many."""
    with pytest.raises(Stopped):
        train(tmp_path / "r", task=task, watch=StopAt(1), **PLAN)
    data = task.dataset()
    fewer = {k: v for k, v in data.info["shards"].items() if k != "1.npz"}
    other = dataclasses.replace(data, info={**data.info, "shards": fewer})
    with pytest.raises(InvalidData, match=r"trained on other files: 1\.npz is new, gone"):
        fp.resume(tmp_path / "r", other)
    with pytest.raises(InvalidConfig, match="as_recorded"):
        runs.OwnData(task.path, actions=ActionMinMax())
