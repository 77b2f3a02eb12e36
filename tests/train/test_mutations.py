"""No file of a run can be damaged unseen: an older checkpoint is taken, or an error says which.

Every kind of file of a run that was killed is damaged in seven ways; what is asked is what
``resume`` begins from. The damaged bytes may be believed in one case alone, that they are of no
consequence: they lie behind what the checkpoint speaks of, where they are cut off, or mean the
same (a blank in a JSON file).
"""

import collections
import json
import random

import crash
import jax
import pytest
from whole_state import fingerprint_of

import flowpolicy as fp
from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.train import checkpoint, resume
from flowpolicy.train.watch import Silent
from fuzz import mutate

JOURNAL, LOGS = "replay/seed-0/rows-000000000004.bin", ("evaluations.csv", "metrics.jsonl")
PARTS = ("state.safetensors", "loop.safetensors", "meta.json", "manifest.json")
KINDS = (*PARTS, JOURNAL, *LOGS, "config.json", "status.json", ".lock")


def remove(rng, data):
    """The file is not there."""


def double(rng, data):
    """The whole file twice."""
    data.extend(bytes(data))


WAYS = (mutate.flip, mutate.zero, mutate.truncate, mutate.delete, mutate.duplicate, remove, double)


def damaged(kind, number, data):
    """The bytes of a case, a function of its kind and number; None for no file."""
    rng, way, found = random.Random(f"{kind} {number}"), WAYS[number % len(WAYS)], bytearray(data)
    way(rng, found)
    return None if way is remove else bytes(found)


class Began(Exception):
    """Thrown where a run would go on."""


class Victim:
    """A run that was killed between two checkpoints, or after its end for ``status.json``."""

    def __init__(self, whole, kind, patch):
        finished = kind == "status.json"
        tree = (
            whole.tree
            if finished
            else whole.moment("mkdir", "checkpoints/.step-000000040", "before")
        )
        crash.write_tree(tree, whole.root)
        self.root, self.tree, self.kind, self._patch = whole.root, tree, kind, patch
        self.newest = checkpoint.checkpoints(whole.root / "checkpoints")[-1]
        self.path = f"checkpoints/{self.newest.name}/{kind}" if kind in PARTS else kind
        self.data, self.meta = tree[self.path], checkpoint.read(self.newest).meta

    def hurt(self, number):
        """Damages the file; returns its bytes, None where it is gone."""
        data = damaged(self.kind, number, self.data)
        left = {path: old for path, old in self.tree.items() if path != self.path}
        crash.write_tree(left if data is None else {**left, self.path: data}, self.root)
        return data

    def begins(self):
        """From which checkpoint resume goes on, "refused", or what it says where it does not."""
        watch = Said()

        def begin(*_, **__):
            raise Began

        with self._patch.context() as here:
            here.setattr(resume, "prepare", begin)
            try:
                fp.resume(self.root, watch=watch)
            except (CorruptFile, MissingData):
                return "refused"
            except Began:
                pass
        return watch.said[-1].rpartition("/")[2]

    def harmless(self, data):
        """Whether damage that was believed is of no consequence."""
        if self.kind == ".lock":
            return True
        if data is None:
            return False
        if self.kind.endswith(".json"):
            return json.loads(data) == json.loads(self.data)
        size = self._cursor()
        return data[:size] == self.data[:size]

    def _cursor(self):
        """Bytes that the newest checkpoint speaks of."""
        if self.kind in LOGS:
            return self.meta["logs"][self.kind]["bytes"]
        if self.kind != JOURNAL:
            return len(self.data)
        (cursor,) = self.meta["journals"]
        (rows,) = (entry["rows"] for entry in cursor if JOURNAL.endswith(entry["file"]))
        return rows * len(self.data) // crash.SEGMENT_ROWS

    def outcome(self, number):
        """What becomes of a case: "older", "refused", "harmless" or "believed"."""
        data = self.hurt(number)
        found = self.begins()
        if found == "refused":
            return found
        if data == self.data or (self.kind == "status.json" and found == self.newest.name):
            return "harmless"  # the run's last evaluation is made again
        if self.kind != "status.json" and found != self.newest.name:
            return "older" if found in self.tree_names() else f"began with {found!r}"
        return "harmless" if self.harmless(data) else "believed"

    def tree_names(self):
        """Names of the checkpoints there were."""
        return {path.split("/")[1] for path in self.tree if path.startswith("checkpoints/")}


class Said(Silent):
    """Remembers what was said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        """Remembers it."""
        self.said.append(text)


@pytest.fixture
def quicker(monkeypatch):
    """The shapes of a configuration that nobody altered are worked out once."""
    shapes, real = {}, jax.eval_shape

    def eval_shape(function, *given, **named):
        if not given and not named and "trained" in function.__qualname__:
            online = bool(function.__closure__[0].cell_contents.meta.get("online"))
            if online not in shapes:
                shapes[online] = real(function)
            return shapes[online]
        return real(function, *given, **named)

    monkeypatch.setattr(jax, "eval_shape", eval_shape)


def counts(whole, kind, patch, cases):
    """How often which outcome."""
    victim = Victim(whole, kind, patch)
    return collections.Counter(victim.outcome(number) for number in range(cases))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_damage(play, monkeypatch, quicker, kind):
    """Each way twice."""
    found = counts(play("online"), kind, monkeypatch, 2 * len(WAYS))
    assert set(found) <= {"older", "refused", "harmless"}, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand(play, monkeypatch, quicker, kind):
    """1 001 cases a kind: 143 of each way."""
    found = counts(play("online"), kind, monkeypatch, 143 * len(WAYS))
    print(f"{kind}: {dict(found)}")
    assert set(found) <= {"older", "refused", "harmless"}, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_the_same(play, monkeypatch, kind):
    """Where a damaged run goes on at all, it ends where it would have ended."""
    whole = play("online")
    victim, ended = Victim(whole, kind, monkeypatch), 0
    for number in range(3 * len(WAYS)):
        victim.hurt(number)
        with whole.held():
            try:
                fp.resume(victim.root)
            except (CorruptFile, MissingData):
                continue
        assert fingerprint_of(fp.Run(victim.root)) == whole.end
        ended += 1
    print(f"{kind}: {ended} of {3 * len(WAYS)} went on")
