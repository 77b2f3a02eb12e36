"""Environments in worker processes: the same episodes, deaths survived, errors passed on."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from fragile import Failing, Fragile, FragileWithRows
from small_runs import QUIET, fingerprint, lines, train

import flowpolicy as fp
from flowpolicy.envs.fleet import Local
from flowpolicy.envs.toy import PointMass
from flowpolicy.envs.workers import Workers
from flowpolicy.errors import InvalidConfig, WorkerFailed
from flowpolicy.report.runfiles import read_metrics
from flowpolicy.runs import PointMassTask
from flowpolicy.train.phases import Evaluation

ONLINE = {"phases": (fp.Online(44, start_after=4),), "seeds": (3, 5)}


@pytest.fixture
def fleet():
    """Three point masses in two processes, three actions at a time."""
    made = Workers(PointMass, 3, workers=2, most=3, say=pytest.fail)
    yield made
    made.close()


def deaths(folder, count):
    """A folder with so many files, each of which lets a process of ``Fragile`` die."""
    killers = folder / "killers"
    killers.mkdir()
    for i in range(count):
        (killers / str(i)).touch()
    return killers


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.obs, b.obs)
        assert a[1:] == b[1:]


def test_a_fleet_of_processes_steps_as_one_in_this_process(fleet):
    """Resets, pieces of a longer sequence, ends amid one, environments left out."""
    here, draws = Local(PointMass), np.random.default_rng(0)
    assert fleet.shape() == here.shape()
    seeds = {0: 11, 1: 12, 2: 13}
    for first, other in zip(fleet.reset(seeds).values(), here.reset(seeds).values(), strict=True):
        np.testing.assert_array_equal(first, other)
    for lengths in ((1, 3, 8), (7, 0, 2), (40, 5, 1)):
        actions = {
            i: draws.uniform(-1, 1, (k, 2)).astype(np.float32)
            for i, k in enumerate(lengths) if k
        }  # fmt: skip
        made, wanted = fleet.play(actions), here.play(actions)
        assert made.keys() == wanted.keys()
        for i in made:
            same(made[i], wanted[i])
    assert made[0][-1].truncated
    assert len(made[0]) < 40


def test_workers_leave_signals_to_the_parent(fleet):
    """Ctrl-C goes to all processes of a terminal; only the parent may decide what it means."""
    fleet.reset({0: 1, 1: 2})
    for worker in fleet._workers:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker._process.pid, number)
    assert all(len(s) == 2 for s in fleet.play({0: np.ones((2, 2)), 1: np.ones((2, 2))}).values())


def test_signals_before_a_worker_is_ready_are_the_parent_s_too(fleet):
    """In the seconds in which a process imports what it needs."""
    for worker in fleet._workers:
        worker.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker._process.pid, number)
    fleet.reset({0: 1, 1: 2})
    assert not fleet.trouble


def test_signals_reach_the_parent_once_a_worker_is_started(fleet):
    """They are held back only while the process begins."""
    fleet._workers[0].start()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_an_environment_raises_is_passed_on():
    fleet = Workers(Failing, 2, workers=2, most=3, say=pytest.fail)
    try:
        fleet.reset({0: 1, 1: 2})
        with pytest.raises(WorkerFailed, match="the gripper is stuck"):
            fleet.play({0: np.ones((1, 2)), 1: np.ones((1, 2))})
        assert fleet.reset({0: 1})[0].shape == (2,)  # pipes are still in step
    finally:
        fleet.close()


def test_a_task_that_cannot_be_sent_is_told(tmp_path):
    """Before a run trains for hours and then wants its first evaluation."""

    @fp.register("local_to_a_test")
    @dataclasses.dataclass(frozen=True)
    class Here(PointMassTask):
        pass

    with pytest.raises(InvalidConfig, match="sent to another process"):
        train(tmp_path / "run", task=Here(rows=300), hardware=fp.Hardware(workers=1))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InvalidConfig, match="sent to another process"):
        Workers(lambda: PointMass(), 1, workers=1, most=1, say=pytest.fail)


def test_a_run_with_workers_is_the_run_without(tmp_path):
    """To the bit: agents, rows, evaluations; with and without overlap."""
    alone = train(tmp_path / "alone", **ONLINE)
    for name, hardware in (
        ("overlapped", fp.Hardware(workers=2)),
        ("waiting", fp.Hardware(overlap=False)),
    ):
        other = train(tmp_path / name, hardware=hardware, **ONLINE)
        assert fingerprint(other) == fingerprint(alone)
        for seed in ONLINE["seeds"]:
            (ours,), (theirs,) = (
                sorted((run.path / f"replay/seed-{seed}").iterdir()) for run in (other, alone)
            )
            assert ours.read_bytes() == theirs.read_bytes()
        told = [[r[:8] for r in map(_told, run.evaluations())] for run in (other, alone)]
        assert told[0] == told[1]


def _told(row):
    return row.seed, row.phase, row.step, row.episodes, row.success, row.returns, row.length


def test_a_worker_that_dies_once_costs_its_episode(tmp_path):
    """The event is logged, the rows before it belong to no chunk with those after."""
    killers = deaths(tmp_path, 1)
    run = train(
        tmp_path / "run",
        task=Fragile(str(killers)), hardware=fp.Hardware(workers=1), evaluation=QUIET,
        phases=(fp.Online(24, start_after=100),),
    )  # fmt: skip
    (event,) = lines(run, "lost")
    assert (event["seed"], event["env_steps"]) == (0, 6)
    records, _ = read_metrics(run.path / "metrics.jsonl")
    assert [record["step"] for record in records if "lost" in record] == [6]
    _, meta = run.load()
    # Chunks of two: the death at the seventh step takes the sixth row's follower with it.
    assert meta["cuts"] == [[5]]
    assert meta["env_steps"] == [24]
    assert meta["stepper"]["episodes"] == [1]


@pytest.mark.parametrize("at", [7, 0])
@pytest.mark.parametrize("evaluation", [QUIET, Evaluation(every=8, episodes=1, final_episodes=1)])
def test_a_second_death_ends_the_run_with_a_checkpoint(tmp_path, at, evaluation):
    """Amid a tick, an evaluation or a reset; it can be gone on with, by new processes."""
    killers = deaths(tmp_path, 2)
    with pytest.raises(WorkerFailed, match=r"second time .signal 9.*checkpoint written"):
        train(
            tmp_path / "run",
            task=Fragile(str(killers), at), hardware=fp.Hardware(workers=1),
            evaluation=evaluation, phases=(fp.Online(24, start_after=4),),
        )  # fmt: skip
    run = fp.resume(tmp_path / "run")
    assert run.finished()
    assert run.load()[1]["env_steps"] == [24]


def test_a_second_death_in_an_evaluation_alone_loses_no_updates(tmp_path):
    """An offline run, whose environments only evaluate."""
    killers = deaths(tmp_path, 2)
    with pytest.raises(WorkerFailed, match=r"second time .signal 9.*checkpoint written"):
        train(
            tmp_path / "run",
            task=FragileWithRows(str(killers)), hardware=fp.Hardware(workers=2),
            evaluation=Evaluation(every=10, episodes=2, final_episodes=2),
            phases=(fp.Offline(20),),
        )  # fmt: skip
    assert fp.Run(tmp_path / "run").load()[1]["updates"] == 10


def test_a_death_amid_an_evaluation_begins_the_episode_again(tmp_path):
    """Its result is what it would have been."""
    killers = deaths(tmp_path, 0)
    settings = {"task": Fragile(str(killers)), "phases": (fp.Online(2, start_after=100),)}
    whole = train(tmp_path / "whole", **settings)
    (killers / "one").touch()
    hurt = train(tmp_path / "hurt", hardware=fp.Hardware(workers=2), **settings)
    assert not list(killers.iterdir())
    assert _told(hurt.evaluations()[0]) == _told(whole.evaluations()[0])


@pytest.mark.parametrize("field", ["workers", "seed_devices", "batch_devices"])
def test_hardware_is_checked(field):
    with pytest.raises(InvalidConfig, match=f"{field} >= "):
        fp.Hardware(**{field: -1})
