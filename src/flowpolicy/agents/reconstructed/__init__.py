"""Methods whose papers we could not read in full, rebuilt from abstracts; labelled as such.

Each file says what is the paper's and what is ours. They stay out of tables that compare papers.
"""

from flowpolicy.agents.reconstructed.decision_flow import DecisionFlow
from flowpolicy.agents.reconstructed.swfp import SWFP

__all__ = ["SWFP", "DecisionFlow"]
