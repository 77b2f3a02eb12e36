"""What a run compiles, and what a tick dispatches."""

import collections
import contextlib
import logging
import re

import jax
import numpy as np
import pytest
from small_runs import QUIET, TINY, train

import flowpolicy as fp
from flowpolicy.train.attempts import resume
from flowpolicy.train.online import Explorer, Ticker
from flowpolicy.train.phases import Evaluation
from flowpolicy.train.stop import Stopped
from flowpolicy.train.updates import Updater

PHASES = (fp.Offline(20), fp.Online(40, start_after=4))
OFTEN = {"phases": PHASES, "evaluation": Evaluation(every=10, episodes=2, final_episodes=2)}
PROGRAMS = ("_block", "call", "alone", "_insert_rows", "_cut_rings")
"""Of this library: blocks of updates, the collecting policy, that of evaluations, rings."""


class Compiled(logging.Handler):
    """The programs that JAX says it compiles, in order."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if found := re.match(r"Compiling jit\((\w+)\)", record.getMessage()):
            self.names.append(found[1])

    def of_ours(self):
        return {k: n for k, n in collections.Counter(self.names).items() if k in PROGRAMS}


@contextlib.contextmanager
def listening():
    handler, logger = Compiled(), logging.getLogger("jax")
    before, through = jax.config.jax_log_compiles, logger.propagate
    jax.config.update("jax_log_compiles", True)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = through
        jax.config.update("jax_log_compiles", before)


def test_every_program_is_compiled_once(tmp_path):
    """Offline and online blocks, one policy that collects, one that is evaluated in each phase
    (online agents hold a frozen map more), one insertion; none a second time."""
    with listening() as compiled:
        train(tmp_path / "r", **OFTEN)
    assert compiled.of_ours() == {"_block": 2, "call": 1, "alone": 2, "_insert_rows": 1}


def test_further_online_phases_compile_no_policy_again(tmp_path):
    """Several seeds, two online phases with an offline one between them."""
    phases = (fp.Online(16, start_after=4), fp.Offline(10), fp.Online(12, start_after=4))
    with listening() as compiled:
        train(tmp_path / "r", phases=phases, evaluation=QUIET, seeds=(1, 2))
    # Blocks of a tick offline and online alike, of ten, and evaluations of none.
    assert compiled.of_ours() == {"_block": 2, "call": 1, "_insert_rows": 1}


def test_going_on_compiles_the_current_phase_alone(tmp_path, monkeypatch):
    """A run that stands amid its online phase needs no offline program."""
    made = Updater.update
    calls = []

    def update(self, *arguments, **options):
        calls.append(options["count"])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return made(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Updater, "update", update)
        with pytest.raises((KeyboardInterrupt, Stopped)):
            train(tmp_path / "r", **OFTEN, checkpoint_every=2)
    with listening() as compiled:
        assert resume(tmp_path / "r", TINY["task"], TINY["task"].dataset()).finished()
    assert compiled.of_ours() == {"_block": 1, "call": 1, "alone": 1, "_insert_rows": 1}


def test_a_tick_dispatches_three_programs(tmp_path, monkeypatch):
    """One policy call for all seeds, one block of updates, one insertion of rows."""
    counts = collections.Counter()
    for owner, name in ((Updater, "update"), (Updater, "insert"), (Explorer, "__call__")):

        def counted(self, *arguments, made=getattr(owner, name), name=name, **options):
            counts[name] += 1
            return made(self, *arguments, **options)

        monkeypatch.setattr(owner, name, counted)
    run = train(
        tmp_path / "r", seeds=(1, 2, 3), phases=(fp.Online(20, start_after=0),),
        evaluation=Evaluation(every=0, final_episodes=0),
    )  # fmt: skip
    ticks = max(run.load()[1]["stepper"]["ticks"])
    # Before the first row there is nothing to learn from.
    assert counts == {"__call__": ticks, "insert": ticks, "update": ticks - 1}


def test_a_tick_reads_two_arrays_from_the_device(tmp_path, monkeypatch):
    """The chunks of all seeds, and what the guards say of the updates before."""
    reads, within = [], []
    made, tick = np.asarray, Ticker.__call__

    def counted(x, *arguments, **options):
        if within and isinstance(x, jax.Array):
            reads.append(x.shape)
        return made(x, *arguments, **options)

    def ticking(self, number):
        within.append(True)
        try:
            return tick(self, number)
        finally:
            within.clear()

    monkeypatch.setattr(np, "asarray", counted)
    monkeypatch.setattr(Ticker, "__call__", ticking)
    run = train(
        tmp_path / "r", seeds=(1, 2, 3), phases=(fp.Online(20, start_after=0),),
        evaluation=Evaluation(every=0, final_episodes=0), block=1_000,
    )  # fmt: skip
    ticks = max(run.load()[1]["stepper"]["ticks"])
    chunk = TINY["chunk"]
    # The updates of a tick are looked at in the next one, and the first has none.
    assert collections.Counter(reads) == {(3, 2 * chunk): ticks, (3, chunk): ticks - 2}
