"""A disk that is full, read-only or broken stops a run cleanly, and nothing that was kept is lost.

The operating system's refusal is raised at one durable operation after another; then there is space
again, and the run goes on to the end that it would have had.
"""

import contextlib
import errno
import os
import subprocess

import crash
import pytest
from crash import AtOnce, Calls, Late, begin, recover
from whole_state import fingerprint_of

import flowpolicy as fp
from flowpolicy.cli.main import main
from flowpolicy.errors import StorageFailed
from flowpolicy.train import checkpoint

GROWING = ("open", "write", "mkdir")
SAMPLE = 8


def refusing(code, number):
    """What ``Calls`` hears to refuse from operation ``number`` on.

    A full disk refuses what needs space, a read-only one everything; an error of the device comes
    once.
    """
    left = iter(range(number))

    def heard(operation):
        if next(left, None) is not None:
            return
        full = code in (errno.ENOSPC, errno.EDQUOT)
        if code == errno.EIO:
            if heard.told:
                return
            heard.told = True
        if not full or operation[0] in GROWING:
            raise OSError(code, os.strerror(code))

    heard.told = False
    return heard


def stops_and_goes_on(whole, patch, code, number):
    """A sentence on what is wrong, or None: stopped, every checkpoint whole, the same end."""
    crash.write_tree({}, whole.root)
    with whole.held(), Calls(whole.root, refusing(code, number)).listen(patch):
        try:
            begin(whole.plan, whole.root)
        except StorageFailed as error:
            if str(whole.root) not in str(error):
                return f"{number}: {error}"
        else:
            # The last operation is the flush after the status has its name.
            return f"{number}: went on" if code != errno.ENOSPC else None
    for folder in ("checkpoints", "best"):
        for path in checkpoint.checkpoints(whole.root / folder):
            checkpoint.read(path)
    with whole.held():
        recover(whole.plan, whole.root)
    return None if fingerprint_of(fp.Run(whole.root)) == whole.end else f"{number}: another end"


def operations_that_need_space(whole):
    """Numbers of the operations that a full disk refuses."""
    return [i for i, (name, *_) in enumerate(whole.operations) if name in GROWING]


@pytest.mark.parametrize("code", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow)])
def test_a_disk_that_refuses(play, monkeypatch, code):
    """A sample of the operations that need space, by a full disk and by one error alone."""
    whole = play("online")
    numbers = operations_that_need_space(whole)
    chosen = numbers[3 :: -(-len(numbers) // SAMPLE)]
    wrong = [stops_and_goes_on(whole, monkeypatch, code, n) for n in chosen]
    assert [w for w in wrong if w] == []


def test_the_command_ends_with_74(play, monkeypatch, capsys):
    """As sysexits.h says of an input or output error; the message names file and reason."""
    whole = play("online")
    run = fp.Run(whole.root)
    crash.write_tree(whole.moment("replace", "checkpoints/.step-000000040", "before"), run.path)
    with whole.held(), Calls(run.path, refusing(errno.ENOSPC, 20)).listen(monkeypatch):
        assert main(["resume", str(run.path), "--quiet"]) == 74
    said = " ".join(capsys.readouterr().err.split())
    assert "the disk is full" in said
    assert "what was there before stays" in said
    with whole.held():
        assert main(["resume", str(run.path), "--quiet"]) == 0
    assert fingerprint_of(run) == whole.end


@pytest.mark.slow
@pytest.mark.parametrize("executor", [AtOnce, Late])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_every_operation_refused(play, monkeypatch, code, executor):
    """Each in turn by a full disk, every fourth by the rest: they differ in what is said."""
    whole = play("online", executor)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    numbers = operations_that_need_space(whole) if full else range(len(whole.operations))
    numbers = numbers if code == errno.ENOSPC else numbers[::4]
    wrong = [stops_and_goes_on(whole, monkeypatch, code, n) for n in numbers]
    print(f"{errno.errorcode[code]}, {executor.__name__}: {len(numbers)} operations refused")
    assert [w for w in wrong if w] == []


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of its own at ``folder``; skips where this user may not mount."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"only a user who may mount can run this: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(play, tmp_path):
    """2 MiB, of which something else takes all but 72 KiB until it is removed."""
    whole = play("online")
    with small_disk(tmp_path / "disk", "2m"), whole.held():
        ballast, out = tmp_path / "disk" / "ballast", tmp_path / "disk" / "r"
        ballast.write_bytes(bytes(2 * 2**20 - 72 * 2**10))
        with pytest.raises(StorageFailed, match="the disk is full"):
            begin(whole.plan, out)
        kept = checkpoint.checkpoints(out / "checkpoints")
        assert kept
        for path in kept:
            checkpoint.read(path)
        assert main(["resume", str(out), "--quiet"]) == 74
        ballast.unlink()
        assert main(["resume", str(out), "--quiet"]) == 0
        assert fingerprint_of(fp.Run(out)) == whole.end
