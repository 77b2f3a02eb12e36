"""What a kill costs at most: ``checkpoint_every`` updates, however slow the disk is."""

import threading

import pytest
from small_runs import train

import flowpolicy as fp
from flowpolicy.train import checkpoint
from flowpolicy.train.keeper import Keeper
from flowpolicy.train.learner import Learner
from flowpolicy.train.phases import RunConfig

EVERY = 40
PHASES = {
    "offline": (fp.Offline(200),),
    "online": (fp.Online(200, start_after=0),),
}


@pytest.fixture
def slow_disk(monkeypatch):
    """No checkpoint is there before training waits for it; returns what a kill would have cost.

    The writer stands still until ``Keeper.wait`` is called, so that without that call no more than
    the next save would ever end it.
    """
    waiting, lost = threading.Event(), []
    made, durable = [0], [0]
    save, wait, update = checkpoint.save, Keeper.wait, Learner.update

    def slow(path, contents, *, keep):
        assert waiting.wait(60)
        save(path, contents, keep=keep)
        durable[0] = contents.meta["updates"]
        waiting.clear()

    def told(self):
        if self._pending is not None:
            waiting.set()
        wait(self)

    def counted(self, rings, count, alive=None):
        metrics = update(self, rings, count, alive)
        made[0] = self.updates
        lost.append(made[0] - durable[0])
        return metrics

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(Keeper, "wait", told)
    monkeypatch.setattr(Learner, "update", counted)
    return lost


@pytest.mark.parametrize("kind", PHASES)
def test_a_kill_costs_at_most_an_interval(tmp_path, slow_disk, kind):
    """Updates that are dispatched and not yet on the disk, with a disk that is as slow as it may
    be: the whole interval is used, and never more."""
    train(tmp_path / "r", phases=PHASES[kind], checkpoint_every=EVERY, block=4)
    assert max(slow_disk) == EVERY


def test_checkpoints_are_begun_before_the_interval_is_over():
    """So that one can be written beside training; the default leaves 2 500 updates for that."""
    assert RunConfig(agent=None).spacing == 47_500
    assert RunConfig(agent=None, checkpoint_every=10).spacing == 10
