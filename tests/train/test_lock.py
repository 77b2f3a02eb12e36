"""One process a run, however the one before ended."""

import signal
import subprocess
import sys

import pytest
from small_runs import OFFLINE, QUIET, train

import flowpolicy as fp
from flowpolicy.errors import Busy

HOLDER = """
import sys
from pathlib import Path
from flowpolicy.train.lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    """By a process of its own, whose number is told; SIGKILL gives the run back."""
    run = train(tmp_path / "r", phases=OFFLINE, evaluation=QUIET)
    (run.path / "status.json").unlink()
    words = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"number {holder.pid}"):
            fp.resume(run)
        with pytest.raises(Busy, match=f"number {holder.pid}"):
            train(run.path, phases=OFFLINE, evaluation=QUIET)
        holder.send_signal(signal.SIGKILL)
    assert fp.resume(run).status()["state"] == "finished"
