"""Agents as in ``tests/agents``, runs as in ``tests/train``; much is compiled."""

import sys
from pathlib import Path

for folder in ("agents", "train"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
