"""What can go wrong, as types. Every message names the field, the value and what is allowed."""

import difflib
from collections.abc import Iterable


class FlowPolicyError(Exception):
    """Base of every error that flowpolicy raises on purpose."""


class UnknownName(FlowPolicyError, LookupError):
    """A name that is not registered; the message suggests the nearest ones."""


class InvalidConfig(FlowPolicyError, ValueError):
    """A configuration value outside its allowed set."""


class InvalidData(FlowPolicyError, ValueError):
    """Data or an observation with a wrong shape, dtype, range, or a value that is not finite."""


class CorruptFile(FlowPolicyError, ValueError):
    """A file that is truncated, altered, or not what its name says."""


class MissingData(FlowPolicyError, FileNotFoundError):
    """A data set that is not on this machine; the message says which command makes it."""


class MissingExtra(FlowPolicyError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


class StorageFailed(FlowPolicyError, OSError):
    """What a run keeps could not be written: a full or read-only disk. What was there stays."""


class Busy(FlowPolicyError, RuntimeError):
    """Another process writes to this run."""


class Inexact(FlowPolicyError, RuntimeError):
    """A run cannot be continued as if it had never stopped; the message says why."""


class Diverged(FlowPolicyError, ArithmeticError):
    """Losses stopped being finite; the last good checkpoint stays."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Builds the error for an unknown ``name`` of a ``kind``, with the nearest known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    elif len(known) <= 12:
        hint = "known: " + ", ".join(known)
    else:
        hint = f"{len(known)} are known"
    return UnknownName(f"unknown {kind} {name!r}; {hint}")


class WorkerFailed(FlowPolicyError, RuntimeError):
    """A process that steps environments raised an error, or died twice."""
