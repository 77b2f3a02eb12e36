"""SWFP and Decision Flow on the papers' tasks: rebuilt from abstracts, beside the comparisons.

The protocols are those of ``paper`` and ``mini``, the numbers of the methods our own. None of these
runs stands in a table that compares papers.
"""

from flowpolicy.agents.reconstructed.decision_flow import DecisionFlow, direction_reward
from flowpolicy.agents.reconstructed.swfp import SWFP, end_to_end
from flowpolicy.runs import registry
from flowpolicy.runs.methods import Method, everywhere
from flowpolicy.runs.mini import mini_run
from flowpolicy.runs.paper import TASKS, paper_run

METHODS = (
    Method(
        "swfp", "SWFP, rebuilt from its abstract: a flow tuned block by block", everywhere(SWFP())
    ),
    Method(
        "swfp-end-to-end", "control: SWFP's blocks tuned by back-propagation through all",
        everywhere(SWFP(improve=end_to_end)),
    ),
    Method(
        "decision-flow", "Decision Flow, rebuilt from its abstract: divergence-oriented",
        everywhere(DecisionFlow()),
    ),
    Method(
        "decision-flow-direction", "Decision Flow, rebuilt from its abstract: direction-oriented",
        everywhere(DecisionFlow(reward=direction_reward)),
    ),
)  # fmt: skip


def register() -> None:
    """Every method on every task, at the papers' size and small."""
    for method in METHODS:
        registry.add_family(
            method.name, method.summary, TASKS, lambda task, method=method: paper_run(method, task)
        )
        registry.add_family(
            f"mini/{method.name}", f"small: {method.summary}", TASKS,
            lambda task, method=method: mini_run(method, task),
        )  # fmt: skip
