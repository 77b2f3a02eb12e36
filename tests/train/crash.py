"""Every moment at which a run can die, as what the disk holds then.

A run's durable operations are recorded; what the disk holds after a kill is what the first k of
them made, and half of a write for good measure. A kill needs no process to die: ``test_crash``
shows that a folder made this way is, byte by byte, that of a process that SIGKILL ended.

The writing thread is replaced by one that writes at once, or as late as it may, so that the order
of operations is one of two extremes and not a matter of luck. The clock stands still, so that two
runs that compute the same write the same bytes.
"""

import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import types
from concurrent.futures import Future
from pathlib import Path

import jax
import pytest
from small_runs import TINY, train

import flowpolicy as fp
from flowpolicy.agents import QC
from flowpolicy.nets import MLPCritic, MLPVelocity
from flowpolicy.refine import BestOfN, OneStep
from flowpolicy.train import clock, evaluate, journal, keeper, learner
from flowpolicy.train.phases import Evaluation

ONLINE = {
    **TINY,
    "phases": (fp.Offline(20), fp.Online(30, start_after=7)),
    "evaluation": Evaluation(every=10, episodes=1, final_episodes=2, side_by_side=2),
    "checkpoint_every": 10,
    "capacity": 20,
}
VELOCITY = MLPVelocity(width=8, depth=1)
QC_TINY = QC(
    chunk=2, actor=VELOCITY, critic=MLPCritic(width=8, depth=1),
    act=OneStep(), bootstrap=BestOfN(2),
)  # fmt: skip
AGENT = ("chunk", "terms", "actor", "critic", "act", "bootstrap")
PLANS = {
    "offline": {**ONLINE, "phases": (fp.Offline(40),)},
    "online": ONLINE,
    "qc": {**{k: v for k, v in ONLINE.items() if k not in AGENT}, "agent": QC_TINY},
}
"""FMQ offline; FMQ, and QC, offline and then online in chunks of 2 with a ring that wraps."""

SEGMENT_ROWS = 4
PID = 4242


def begin(plan, out):
    """The run from its beginning."""
    return train_qc(out) if plan == "qc" else train(out, **PLANS[plan])


def train_qc(out):
    """QC's run, whose agent is another one than that of the small runs."""
    return fp.train("toy/fmq", out=out, **PLANS["qc"])


def recover(plan, out):
    """What a user does after a kill: resume, or train again where no run had begun."""
    return fp.resume(out) if (out / "config.json").exists() else begin(plan, out)


@contextlib.contextmanager
def scratch():
    """A folder for runs, in memory where that is possible: nothing here is about a disk's speed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class AtOnce:
    """An executor that has done what it is given before it says so."""

    def __init__(self, *_):
        pass

    def submit(self, work):
        future = Future()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_):
        pass


class Late(AtOnce):
    """An executor that begins when somebody waits for it."""

    def __init__(self, *_):
        self._last = None

    def submit(self, work):
        self._last = Waited(functools.partial(super().submit, work))
        return self._last

    def shutdown(self, **_):
        if self._last is not None:
            self._last.begin()


class Waited:
    """What ``Late`` gives."""

    def __init__(self, begin):
        self._begin, self._future = begin, None

    def begin(self):
        self._future = self._future or self._begin()
        return self._future

    def done(self):
        return self._future is not None

    def result(self):
        return self.begin().result()


class Repeatable:
    """Holds for runs in this process: one order of operations, no clock, programs compiled once."""

    def __init__(self, executor=AtOnce):
        self._executor, self._programs, self._jit = executor, {}, jax.jit

    def jit(self, function, **options):
        """The program of the same name, if there is one: all runs here are of one plan."""
        name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        if not name[0].startswith("flowpolicy.train"):
            return self._jit(function, **options)
        if name not in self._programs:
            self._programs[name] = self._jit(function, **options)
        return self._programs[name]

    @contextlib.contextmanager
    def hold(self, patch):
        """``patch`` is a monkeypatch's context."""
        still = types.SimpleNamespace(perf_counter=lambda: 0.0)
        executors = types.SimpleNamespace(ThreadPoolExecutor=self._executor, Future=Future)
        with patch.context() as here:
            for module in (learner, clock, evaluate):
                here.setattr(module, "time", still)
            here.setattr(keeper, "concurrent", types.SimpleNamespace(futures=executors))
            here.setattr(journal, "SEGMENT_ROWS", SEGMENT_ROWS, raising=False)
            here.setattr(journal, "SEGMENT_BYTES", 1)
            here.setattr(os, "getpid", lambda: PID)
            here.setattr(jax, "jit", self.jit)
            yield


class Calls:
    """Hears of every durable operation below a folder, just before it is made."""

    NAMES = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "rmdir", "mkdir")

    def __init__(self, root, heard):
        """``heard`` is called with an operation: its name, its path below ``root``, the rest. If it
        returns a function, that is called amid a write.
        """
        self._root, self._heard, self._paths = str(root), heard, {}

    @contextlib.contextmanager
    def listen(self, patch):
        """Until the block ends."""
        real = {name: getattr(os, name) for name in (*self.NAMES, "close")}
        with patch.context() as here:
            for name in real:
                here.setattr(os, name, functools.partial(getattr(self, f"_{name}"), real[name]))
            yield

    def _below(self, path):
        path = os.fspath(path) if not isinstance(path, int) else self._paths.get(path, "")
        inside = isinstance(path, str) and (path + "/").startswith(self._root + "/")
        return path[len(self._root) :].strip("/") if inside else None

    def _tell(self, name, path, *rest):
        below = self._below(path)
        return None if below is None else self._heard((name, below, *rest))

    def _open(self, real, path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._tell("open", path, bool(flags & os.O_TRUNC))
        handle = real(path, flags, *more, **named)
        self._paths[handle] = os.fspath(path)
        return handle

    def _close(self, real, handle):
        self._paths.pop(handle, None)
        real(handle)

    def _write(self, real, handle, data):
        amid = self._tell("write", handle, bytes(data))
        if amid is not None:
            real(handle, bytes(data)[: len(data) // 2])
            amid()
        return real(handle, data)

    def _fsync(self, real, handle):
        self._tell("fsync", handle)

    def _ftruncate(self, real, handle, size):
        self._tell("ftruncate", handle, size)
        real(handle, size)

    def _replace(self, real, old, new):
        self._tell("replace", old, self._below(new))
        real(old, new)

    def _unlink(self, real, path, **named):
        self._tell("unlink", path)
        real(path, **named)

    def _rmdir(self, real, path, **named):
        self._tell("rmdir", path)
        real(path, **named)

    def _mkdir(self, real, path, *more, **named):
        self._tell("mkdir", path)
        real(path, *more, **named)


def kill_at(number, when):
    """What ``Calls`` hears to end this process at a point; "after" is before the next one."""
    number, when = (number + 1, "before") if when == "after" else (number, when)
    left = iter(range(number))

    def heard(_):
        if next(left, None) is not None:
            return None
        kill = functools.partial(signal.raise_signal, signal.SIGKILL)
        return kill if when == "amid" else kill()

    return heard


def trace(patch, root, action):
    """The durable operations below ``root`` while ``action`` runs, in order."""
    found = []
    with Calls(root, found.append).listen(patch):
        action()
    return found


def after(tree, operation):
    """What the disk holds after an operation; a tree maps a path to bytes, or None for a folder."""
    name, path, *rest = operation
    tree = dict(tree)
    if name == "open" and (rest[0] or path not in tree):
        tree[path] = b""
    elif name == "write":
        tree[path] += rest[0]
    elif name == "ftruncate":
        tree[path] = tree[path][: rest[0]]
    elif name == "replace":
        below = {p: tree.pop(p) for p in list(tree) if (p + "/").startswith(path + "/")}
        tree |= {rest[0] + p[len(path) :]: data for p, data in below.items()}
    elif name in ("unlink", "rmdir"):
        del tree[path]
    elif name == "mkdir" and path:
        tree.setdefault(path, None)
    return tree


def points(operations, tree):
    """Every moment a process can die at: ((number, when), what the disk holds), in order.

    "before" and "after" each operation, and "amid" each write, of which half is there then.
    """
    for number, operation in enumerate(operations):
        yield (number, "before"), tree
        name, path, *rest = operation
        if name == "write":
            yield (number, "amid"), after(tree, (name, path, rest[0][: len(rest[0]) // 2]))
        tree = after(tree, operation)
        yield (number, "after"), tree


def read_tree(root):
    """The tree that lies at ``root``."""
    paths = sorted(root.rglob("*"))
    return {str(p.relative_to(root)): None if p.is_dir() else p.read_bytes() for p in paths}


def write_tree(tree, root):
    """Makes ``root`` hold ``tree`` and nothing else."""
    shutil.rmtree(root, ignore_errors=True)
    if not tree:
        return
    root.mkdir(parents=True)
    for path in sorted(tree):
        if tree[path] is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(tree[path])


def frozen(tree):
    """A tree as something to tell trees apart by."""
    return tuple(sorted(tree.items()))


def main(plan, out, number, when):
    """A run, or what resumes it, in this process, which ends at a point."""
    with pytest.MonkeyPatch.context() as patch, Repeatable().hold(patch):
        jax.config.update("jax_disable_most_optimizations", True)
        with Calls(out, kill_at(int(number), when)).listen(patch):
            recover(plan, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
