"""Fixtures of the report's tests."""

from run_folders import frames, make_run

__all__ = ["frames", "make_run"]
