"""The command line: ``flowpolicy train|list|evaluate|report|data|demo``."""

from flowpolicy.cli.main import main

__all__ = ["main"]
