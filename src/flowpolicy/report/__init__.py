"""What a run achieved, for people: numbers with their uncertainty, figures, one HTML file.

From a run folder alone: ``runfiles`` reads it, ``progress`` sums it up with ``statistics``,
``figures``, ``diagnostics`` and ``scenes`` draw, ``html`` binds it all into ``report.html``, and
``terminal`` prints the curve. ``rollout`` records an episode of a policy beforehand (``material``).

From several: ``methods`` and ``scores`` say what counts, ``comparison`` has the numbers,
``comparison_html`` writes them. Whatever draws needs matplotlib and is imported where it is called,
so that a machine that only acts need not load it.
"""

from flowpolicy.report.material import FlowPicture, Material, Rollout
from flowpolicy.report.rollout import record_rollout, trace_flow
from flowpolicy.report.runfiles import Evaluation, RunFiles, read_run
from flowpolicy.report.terminal import terminal_curve

__all__ = [
    "Evaluation",
    "FlowPicture",
    "Material",
    "Rollout",
    "RunFiles",
    "read_run",
    "record_rollout",
    "terminal_curve",
    "trace_flow",
]
