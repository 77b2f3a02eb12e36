"""Named runs and the tasks they are made of."""

from flowpolicy.runs.registry import NamedRun, add, get, names
from flowpolicy.runs.tasks import OGBench, PointMassTask

__all__ = ["NamedRun", "OGBench", "PointMassTask", "add", "get", "names"]
