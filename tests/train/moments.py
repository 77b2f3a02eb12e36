"""A run that nobody interrupts, and what comes of it where something does."""

import contextlib
import functools

import crash
import pytest
from crash import AtOnce, Repeatable, frozen, points, recover, trace
from whole_state import fingerprint_of, parts_of

import flowpolicy as fp
from flowpolicy.train.updates import Updater


@contextlib.contextmanager
def playing():
    """``play(plan, executor)``: the run that nobody interrupts, played once."""
    with pytest.MonkeyPatch.context() as patch, crash.scratch() as folder:
        yield functools.cache(functools.partial(Uninterrupted, patch, folder))


class Uninterrupted:
    """A run's operations, its end, and what comes of it where it dies on the way."""

    def __init__(self, patch, folder, plan, executor=AtOnce):
        self.plan, self.root, self._patch = plan, folder / "run", patch
        self._repeatable = Repeatable(executor)
        self.updates = 0
        self.operations = self.record({})
        self.tree, self.end = crash.read_tree(self.root), fingerprint_of(fp.Run(self.root))

    def held(self):
        """Within, runs are repeatable."""
        return self._repeatable.hold(self._patch)

    def record(self, tree):
        """The operations from what ``tree`` is to the end."""
        crash.write_tree(tree, self.root)
        with self.held(), self._counted():
            return trace(self._patch, self.root, functools.partial(recover, self.plan, self.root))

    @contextlib.contextmanager
    def _counted(self):
        """Counts calls that make updates."""
        self.updates, real = 0, Updater.update

        def update(*given, **named):
            self.updates += 1
            return real(*given, **named)

        with self._patch.context() as here:
            here.setattr(Updater, "update", update)
            yield

    def end_of(self, tree):
        """Recovers from ``tree``; returns the hash of the end, and the operations."""
        operations = self.record(tree)
        return fingerprint_of(fp.Run(self.root)), operations

    def differs(self, where, tree):
        """A sentence where the end is another one; None where it is the same."""
        found, _ = self.end_of(tree)
        if found == self.end:
            return None
        return f"{self.plan} {where}: {list(parts_of(fp.Run(self.root)))}"

    def moment(self, name, path, when):
        """The tree at the first operation of that name whose path begins with ``path``."""
        for (number, at), tree in points(self.operations, {}):
            kind, where, *_ = self.operations[number]
            if (at, kind) == (when, name) and where.startswith(path):
                return tree
        raise AssertionError(f"no {name} of {path}")


def distinct(operations, tree):
    """The points of a trace, one for every tree that they leave: (where, tree)."""
    found = {}
    for where, left in points(operations, tree):
        found.setdefault(frozen(left), (where, left))
    return list(found.values())
